"""Does one column foretell another? A scatter of two columns that the reader chooses, with Kendall's τ.

τ is that of the tables' ranks (report/paper/ranking.py). Rows are the board's first, not the best: a choice by their
numbers would change τ. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from benchmarks.report.text import shortened
from benchmarks.report.web import vega
from benchmarks.report.web.board import Column
from benchmarks.report.web.charts import Chart, Grid, Section, point, titled, unit

COLUMNS, ROWS = 12, 24
NAME = 20  # characters beside a point
ABOUT = (
    "Each point is a row, with its 95 % intervals. Kendall's τ is of the rows shown, each column in its better "
    "direction; in brackets its 95 % interval over rows, test images and seeds, from 8 rows on."
)
CORNERS = (("left", -1), ("left", 1), ("right", -1), ("right", 1))  # of a name: its side of the point, below or above


def scatter_section(grid: Grid) -> list[Section]:
    """The scatter, where two columns have two rows in common."""
    rows = [row.label for row in grid.board.rows][:ROWS]
    there = [
        column for column in _ordered(grid.board.columns) if sum(grid.of(row, column) is not None for row in rows) > 1
    ]
    columns = there[:COLUMNS]
    taus = {f"{x} {y}": _tau(grid, rows, columns[x], columns[y]) for x, y in combinations(range(len(columns)), 2)}
    if not any(taus.values()):
        return []
    left = [f"The first {len(rows)} of {len(grid.board.rows)} rows."] if len(grid.board.rows) > len(rows) else []
    left += [f"{COLUMNS} of {len(there)} columns can be chosen."] if len(there) > COLUMNS else []
    choices = {
        "columns": [[titled(column), unit(column)] for column in columns],
        "rows": list(map(list, zip(rows, shortened(rows, NAME), strict=True))),
        "points": [[_ends(grid, row, column) for column in columns] for row in rows],
        "tau": taus,
        "first": [0, _other_kind(columns)],
    }
    fields = {"row": "checkpoint", "x": "across", "x_low": "95 % from", "x_high": "to"}
    fields |= {"y": "up", "y_low": "95 % from", "y_high": "to"}
    chart = Chart(title="Two columns", caption="", spec=scatter_spec(), columns=fields, choices=choices, wide=True)
    return [Section(title="One column against another", about=" ".join([ABOUT, *left]), charts=[chart])]


def first_metrics(columns: Sequence[Column]) -> list[Column]:
    """The first column of each heading."""
    return list({column.heading: column for column in reversed(columns)}.values())[::-1]


def _ordered(columns: Sequence[Column]) -> list[Column]:
    """The first column of each heading, then those that say what is better, then all others."""
    first = first_metrics(columns)
    return sorted(columns, key=lambda one: (one.metric.higher_is_better is None, one not in first))


def _other_kind(columns: list[Column]) -> int:
    """The place of the first column that is of another kind than the first column: such as a detector's."""
    return next((place for place, one in enumerate(columns) if one.kind != columns[0].kind), 1)


def _ends(grid: Grid, row: str, column: Column) -> list[Any] | None:
    cell = grid.of(row, column)
    found = point(grid.board, cell) if cell else None
    return [found["mean"], found["low"], found["high"]] if found else None


def _tau(grid: Grid, rows: list[str], x: Column, y: Column) -> str:
    """τ in words; "" for fewer than two rows that have both numbers."""
    from benchmarks.report.paper.ranking import in_words, tau_of

    both = [(one, other) for row in rows if (one := grid.of(row, x)) and (other := grid.of(row, y))]
    if len(both) < 2:
        return ""
    return in_words(tau_of([one for one, _ in both], [other for _, other in both], grid.board.sides))


def scatter_spec() -> vega.Spec:
    """The picture without its values, of which charts.js makes ``x``, ``y``, their ends, the name and its corner."""
    x, y = vega.amount("x", "", zero=False), vega.amount("y", "", zero=False)
    rule = {"type": "rule", "color": "var(--faint)", "opacity": 0.6}
    names = [
        {
            "transform": [{"filter": f"datum.corner === {place}"}],
            "mark": {"type": "text", "align": side, "dx": 6 if side == "left" else -6, "dy": 9 * down, "fontSize": 11},
            "encoding": {"x": x, "y": y, "text": {"field": "name"}},
        }
        for place, (side, down) in enumerate(CORNERS)
    ]
    return vega.spec(
        [],
        {"transform": [{"filter": "isValid(datum.x_low)"}], "mark": rule}
        | {"encoding": {"x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}, "y": y}},
        {"transform": [{"filter": "isValid(datum.y_low)"}], "mark": rule}
        | {"encoding": {"x": x, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}}},
        {"mark": {"type": "point", "filled": True, "size": 60, "color": "var(--accent)", "opacity": 1}}
        | {"encoding": {"x": x, "y": y}},
        *names,
        height=360,
    )
