"""Scores against the time that their runs took. Imports no torch."""

from __future__ import annotations

from typing import Any

from benchmarks.report.text import shortened
from benchmarks.report.web.chart_scatter import NAME, ROWS, first_metrics, scatter_spec
from benchmarks.report.web.charts import NATS, PANELS, PROBES, Chart, Grid, Section, point, titled, unit

ABOUT = (
    "The wall time of one run of a column, the mean over its runs, against its score; without pretraining and the "
    "preparation of data; features that an earlier run kept are not computed again."
)


def cost_section(grid: Grid) -> list[Section]:
    """A picture whose column the reader chooses, the first metric of each task."""
    rows = [row.label for row in grid.board.rows][:ROWS]
    columns = [
        column
        for column in first_metrics(grid.board.columns)
        if column.task not in (*PROBES, *NATS) and sum(grid.of(row, column) is not None for row in rows) > 1
    ]
    there = columns[:PANELS]
    if not there:
        return []
    names: list[list[str]] = []
    points: list[list[Any]] = [[] for _ in rows]
    pairs = []
    for column in there:
        cells = [grid.of(row, column) for row in rows]
        hours = [
            sum(record.wall_seconds for record in cell.records) / len(cell.records) / 3600 if cell else None
            for cell in cells
        ]
        word, times = ("hours", 1) if max(filter(None, hours), default=0) >= 1 else ("minutes", 60)
        devices = {grid.device(record) for cell in cells if cell for record in cell.records} - {""}
        where = f" on {' or '.join(sorted(devices)[:3])}{' or others' * (len(devices) > 3)}" if devices else ""
        said = f"Wall time of one run{where}"
        pairs.append([titled(column), len(names), len(names) + 1, said])
        names += [[f"time of {column.heading}", word], [titled(column), unit(column)]]
        for place, (cell, hour) in enumerate(zip(cells, hours, strict=True)):
            found = point(grid.board, cell) if cell else None
            points[place] += [
                [round(hour * times, 4), None, None] if hour is not None else None,
                [found["mean"], found["low"], found["high"]] if found else None,
            ]
    left = [f"The first {len(rows)} of {len(grid.board.rows)} rows."] if len(grid.board.rows) > len(rows) else []
    fields = {"row": "checkpoint", "x": "", "y": "", "y_low": "95 % from", "y_high": "to"}
    choices = {
        "columns": names,
        "rows": list(map(list, zip(rows, shortened(rows, NAME), strict=True))),
        "points": points,
        "tau": {},
        "pairs": pairs,
        "first": pairs[0][1:3],
        "zero": True,
    }
    chart = Chart(
        title="Score against time", caption="", spec=scatter_spec(), columns=fields, choices=choices, wide=True
    )
    return [Section(title="Score against cost", about=" ".join([ABOUT, *left]), charts=[chart])]
