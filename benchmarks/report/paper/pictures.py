"""A table's figures: bars, scatters of pairs of columns, curves over a series. SVG, PDF and PNG; imports no torch.

Intervals are 95 % ones over test images, where predictions were kept, and over seeds or pretraining runs. The files are
equal byte for byte for equal records and one version of matplotlib.
"""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.cells import Cell
from benchmarks.report.chart import COLOURS
from benchmarks.report.marks import Sides, half_width
from benchmarks.report.paper.layout import Table
from benchmarks.report.paper.ranking import column_title, in_words, ranking_of
from benchmarks.report.paper.spec import TableFigure, column_name
from benchmarks.report.text import shortened
from benchmarks.series import POINT
from pretrain.common.errors import InputError

ACROSS, LABEL = 3, 32
STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "transfer",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 8,
}
UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
CAPTION = "error bars: 95 % over test images where kept, and seeds or runs"


def pictures(table: Table) -> dict[str, bytes]:
    """``NAME-FIGURE.{svg,pdf,png}`` of the layout's figures. InputError for one without a number."""
    found: dict[str, bytes] = {}
    for figure in table.spec.figures:
        places = _places(table, figure)
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of characters that the font lacks
            found |= _saved(f"{table.spec.name}-{figure.name}", KINDS[figure.kind](table, places))
    return found


def _places(table: Table, figure: TableFigure) -> list[int]:
    names = [column_name(column) for column in table.spec.columns]
    wanted = figure.columns or names
    places = [place for place, name in enumerate(names) if name in wanted]
    known = [place for place in places if any(cells[place].mean is not None for _, cells in table.own)]
    if not known:
        raise InputError(f"figure {figure.name}: no row has a number in {', '.join(wanted)}")
    return known


def _saved(name: str, figure: Figure) -> dict[str, bytes]:
    found = {}
    for suffix, metadata in UNDATED.items():
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix, dpi=150, metadata=metadata)
        found[f"{name}.{suffix}"] = stream.getvalue()
    return found


