"""Charts of detectors, from the matches that runs keep: AP of each class and object size, precision over recall.

Numbers are means over a row's runs, of a pretraining run first over its seeds, as in the leaderboard. Intervals are
over seeds or runs alone: the draws of test images would take minutes. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import files_of, store_of
from benchmarks.report.cells import Cell
from benchmarks.report.text import shortened
from benchmarks.report.web import vega
from benchmarks.report.web.board import KINDS
from benchmarks.report.web.charts import PANELS, Chart, Grid, Section, over_levels, rounded
from benchmarks.report.web.pair_classes import LARGEST
from benchmarks.statistics.average_precision import WeightedAP
from benchmarks.statistics.paired import mean_error
from benchmarks.statistics.scored import side_of
from pretrain.common.errors import InputError, printable
from transfer.detection.evaluation.matches import Matches, load_matches

FILES = 400  # that are read for a page
CLASSES, NAME = 30, 18  # of a picture; characters
LINES = 8  # of a picture: as many as there are colours and dashes
SIZES = ("small", "medium", "large")
OBJECTS = {"bbox": "boxes", "segm": "masks"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one run's boxes or masks, in percent: ``classes`` (C,) AP, NaN without an object, ``sizes`` AP by object size,
    ``curve`` (R,) the mean over classes of the precision at ``recalls`` and IoU 0.5."""

    names: tuple[str, ...]
    classes: np.ndarray
    sizes: Mapping[str, float]
    recalls: np.ndarray
    curve: np.ndarray


def measured(matches: Matches) -> Measured:
    """The numbers of the matches of one run."""
    ones = np.ones(len(matches.ids), dtype=np.int64)
    sizes = {}
    for size in SIZES:
        if size in matches.areas:
            table = 100 * WeightedAP(matches, matches.areas.index(size))(ones)
            known = table[~np.isnan(table)]
            sizes[size] = float(known.mean()) if known.size else math.nan
    recalls = np.linspace(0, 1, 21) if matches.rule == "coco" else np.linspace(0, 1, 11)
    at = int(np.argmin(abs(matches.thresholds - 0.5)))
    counted = [number for number in range(len(matches.classes)) if matches.objects(number)]
    curves = [precision_at(recalls, *matches.curve(number, at)) for number in counted]
    return Measured(
        names=matches.classes,
        classes=100 * WeightedAP(matches)(ones).mean(1),
        sizes=sizes,
        recalls=recalls,
        curve=100 * np.mean(curves, axis=0) if curves else np.full(len(recalls), np.nan),
    )


