"""A suite's own figures as charts: curves over its settings, planes of two of them. Imports no torch.

Points, bars and words are those of the suite's pictures (report/figures.py): bars are ± one standard deviation over
pretraining runs, of one run ± one standard error over its test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.report.web import vega
from benchmarks.report.web.charts import PANELS, Chart, Grid, Section, rounded
from benchmarks.suites import Figure, Row, Suite

if TYPE_CHECKING:
    from benchmarks.report.figures import Numbers

ABOUT = "The figures that the suite's file describes, with the numbers of its pictures."


def suite_sections(grid: Grid, suite: Suite | None) -> list[Section]:
    """The figures of a suite that have a number."""
    if suite is None or not suite.figures:
        return []
    from benchmarks.report.figures import Numbers

    charts = []
    for figure in suite.figures:
        numbers = Numbers(grid.board.cells, bars=figure.kind == "curve")
        charts += (_curves if figure.kind == "curve" else _planes)(figure, suite.rows, numbers)
    left = f" The first {PANELS} of {len(charts)} panels." if len(charts) > PANELS else ""
    return [Section(title="Figures of the suite", about=ABOUT + left, charts=charts[:PANELS])] if charts else []


def _curves(figure: Figure, rows: Sequence[Row], numbers: Numbers) -> list[Chart]:
    """A panel per group of ``panels`` and quantity; without panels, all groups as lines of one."""
    lines = list(dict.fromkeys(row.group for row in rows if row.group and row.group != figure.marks))
    found = []
    for y in figure.y:
        for shown in [[name] for name in figure.panels] or [lines]:
            values = [value for name in shown for value in _line(name, rows, figure.x, y, numbers)]
            if not values:
                continue
            for row in rows:
                if row.group == figure.marks and row.group:
                    values += _points(row, row.label, figure.x, y, numbers)
            found.append((y, shown[0] if figure.panels else "", values))
    return [_curve(figure, y, panel, values, numbers) for y, panel, values in found]


def _curve(figure: Figure, y: str, panel: str, values: Sequence[vega.Row], numbers: Numbers) -> Chart:
    from benchmarks.report.figures import title_of

    names = numbers.label(figure.x), numbers.label(y)
    columns = {"row": "group", "at": "settings", "x": names[0], "x_low": "from", "x_high": "to"}
    return Chart(
        title=": ".join(filter(None, (panel, names[1]))),
        caption=f"{title_of(figure, numbers)}.",
        spec=vega.lines(values, ("x", names[0]), ("value", names[1]), zero=False, ordered=True),
        columns={**columns, "value": names[1], "low": "bar from", "high": "to"},
    )


def _line(name: str, rows: Sequence[Row], x: str, y: str, numbers: Numbers) -> list[dict[str, Any]]:
    """The points of a group, in the order of its settings where x is one."""
    own = [row for row in rows if row.group == name]
    if x in {key for row in own for key in row.at}:
        own.sort(key=lambda row: row.at.get(x, math.inf))
    return [value for row in own for value in _points(row, name, x, y, numbers)]


def _points(row: Row, name: str, x: str, y: str, numbers: Numbers) -> list[dict[str, Any]]:
    one, other = numbers.of(row, x), numbers.of(row, y)
    if one is None or other is None:
        return []
    numbers.drawn(row, x, y)
    (across, wide), (up, tall) = one, other
    ends = {
        key: None if bar is None else rounded(middle + sign * bar)
        for key, middle, sign, bar in (
            ("x_low", across, -1, wide),
            ("x_high", across, 1, wide),
            ("low", up, -1, tall),
            ("high", up, 1, tall),
        )
    }
    at = ", ".join(f"{key} {value:g}" for key, value in row.at.items())
    return [{"row": name, "at": at or None, "x": across, "value": rounded(up), **ends}]


def _planes(figure: Figure, rows: Sequence[Row], numbers: Numbers) -> list[Chart]:
    """A plane per group and quantity, of one scale of colours; a row without a number is an empty square."""
    from benchmarks.report.figures import title_of

    placed = [row for row in rows if {figure.x, figure.across} <= row.at.keys()]
    groups = list(figure.panels) or list(dict.fromkeys(row.group for row in placed))
    made = []
    for y in figure.y:
        means = {row.label: numbers.of(row, y) for row in placed if row.group in groups}
        known = [point[0] for point in means.values() if point]
        for name in groups:
            own = [row for row in placed if row.group == name]
            if not any(means[row.label] for row in own):
                continue
            values = []
            for row in sorted(own, key=lambda row: (-row.at[figure.across], row.at[figure.x])):
                numbers.drawn(row, y)
                place = {"row": f"{row.at[figure.across]:g}", "x": f"{row.at[figure.x]:g}"}
                values.append({**place, "value": rounded(point[0]) if (point := means[row.label]) else None})
            order = [f"{x:g}" for x in sorted({row.at[figure.x] for row in own})]
            spec = vega.squares(
                values,
                "x",
                numbers.label(y),
                order=order,
                decimals=1,
                domain=(min(known), max(known)),
                titles=(figure.x, figure.across),
            )
            columns = {"row": figure.across, "x": figure.x, "value": numbers.label(y)}
            made.append((f"{name}: {numbers.label(y)}".removeprefix(": "), spec, columns))
    words = f"{title_of(figure, numbers)}." if made else ""
    return [Chart(title=title, caption=words, spec=spec, columns=columns) for title, spec, columns in made]
