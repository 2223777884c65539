"""The charts of the page: of each kind those whose numbers are recorded. Imports no torch.

Means, intervals and Kendall's τ are computed by the code of the tables and their figures (report/marks.py,
statistics/ranks.py). A chart has a sentence that says what its intervals are over, and its numbers as a table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.records import RunRecord
from benchmarks.report.cells import Cell
from benchmarks.report.chart import FIRST, best_rows
from benchmarks.report.marks import half_width
from benchmarks.report.web import vega
from benchmarks.report.web.board import Board, Column
from benchmarks.report.web.runs import Facts
from benchmarks.statistics.paired import mean_error

PANELS = 24  # of a section
PROBES = ("factors", "factors-image")
NATS = ("information", "view-information")
OVER = {"images": "test images", "seeds": "downstream seeds", "runs": "pretraining runs"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture: ``spec`` without the page's configuration, ``columns`` the fields of its table and their headings.

    ``choices``: for a picture whose columns the reader chooses, what charts.js makes its values of. ``wide``: as wide
    as it needs, in a place that scrolls.
    """

    title: str
    caption: str
    spec: vega.Spec
    columns: Mapping[str, str]
    choices: Mapping[str, Any] | None = None
    wide: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Charts of one kind below a heading and a sentence."""

    title: str
    about: str
    charts: Sequence[Chart]


class Grid:
    """The board's cells by row and column; the rows and the numbers of columns that charts show."""

    def __init__(self, board: Board, facts: Facts | None = None) -> None:
        self.board, self.facts = board, facts
        self.cells: dict[tuple[str, str, str], Cell] = {
            (cell.label, cell.column, cell.metric.key): cell for cell in board.cells
        }
        labels = [row.label for row in board.rows]
        self.rows = best_rows(labels, self._columns())
        self.left = len(labels) - len(self.rows)

    def _columns(self) -> list[list[Cell]]:
        found: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.board.cells:
            if cell.metric.shown:
                found.setdefault((cell.column, cell.metric.key), []).append(cell)
        return list(found.values())

    def of(self, row: str, column: Column) -> Cell | None:
        """The cell, None where it has no number."""
        cell = self.cells.get((row, column.heading, column.metric.key))
        return cell if cell is not None and cell.mean is not None else None

    def values(self, column: Column) -> list[dict[str, Any]]:
        """Row, mean, ends of its 95 % interval, text of each shown row that has a number."""
        return [point(self.board, cell) for row in self.rows if (cell := self.of(row, column))]

    def device(self, record: RunRecord) -> str:
        """The device that a run was on, "" where it is not known."""
        details = self.facts.details.get((record.imported or "", record.spec)) if self.facts else None
        return str(self.facts.shared.values[details["where"]].get("device", "")) if self.facts and details else ""

    def said(self) -> str:
        """What is left out of the rows; "" for nothing."""
        return f"{len(self.rows)} of {len(self.rows) + self.left} rows: {CHOSEN}." if self.left else ""


CHOSEN = f"the first {FIRST}, and of the others the best in all columns"


def point(board: Board, cell: Cell) -> dict[str, Any]:
    """A cell with a number as a value of a chart."""
    mean, width = float(cell.mean or 0.0), half_width(board.sides, cell)
    low, high = (None, None) if math.isnan(width) else (rounded(mean - width), rounded(mean + width))
    return {"row": cell.label, "mean": rounded(mean), "low": low, "high": high, "n": cell.count}


def rounded(value: float) -> float | None:
    """To four decimals, of which a picture shows none; None for no number."""
    return round(float(value), 4) if math.isfinite(value) else None


def titled(column: Column) -> str:
    """``VOC C4 AP``."""
    return f"{column.heading} {column.metric.label}"


def unit(column: Column) -> str:
    """The axis' title."""
    better = {True: " (more is better)", False: " (less is better)", None: ""}[column.metric.higher_is_better]
    return f"{column.metric.unit}{better}"


def over(board: Board, cells: Iterable[Cell]) -> str:
    """``Intervals: 95 %, over test images and downstream seeds.``; what varies in some of them."""
    levels = dict.fromkeys(level for cell in cells for level in mean_error(board.sides.of(cell))[1])
    return over_levels(levels)


def over_levels(levels: Iterable[str], but: str = "") -> str:
    """The same of named levels; ``but`` says what they leave out."""
    named = " and ".join(OVER[level] for level in levels)
    if not named:
        return "No interval: single runs without predictions." if not but else "No interval: single runs."
    return f"Intervals: 95 %, over {named}{', ' * bool(but)}{but}."


def bar_sections(grid: Grid, title: str) -> list[Section]:
    """Bars with intervals of the columns that have a number, of nats or of all others but factors."""
    nats = title == NATS_TITLE
    columns = [one for one in grid.board.columns if one.task not in PROBES and (one.task in NATS) == nats]
    there = [column for column in columns if any(grid.of(row, column) for row in grid.rows)]
    charts = [_bars(grid, column) for column in there[:PANELS]]
    more = f"The first {PANELS} of {len(there)} columns." if len(there) > PANELS else ""
    about = " ".join(filter(None, (BARS[title], grid.said(), more)))
    return [Section(title=title, about=about, charts=charts)] if charts else []


BARS_TITLE, NATS_TITLE = "Each column", "Nats of the features"
BARS = {
    BARS_TITLE: "Means with 95 % intervals, the numbers of the leaderboard.",
    NATS_TITLE: "Bounds of what the features hold of another view of an image (I(v2;z1), at least) and of "
    "what they hold beyond it (I(v1;z1|v2), at most), in nats, and what else was estimated of views.",
}


def _bars(grid: Grid, column: Column) -> Chart:
    cells = [cell for row in grid.rows if (cell := grid.of(row, column))]
    return Chart(
        title=titled(column),
        caption=over(grid.board, cells),
        spec=vega.bars(grid.values(column), unit(column)),
        columns={"row": "checkpoint", "mean": unit(column), "low": "95 % from", "high": "to", "n": "n"},
    )


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """What charts.js reads."""
    charts = [dataclasses.asdict(chart) for section in sections for chart in section.charts]
    return {"config": vega.CONFIG, "charts": charts}