def precision_at(recalls: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The highest precision at each of ``recalls`` or beyond, 0 where it is not reached: as AP interpolates."""
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # A recall of the list may lie a rounding error above the one that was reached.
    return np.asarray(highest[np.searchsorted(recall, recalls - 1e-9, side="left")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detected:
    """A column's runs that kept matches of one kind, by row: the cell with those runs alone, and what they measured."""

    title: str
    objects: str
    rows: Mapping[str, tuple[Cell, Sequence[Measured]]]


class Reader:
    """Reads at most FILES files, each once; ``left`` counts the others."""

    def __init__(self) -> None:
        self.read = self.left = 0

    def of(self, path: Path) -> Measured | None:
        """None for a file that is absent, damaged, too large or one too many."""
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        if self.read >= FILES:
            self.left += 1
            return None
        self.read += 1
        try:
            return measured(load_matches(path))
        except (InputError, ValueError, IndexError, TypeError):  # of a damaged file
            return None


def detected(grid: Grid, reader: Reader) -> list[Detected]:
    """The detectors' columns, boxes and masks apart; a row is left out where one of its runs has no matches."""
    found = []
    columns = [column for column in grid.board.columns if column.kind == KINDS["detection"]]
    for heading in dict.fromkeys(column.heading for column in columns):
        paths = {}
        metrics = [column for column in columns if column.heading == heading]
        for row in grid.rows:
            if cell := next(filter(None, (grid.of(row, column) for column in metrics)), None):
                runs = [store_of(record).done(record.spec) for record in cell.records]
                if all(runs):
                    paths[row] = cell, [files_of(run[1]) for run in runs if run]
        for kind, objects in OBJECTS.items():
            rows = {}
            for row, (cell, folders) in paths.items():
                several = [reader.of(folder / f"matches-{kind}.npz") for folder in folders]
                if all(several):
                    rows[row] = cell, [one for one in several if one]
            names = {one.names for _, several in rows.values() for one in several}
            if len(names) == 1:
                found.append(Detected(title=heading, objects=objects, rows=rows))
    return found


def mean(cell: Cell, values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of an array of each of the cell's runs: over pretraining runs, of each the mean over its seeds."""
    groups: dict[object, list[np.ndarray]] = {}
    for record, one in zip(cell.records, values, strict=True):
        groups.setdefault((record.spec.checkpoint_sha256, record.spec.input), []).append(one)
    return np.asarray(np.mean([np.mean(several, axis=0) for several in groups.values()], axis=0))


def interval(cell: Cell, values: Sequence[float]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Mean of a number of each of the cell's runs with its 95 % interval, and over what: seeds or runs."""
    pairs = zip(cell.records, values, strict=True)
    records = [dataclasses.replace(record, metrics={"one": value}) for record, value in pairs]
    side = side_of(records, [{}] * len(records), "one")
    error, levels = mean_error(side)
    width = error.width(0.95) if error is not None else math.nan
    low, high = rounded(side.mean - width), rounded(side.mean + width)
    return {"value": rounded(side.mean), "low": low, "high": high}, levels


def detector_sections(grid: Grid) -> list[Section]:
    """AP of each class, AP by size, precision over recall."""
    reader = Reader()
    found = detected(grid, reader)
    about = f" {reader.left} files of matches are left out: a page reads {FILES}." if reader.left else ""
    kinds: list[tuple[str, str, Callable[[Detected], Chart | None]]] = [
        ("AP of each class", "Means over a row's runs, in percent.", classes_chart),
        ("AP by object size", "By the area of the object; its classes' mean, where they have objects.", sizes_chart),
        ("Precision over recall", "At IoU 0.5, the mean over classes and a row's runs.", curve_chart),
    ]
    sections = []
    for title, words, chart in kinds:
        charts = [made for one in found[:PANELS] if (made := chart(one))]
        if charts:
            sections.append(
                Section(title=title, about=" ".join(filter(None, (words, grid.said()))) + about, charts=charts)
            )
    return sections


def classes_chart(one: Detected) -> Chart | None:
    """Rows by classes, the best class first; of many those in which the rows differ most."""
    names = next(iter(one.rows.values()))[1][0].names
    short = shortened([printable(" ".join(name.split())) for name in names], NAME)
    means = {row: mean(cell, [run.classes for run in runs]) for row, (cell, runs) in one.rows.items()}
    table = np.stack(list(means.values()))
    known = [c for c in range(len(names)) if not np.isnan(table[:, c]).all()]
    if not known:
        return None
    spread = {c: float(np.nanmax(table[:, c]) - np.nanmin(table[:, c])) for c in known}
    shown = sorted(known, key=lambda c: -spread[c])[:CLASSES]
    shown.sort(key=lambda c: -float(np.nanmean(table[:, c])))
    values = [{"row": row, "class": short[c], "value": rounded(line[c])} for row, line in means.items() for c in shown]
    left = (
        f" {len(shown)} of {len(known)} classes, those in which the rows differ most." if len(known) > CLASSES else ""
    )
    return Chart(
        title=f"{one.title}, AP of {one.objects}",
        caption=f"Classes by their mean AP, {runs_in_words(one)}.{left}",
        spec=vega.squares(values, "class", "AP (%)", order=[short[c] for c in shown]),
        columns={"row": "checkpoint", "class": "class", "value": "AP (%)"},
        wide=True,
    )


def runs_in_words(one: Detected) -> str:
    """``mean over 3 runs of each row``."""
    counts = sorted({len(runs) for _, runs in one.rows.values()})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean over {number} run{'s' * (counts[-1] > 1)} of each row"


def sizes_chart(one: Detected) -> Chart | None:
    """A point per row and size with its interval; None where the evaluation has no sizes."""
    values: list[dict[str, Any]] = []
    levels: dict[str, None] = {}
    for row, (cell, runs) in one.rows.items():
        for size in SIZES:
            if all(not math.isnan(run.sizes.get(size, math.nan)) for run in runs):
                found, over = interval(cell, [run.sizes[size] for run in runs])
                levels |= dict.fromkeys(over)
                values.append({"row": row, "size": size, **found})
    if not values:
        return None
    without = [size for size in SIZES if size not in {value["size"] for value in values}]
    none = f" No test object is {' or '.join(without)}." if without else ""
    return Chart(
        title=f"{one.title}, AP of {one.objects}",
        caption=f"{over_levels(levels, 'not over test images')}{none}",
        spec=vega.points(values, "AP (%)", by="size", order=[size for size in SIZES if size not in without]),
        columns={"row": "checkpoint", "size": "objects", "value": "AP (%)", "low": "95 % from", "high": "to"},
    )


def curve_chart(one: Detected) -> Chart | None:
    """A line per row, of the first LINES."""
    values = []
    rows = list(one.rows)[:LINES]
    for row in rows:
        cell, runs = one.rows[row]
        if len({len(run.recalls) for run in runs}) != 1:
            return None
        curve = mean(cell, [run.curve for run in runs])
        values += [
            {"row": row, "recall": round(100 * recall), "value": rounded(value)}
            for recall, value in zip(runs[0].recalls.tolist(), curve.tolist(), strict=True)
        ]
    if all(value["value"] is None for value in values):
        return None
    left = f" The first {len(rows)} of {len(one.rows)} rows." if len(one.rows) > len(rows) else ""
    return Chart(
        title=f"{one.title}, {one.objects}",
        caption=f"Interpolated as for AP, {runs_in_words(one)}.{left}",
        spec=vega.lines(values, ("recall", "recall (%)"), ("value", "precision (%)"), zero=True),
        columns={"row": "checkpoint", "recall": "recall (%)", "value": "precision (%)"},
    )
