"""A suite's figures: its numbers against a setting or against one another, and as coloured squares over two settings.

Points are means over a row's pretraining runs, bars ± one standard deviation where there are several; of one run ± one
standard error over the test images, where it kept its predictions. Imports no torch.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.report.cells import Cell
from benchmarks.report.chart import COLOURS
from benchmarks.report.marks import kept_draws
from benchmarks.report.text import shortened
from pretrain.common.files import replacing, results_dir

if TYPE_CHECKING:
    from benchmarks.suites import Figure, Row, Suite

LABEL, ACROSS = 40, 4  # characters; panels side by side
CHARACTERS = 15  # of a title per inch
FEW = 3  # values of a setting, which then are the ticks
Point = tuple[float, float | None]  # mean and the length of its bar on either side


class Numbers:
    """The quantities of a suite's rows: settings of their ``at``, and metrics as ``task/key``."""

    def __init__(self, cells: Iterable[Cell], bars: bool = True) -> None:
        self.bars = bars
        self.cells: dict[tuple[str, str], Cell] = {}
        self.n: set[int] = set()  # pretraining runs behind the drawn points
        self.of_images = False  # whether some bar is of the test images
        for cell in cells:
            if cell.records:
                self.cells.setdefault((cell.label, f"{cell.records[0].spec.task}/{cell.metric.key}"), cell)

    def of(self, row: Row, quantity: str) -> Point | None:
        """Mean and the length of its bar; None where the row has no such number."""
        if quantity in row.at:
            return row.at[quantity], None
        cell = self.cells.get((row.label, quantity))
        if cell is None or cell.mean is None:
            return None
        return cell.mean, cell.std if cell.std is not None else self._over_images(cell)

    def _over_images(self, cell: Cell) -> float | None:
        """Standard error of a single run over its test images."""
        values = kept_draws(cell.records[0]).get(cell.metric.key) if self.bars else None
        self.of_images |= values is not None
        return None if values is None else float(values.std(ddof=1))

    def drawn(self, row: Row, *quantities: str) -> None:
        """Note the number of pretraining runs behind a point that is drawn."""
        self.n |= {len(self.cells[row.label, one].values) for one in quantities if (row.label, one) in self.cells}

    def label(self, quantity: str) -> str:
        """``linear top-1 (%)`` for a metric, without its unit where that is long; the name itself for a setting."""
        for (_, name), cell in self.cells.items():
            if name == quantity:
                text = f"{cell.column} {cell.metric.label}"
                whole = f"{text} ({cell.metric.unit})"
                return whole if len(whole) <= LABEL else shortened([text], LABEL)[0]
        return quantity


def draw_figures(suite: Suite, cells: Sequence[Cell], folder: Path | None = None) -> list[Path]:
    """Write the figures of ``suite`` that have a number under ``folder`` (default results/tables); their paths."""
    folder = folder or results_dir() / "tables"
    written = []
    for figure in suite.figures:
        path = folder / f"{suite.name}-{figure.name}.png"
        numbers = Numbers(cells, bars=figure.kind == "curve")
        with mpl.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of characters that the font lacks
            picture = (_curves if figure.kind == "curve" else _planes)(figure, suite.rows, numbers)
            if picture is None:
                path.unlink(missing_ok=True)
                continue
            wide = int(CHARACTERS * picture.get_figwidth())
            picture.suptitle(textwrap.fill(title_of(figure, numbers), wide), fontsize=9)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                picture.savefig(temporary, format="png", dpi=120)
        written.append(path)
    return written


def title_of(figure: Figure, numbers: Numbers) -> str:
    """What a figure shows, of how many runs, and what its bars are."""
    runs = sorted(numbers.n)
    several = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    spread = "; bars: ± one standard deviation" if runs[-1] > 1 else ""
    spread += "; bars of one run: ± one standard error over the test images" if numbers.of_images else ""
    spread = spread if figure.kind == "curve" else ""
    return f"{figure.title or figure.name} ({several} pretraining run{'s' * (runs[-1] > 1)} per point{spread})"


