"""The table as bars: one panel per column, one bar per checkpoint, ± one std where n ≥ 2. Imports no torch.

A large table is shown in part, and the title says so: a picture of all of it would be metres high.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report.text import shortened
from pretrain.common.files import replacing

if TYPE_CHECKING:
    from benchmarks.report.cells import Cell

COLUMNS = 4
PANELS = 12  # at most: the first ones with a number
ROWS, FIRST = 24, 6  # at most: the first few (those of this command) and the best of the others
ERROR_BARS: dict[str, Any] = {"fmt": "none", "ecolor": "black", "capsize": 2}
LABEL, HEADING = 36, 48  # characters
COLOURS = ("#8c8c8c", "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3")


def draw(cells: Sequence[Cell], path: Path, title: str) -> bool:
    """Write the PNG of the columns that the table shows; bars are labelled with their mean.

    False, and nothing is written, where no cell has a number.
    """
    panels: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.metric.shown:
            panels.setdefault((cell.column, cell.metric.label), []).append(cell)
    if all(cell.mean is None for column in panels.values() for cell in column):
        return False
    labels = list(dict.fromkeys(cell.label for cell in cells))
    shown = best_rows(labels, panels.values())
    heading = shortened([title], 120)
    if len(shown) < len(labels):
        heading.append(
            f"{len(shown)} of {len(labels)} rows: the first {FIRST}, and of the others the best in all columns"
        )
    if len(panels) > PANELS:
        known = [name for name, column in panels.items() if any(cell.mean is not None for cell in column)][:PANELS]
        heading.append(f"the first {len(known)} of {len(panels)} columns, without those that have no number")
        panels = {name: panels[name] for name in known}
    # Text is shown as it is: without TeX's mathematics, and without a warning per character that the font lacks.
    with mpl.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = _figure(panels, shown, "\n".join(heading))
        figure.dpi = 120
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(str(temporary))  # savefig draws all twice, for the layout first
    return True


def best_rows(labels: list[str], columns: Iterable[Sequence[Cell]]) -> list[str]:
    """``labels``; if more than ROWS, the first FIRST and the best others, ROWS in all, in their order."""
    if len(labels) <= ROWS:
        return labels
    ahead = dict.fromkeys(labels, 0.0)  # fraction of the column's numbers that are not better, summed over columns
    for column in columns:
        if column[0].metric.higher_is_better is None:
            continue
        known = [cell for cell in column if cell.mean is not None]
        sign = 1 if column[0].metric.higher_is_better else -1
        for place, cell in enumerate(sorted(known, key=lambda cell: sign * (cell.mean or 0.0))):
            ahead[cell.label] += (place + 1) / len(known)
    best = sorted(labels[FIRST:], key=lambda label: -ahead[label])
    chosen = {*labels[:FIRST], *best[: ROWS - FIRST]}
    return [label for label in labels if label in chosen]


def _figure(panels: dict[tuple[str, str], list[Cell]], labels: Sequence[str], title: str) -> Figure:
    high, wide = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    height = 0.6 + 0.26 * len(labels)
    figure = Figure(figsize=(2.6 * wide + 1.2, height * high + 0.5), layout="constrained")
    axes = list(figure.subplots(high, wide, squeeze=False).flat)
    places, names = {label: place for place, label in enumerate(labels)}, shortened(labels, LABEL)
    headings = shortened((" ".join(heading) for heading in panels), HEADING)
    for number, (axis, heading, column) in enumerate(zip(axes, headings, panels.values(), strict=False)):
        cells = [cell for cell in column if cell.label in places]
        rows = [places[cell.label] for cell in cells]
        means, stds = [cell.mean or 0.0 for cell in cells], [cell.std or 0.0 for cell in cells]
        axis.barh(rows, means, color=[COLOURS[row % len(COLOURS)] for row in rows])
        several = [i for i, cell in enumerate(cells) if cell.std is not None]
        axis.errorbar(
            [means[i] for i in several], [rows[i] for i in several], xerr=[stds[i] for i in several], **ERROR_BARS
        )
        ends, texts = [*map(sum, zip(means, stds, strict=True))], [cell.text(" ± ", "–") for cell in cells]
        for row, end, text in zip(rows, ends, texts, strict=True):
            axis.text(end, row, f" {text}", va="center", fontsize=7, in_layout=False)
        if number % COLUMNS:  # the first panel of a line has the names
            axis.set_yticks([])
        else:
            axis.set_yticks(range(len(labels)), names, fontsize=8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_title(heading, fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        room = max(0.31, min(0.02 * max(map(len, texts), default=0), 0.6))  # share of the panel for the longest text
        axis.set_xlim(0, max([0.1, *ends]) / (1 - room))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure
