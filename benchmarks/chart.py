"""The table as bars: a panel a column, a bar a checkpoint, ± one standard deviation where n ≥ 2. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from pretrain.files import replacing

if TYPE_CHECKING:
    from benchmarks.cells import Cell

COLUMNS = 4
COLOURS = ("#8c8c8c", "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3")


def draw(cells: Sequence[Cell], path: Path, title: str) -> None:
    """Write the PNG of the columns that the table shows; bars are labelled with their mean."""
    panels: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.metric.shown:
            panels.setdefault((cell.column, cell.metric.label), []).append(cell)
    labels = list(dict.fromkeys(cell.label for cell in cells))
    rows = -(-len(panels) // COLUMNS)
    height = 0.6 + 0.26 * len(labels)
    figure = Figure(figsize=(3.3 * min(COLUMNS, len(panels)), height * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, min(COLUMNS, len(panels)), squeeze=False).flat)
    for axis, (heading, column) in zip(axes, panels.items(), strict=False):
        for cell in column:
            place = labels.index(cell.label)
            axis.barh(place, cell.mean or 0.0, xerr=cell.std, color=COLOURS[place % len(COLOURS)], capsize=2)
            text = cell.text(" ± ", "–")
            axis.annotate(f" {text}", ((cell.mean or 0.0) + (cell.std or 0.0), place), va="center", fontsize=7)
        axis.set_yticks(range(len(labels)), labels, fontsize=8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_title(" ".join(heading), fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(0, 1.45 * max(0.1, *((cell.mean or 0.0) + (cell.std or 0.0) for cell in column)))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
