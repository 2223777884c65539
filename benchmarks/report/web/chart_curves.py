"""Charts over time: columns over a series' epochs, losses of detectors and pretraining over their steps. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import RunRecord, files_of, store_of
from benchmarks.report.cells import Cell
from benchmarks.report.web import vega
from benchmarks.report.web.board import KINDS, Column
from benchmarks.report.web.charts import PANELS, Chart, Grid, Section, over, point, rounded, titled, unit
from benchmarks.series import POINT
from pretrain.common.errors import printable

LINES = 8  # of a picture
POINTS = 60  # of a line of losses
LARGEST = 2**24  # bytes of a file of losses that is read
SERIES = "Each column over the epochs of a pretraining run, whose checkpoints the rows NAME @EPOCH are."
DETECTORS = (
    "The sum of a detector's losses, of the first run of each row; as detectron2 logs it, the median of 20 iterations. "
    "A lower loss is no better detector."
)
PRETRAINING = "The pretraining loss of each run of a row. Losses of different methods are of different units."


def series_sections(grid: Grid) -> list[Section]:
    """A picture of each column, with a line per series."""
    rows = [row.label for row in grid.board.rows if POINT.fullmatch(row.label)]
    names = list(dict.fromkeys(found[1] for row in rows if (found := POINT.fullmatch(row))))
    there = [column for column in grid.board.columns if any(grid.of(row, column) for row in rows)]
    charts = [_series(grid, column, rows, names[:LINES]) for column in there[:PANELS]]
    left = [f"The first {LINES} of {len(names)} series."] if len(names) > LINES else []
    left += [f"The first {PANELS} of {len(there)} columns."] if len(there) > PANELS else []
    return [Section(title="Series", about=" ".join([SERIES, *left]), charts=charts)] if charts else []


def _series(grid: Grid, column: Column, rows: Sequence[str], names: Sequence[str]) -> Chart:
    cells: dict[tuple[str, int], Cell] = {}
    for row in rows:
        found, cell = POINT.fullmatch(row), grid.of(row, column)
        if found and cell and found[1] in names:
            cells[found[1], int(found[2])] = cell
    values = []
    for name, epoch in sorted(cells, key=lambda key: (names.index(key[0]), key[1])):
        made = point(grid.board, cells[name, epoch])
        values.append({**made, "row": name, "epoch": epoch, "value": made.pop("mean")})
    return Chart(
        title=titled(column),
        caption=over(grid.board, cells.values()),
        spec=vega.lines(values, ("epoch", "pretraining epoch"), ("value", unit(column)), zero=False),
        columns={"row": "series", "epoch": "epoch", "value": unit(column), "low": "95 % from", "high": "to", "n": "n"},
    )


def training_sections(grid: Grid) -> list[Section]:
    """Losses of detectors, and of this project's pretraining runs where their folders are still here."""
    found = [
        Section(title="Training of the detectors", about=DETECTORS, charts=_detectors(grid)),
        Section(title="Pretraining", about=PRETRAINING, charts=_pretraining(grid)),
    ]
    return [section for section in found if section.charts]


def _detectors(grid: Grid) -> list[Chart]:
    charts = []
    columns = [column for column in grid.board.columns if column.kind == KINDS["detection"]]
    for heading in list(dict.fromkeys(column.heading for column in columns))[:PANELS]:
        values: list[dict[str, Any]] = []
        metrics = [column for column in columns if column.heading == heading]
        drawn = 0
        for row in grid.rows:
            cell = next(filter(None, (grid.of(row, column) for column in metrics)), None)
            first = min(cell.records, key=lambda record: (record.label, record.spec.seed)) if cell else None
            done = store_of(first).done(first.spec) if first and drawn < LINES else None
            line = losses(files_of(done[1]) / "metrics.json", "iteration", "total_loss") if done else []
            values += [{"row": row, "step": step, "value": value} for step, value in line]
            drawn += bool(line)
        if values:
            charts.append(_losses(heading, values, "iteration", f"The first {LINES} rows at most." * (drawn == LINES)))
    return charts


def _pretraining(grid: Grid) -> list[Chart]:
    charts: list[Chart] = []
    for row in grid.rows:
        records: dict[str, RunRecord] = {}
        for (label, _, _), cell in grid.cells.items():
            if label == row:
                records |= {str(folder): record for record in cell.records if (folder := _folder(record))}
        several = sorted(records.items(), key=lambda pair: (pair[1].label, pair[0]))[:LINES]
        names = [printable(record.label) for _, record in several]
        values: list[dict[str, Any]] = []
        for name, (place, _) in zip(names, several, strict=True):
            line = losses(Path(place) / "metrics.jsonl", "step", "loss")
            values += [{"row": name, "step": step, "value": value} for step, value in line]
        if values and len(charts) < PANELS:
            left = f"The first {LINES} of {len(records)} runs." if len(records) > LINES else ""
            charts.append(_losses(row, values, "step", left))
    return charts


def _folder(record: RunRecord) -> Path | None:
    """The folder of this project's pretraining run that the record's checkpoint is of."""
    about = record.checkpoint or {}
    return Path(str(about["path"])).parent if about.get("family") == "superinfo" and about.get("path") else None


def _losses(title: str, values: Sequence[vega.Row], steps: str, left: str) -> Chart:
    words = f"Each point is the mean of the logged losses in one of at most {POINTS} parts of the run. {left}"
    return Chart(
        title=title,
        caption=words.strip(),
        spec=vega.lines(values, ("step", steps), ("value", "loss"), zero=False, points=False),
        columns={"row": "run", "step": steps, "value": "loss"},
    )


def losses(path: Path, steps: str, key: str) -> list[tuple[float, float]]:
    """(step, loss) of at most POINTS parts of a file of JSON lines, each the mean of its part; [] for what cannot be
    read, or has fewer than two numbers."""
    try:
        if path.stat().st_size > LARGEST:
            return []
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if key in line]
        found = np.array([[float(line[steps]), float(line[key])] for line in lines if key in line and steps in line])
    except (OSError, ValueError, TypeError, KeyError):
        return []
    found = found[np.isfinite(found).all(1)] if len(found) else found
    if len(found) < 2:
        return []
    parts = [part.mean(0) for part in np.array_split(found, min(POINTS, len(found)))]
    return [(round(float(step), 1), rounded(value) or 0.0) for step, value in parts if math.isfinite(value)]