def _grid(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    across = min(ACROSS, count)
    down = -(-count // across)
    figure = Figure(figsize=(max(width * across, 4.2), height * down + 0.3), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def _bars(table: Table, places: Sequence[int]) -> Figure:
    """A panel per column: our rows with intervals, published ones hatched, in the order of the page."""
    lines = [(kind, number) for kind, number in table.order]
    titles = [
        table.own[number][0].row.title or table.own[number][0].row.label
        if kind == "own"
        else table.outside[number].row.title or table.outside[number].row.method
        for kind, number in lines
    ]
    figure, axes = _grid(len(places), 2.4, 0.6 + 0.2 * len(lines))
    for position, (axis, place) in enumerate(zip(axes, places, strict=False)):
        for at, (kind, number) in enumerate(lines):
            if kind == "own":
                cell = table.own[number][1][place]
                if cell.mean is not None:
                    axis.barh(at, cell.mean, color=COLOURS[1 + number % (len(COLOURS) - 1)])
                    axis.errorbar(cell.mean, at, xerr=half_width(table.sides, cell), ecolor="black", capsize=2)
            elif (value := table.outside[number].values[place]) is not None and value.value is not None:
                axis.barh(at, value.value, color="white", edgecolor="#8c8c8c", hatch="////", linewidth=0.5)
        first = position % ACROSS == 0
        axis.set_yticks(range(len(lines)), shortened(titles, LABEL) if first else [""] * len(lines))
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_xlabel(_unit(table, place), fontsize=7)
        axis.set_title(column_title(table, place), fontsize=8)
    hatched = "; hatched: published" if table.outside else ""
    figure.suptitle(f"{CAPTION}{hatched}", fontsize=7)
    return figure


def _unit(table: Table, place: int) -> str:
    return next((cells[place].metric.unit for _, cells in table.own), "")


def _scatter(table: Table, places: Sequence[int]) -> Figure:
    """A panel per pair of columns with Kendall's τ in its title."""
    pairs = list(itertools.combinations(places, 2))
    if not pairs:
        raise InputError("a scatter needs two columns with numbers")
    figure, axes = _grid(len(pairs), 3.2, 3.0)
    for axis, (x, y) in zip(axes, pairs, strict=False):
        points: list[tuple[str, float, float]] = []
        for number, (row, cells) in enumerate(table.own):
            one, other = cells[x], cells[y]
            if one.mean is None or other.mean is None:
                continue
            colour = COLOURS[1 + number % (len(COLOURS) - 1)]
            bars: dict[str, Any] = {"xerr": half_width(table.sides, one), "yerr": half_width(table.sides, other)}
            axis.errorbar(one.mean, other.mean, fmt="o", markersize=4, elinewidth=0.6, color=colour, **bars)
            points.append((row.row.title or row.row.label, one.mean, other.mean))
        _name(axis, points)
        axis.set_xlabel(column_title(table, x))
        axis.set_ylabel(column_title(table, y))
        axis.set_title(_tau(table, x, y), fontsize=8)
    figure.suptitle(CAPTION, fontsize=7)
    return figure


CORNERS = (
    ((4, 3), "left", "bottom"),
    ((4, -3), "left", "top"),
    ((-4, 3), "right", "bottom"),
    ((-4, -3), "right", "top"),
)


def _name(axis: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Each point's name at the corner of it where it covers the fewest names and points."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    taken: list[tuple[float, float, float, float]] = []
    spots = [((x - left) / (right - left), (y - low) / (high - low)) for _, x, y in points]
    for (_, x, y), (across, up), text in zip(points, spots, shortened((name for name, *_ in points), 20), strict=True):
        boxes = [_box(across, up, 0.021 * len(text), *corner[1:]) for corner in CORNERS]
        costs = [
            sum(_overlap(box, other) for other in taken)
            + sum(box[0] <= one <= box[1] and box[2] <= other <= box[3] for one, other in spots)
            + 2 * (box[0] < 0 or box[1] > 1.1)
            for box in boxes
        ]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        offset, beside, above = CORNERS[best]
        place: dict[str, Any] = {"textcoords": "offset points", "ha": beside, "va": above, "fontsize": 6}
        axis.annotate(text, (x, y), offset, **place)


def _box(x: float, y: float, width: float, beside: str, above: str) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a name, in parts of the axes."""
    start, bottom = (x + 0.01 if beside == "left" else x - width - 0.01), (y + 0.01 if above == "bottom" else y - 0.05)
    return start, start + width, bottom, bottom + 0.04


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _tau(table: Table, x: int, y: int) -> str:
    try:
        ((_, _, found),) = ranking_of(table, [x, y]).correlations()
    except (InputError, ValueError):
        return "Kendall τ undefined"
    return in_words(found)


def _series(table: Table, places: Sequence[int]) -> Figure:
    cells = [(column_title(table, place), [line[place] for _, line in table.own]) for place in places]
    return series_figure(cells, table.sides)


def series_figure(columns: Sequence[tuple[str, Sequence[Cell]]], sides: Sides) -> Figure:
    """Each column (title, cells) against the epoch of rows named ``NAME @EPOCH``, a line per name, and the runs' cost.

    InputError where no row is of a series.
    """
    names = dict.fromkeys(found[1] for _, cells in columns for cell in cells if (found := POINT.fullmatch(cell.label)))
    if not names:
        raise InputError("no row is of a series: name checkpoints NAME @EPOCH, as run --series does")
    figure, axes = _grid(len(columns) + 1, 2.8, 2.4)
    for axis, (title, cells) in zip(axes, columns, strict=False):
        for number, (name, by_epoch) in enumerate(_by_epoch(names, cells).items()):
            known = [(epoch, cell) for epoch, cell in sorted(by_epoch.items()) if cell.mean is not None]
            _line(axis, number, name, [(epoch, cell.mean or 0.0, half_width(sides, cell)) for epoch, cell in known])
        axis.set_title(title, fontsize=8)
    for number, name in enumerate(names):
        seconds: dict[int, dict[str, float]] = {}  # by epoch and run: metrics share their runs
        for _, cells in columns:
            for epoch, cell in _by_epoch(names, cells)[name].items():
                runs = {record.spec.spec_id: record.wall_seconds for record in cell.records}
                seconds.setdefault(epoch, {}).update(runs)
        minutes = [(epoch, sum(one.values()) / 60, math.nan) for epoch, one in sorted(seconds.items()) if one]
        _line(axes[len(columns)], number, name, minutes)
    axes[len(columns)].set_title("cost of these runs (min)", fontsize=8)
    for axis in axes[: len(columns) + 1]:
        axis.set_xlabel("pretraining epoch")
    if len(names) > 1:
        axes[0].legend(fontsize=6)
    figure.suptitle(f"{'' if len(names) > 1 else next(iter(names)) + '; '}{CAPTION}", fontsize=7)
    return figure


def _by_epoch(names: Iterable[str], cells: Iterable[Cell]) -> dict[str, dict[int, Cell]]:
    """The cells of each series by epoch."""
    found: dict[str, dict[int, Cell]] = {name: {} for name in names}
    for cell in cells:
        if point := POINT.fullmatch(cell.label):
            found[point[1]][int(point[2])] = cell
    return found


def _line(axis: Axes, number: int, name: str, points: Sequence[tuple[int, float, float]]) -> None:
    xs, ys, widths = ([point[part] for point in points] for part in range(3))
    colour = COLOURS[1 + number % (len(COLOURS) - 1)]
    axis.errorbar(xs, ys, yerr=widths, color=colour, marker="o", markersize=3, linewidth=1, capsize=2, label=name)


def series_files(name: str, cells: Sequence[Cell]) -> dict[str, bytes]:
    """``NAME-series.{svg,pdf,png}`` of the shown metrics of ``cells``; {} where no row is of a series."""
    columns: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.metric.shown and POINT.fullmatch(cell.label):
            columns.setdefault(f"{cell.column} {cell.metric.label}", []).append(cell)
    if not columns:
        return {}
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return _saved(f"{name}-series", series_figure(list(columns.items()), Sides()))


KINDS: dict[str, Callable[[Table, Sequence[int]], Figure]] = {"bars": _bars, "scatter": _scatter, "series": _series}