def _grid(count: int, width: float, height: float) -> tuple[Picture, list[Axes]]:
    across = min(ACROSS, count)
    down = -(-count // across)
    picture = Picture(figsize=(width * across + 0.4, height * down + 0.5), layout="constrained")
    axes = list(picture.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return picture, axes


def _curves(figure: Figure, rows: Sequence[Row], numbers: Numbers) -> Picture | None:
    """A panel per group of ``panels`` and quantity of ``y``; without panels, all groups as lines of one."""
    lines = list(dict.fromkeys(row.group for row in rows if row.group and row.group != figure.marks))
    panels = [[name] for name in figure.panels] or [lines]
    picture, axes = _grid(len(panels) * len(figure.y), 3.4, 2.9)
    drawn = 0
    for number, axis in enumerate(axes[: len(panels) * len(figure.y)]):
        shown, y = panels[number % len(panels)], figure.y[number // len(panels)]
        for place, name in enumerate(shown):
            colour = COLOURS[1 + (figure.panels.index(name) if figure.panels else place) % (len(COLOURS) - 1)]
            drawn += _line(axis, [row for row in rows if row.group == name], figure.x, y, numbers, colour, name)
        if figure.marks:
            _marks(axis, [row for row in rows if row.group == figure.marks], figure.x, y, numbers)
        axis.set_title(shown[0] if figure.panels else "", fontsize=9)
        axis.set_xlabel(numbers.label(figure.x), fontsize=8)
        settings = sorted({row.at[figure.x] for row in rows if figure.x in row.at})
        if 0 < len(settings) <= FEW:
            axis.set_xticks(settings)
        axis.set_ylabel(numbers.label(y), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        if len(shown) > 1:
            axis.legend(fontsize=7)
    return picture if drawn else None


def _line(axis: Axes, rows: Sequence[Row], x: str, y: str, numbers: Numbers, colour: str, name: str) -> int:
    """Draw the rows' points in the order of their settings, each with its setting; the number of points."""
    found = [(row, numbers.of(row, x), numbers.of(row, y)) for row in rows]
    points = [(row, one, other) for row, one, other in found if one is not None and other is not None]
    if x in {key for row in rows for key in row.at}:
        points.sort(key=lambda point: point[1][0])
    axis.errorbar(
        [one[0] for _, one, _ in points],
        [other[0] for _, _, other in points],
        xerr=[one[1] or 0.0 for _, one, _ in points],
        yerr=[other[1] or 0.0 for _, _, other in points],
        color=colour,
        label=name,
        marker="o",
        markersize=4,
        linewidth=1,
        elinewidth=0.7,
    )
    for row, one, other in points:
        numbers.drawn(row, x, y)
        if row.at and x not in row.at:
            text = f"{next(iter(row.at.values())):g}"
            axis.annotate(text, (one[0], other[0]), (3, 3), textcoords="offset points", fontsize=6)
    return len(points)


def _marks(axis: Axes, rows: Sequence[Row], x: str, y: str, numbers: Numbers) -> None:
    for row in rows:
        one, other = numbers.of(row, x), numbers.of(row, y)
        if one is not None and other is not None:
            numbers.drawn(row, x, y)
            axis.plot(one[0], other[0], "*", color="black", markersize=6)
            axis.annotate(
                shortened([row.label], 16)[0], (one[0], other[0]), (3, -8), textcoords="offset points", fontsize=7
            )


def _planes(figure: Figure, rows: Sequence[Row], numbers: Numbers) -> Picture | None:
    """A line of panels per group of rows, a panel per quantity; the colours of a quantity are the same in all.

    A row without a number, such as one whose pretraining collapsed, has an empty square that says so.
    """
    placed = [row for row in rows if {figure.x, figure.across} <= row.at.keys()]
    groups = list(figure.panels) or list(dict.fromkeys(row.group for row in placed))
    columns = max(1, len(figure.y))
    picture = Picture(figsize=(3.3 * columns + 0.4, 2.9 * len(groups) + 0.5), layout="constrained")
    axes = picture.subplots(len(groups), columns, squeeze=False)
    drawn = 0
    for column, y in enumerate(figure.y):
        values: dict[str, dict[tuple[float, float], float]] = {name: {} for name in groups}
        for row in placed:
            if row.group in values:
                found = numbers.of(row, y)
                values[row.group][row.at[figure.x], row.at[figure.across]] = found[0] if found else math.nan
                numbers.drawn(row, y)
        known = [value for one in values.values() for value in one.values() if not math.isnan(value)]
        drawn += len(known)
        for line, (name, one) in enumerate(values.items()):
            axis = axes[line][column]
            there = not all(map(math.isnan, one.values()))
            axis.set_visible(there)
            axis.set_title(f"{name}: {numbers.label(y)}".removeprefix(": "), fontsize=8)
            if there:
                _squares(axis, one, (min(known), max(known)), figure)
    return picture if drawn else None


def _squares(
    axis: Axes, values: Mapping[tuple[float, float], float], limits: tuple[float, float], figure: Figure
) -> None:
    """Squares at even distances, whatever the settings' values, each with its number.

    Empty where there is no row; where a row has no number, the square says so.
    """
    xs, ys = (sorted({point[place] for point in values}) for place in (0, 1))
    table = [[values.get((x, y), math.nan) for x in xs] for y in ys]
    axis.imshow(table, cmap="viridis", vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto")
    middle = (limits[0] + limits[1]) / 2
    for line, row in enumerate(table):
        for column, value in enumerate(row):
            if (xs[column], ys[line]) in values:
                colour = "white" if value < middle else "black"
                text = "no number" if math.isnan(value) else f"{value:.1f}"
                axis.text(column, line, text, ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(xs)), [f"{x:g}" for x in xs], fontsize=7)
    axis.set_yticks(range(len(ys)), [f"{y:g}" for y in ys], fontsize=7)
    axis.set_xlabel(figure.x, fontsize=8)
    axis.set_ylabel(figure.across, fontsize=8)
