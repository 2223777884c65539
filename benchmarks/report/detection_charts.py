"""Charts of a detection run: mistakes by kind and class, and precision–recall curves, for show_detection.py."""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.detected import Measured, shares
from benchmarks.report.text import for_spreadsheet, shortened
from pretrain.common.errors import printable
from pretrain.common.files import replacing
from transfer.detection.evaluation.kinds import KINDS

DPI = 120
NAME = 28  # characters of a class
ROWS = 100  # classes in the chart of mistakes: those with most objects
SHOWN = 24  # classes with curves; of more, a third each of the best, the middle and the worst
ACROSS = 6  # curves beside each other
# Okabe and Ito's colours, which every kind of colour vision tells apart.
SHADES = {
    "right": "#0072b2",
    "duplicate": "#56b4e9",
    "location": "#f0e442",
    "class": "#d55e00",
    "class and location": "#e69f00",
    "background": "#8c8c8c",
    "no detection": "#ececec",
}
OBJECTS = {"these": "#0072b2", "only a lower-scored one": "#a6cee3", "none": "#2b2b2b"}
LIGHT = {"#f0e442", "#e69f00", "#ececec", "#56b4e9", "#a6cee3"}  # with dark numbers on them


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """User's text as it is: without TeX's mathematics, and without a warning per character that the font lacks."""
    with mpl.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@_plain()
def errors(measured: Measured, names: Sequence[str], titles: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    """Write the chart of mistakes, and a CSV of the counts beside it; the counts of all classes together."""
    found = {number: shares(measured, number) for number in range(len(names))}
    tested = [number for number in found if found[number]["objects"].sum()]
    ap50 = np.nan_to_num(measured.aps[:, 0])
    most = sorted(tested, key=lambda number: -found[number]["objects"].sum())[:ROWS]
    order = sorted(most, key=lambda number: (-ap50[number], number))
    total = {key: sum((one[key] for one in found.values()), np.zeros(size, int)) for key, size in _SIZES.items()}
    _write_counts(found, names, path.with_suffix(".csv"))
    labels = ["all classes", *_named([names[number] for number in order], NAME)]
    counts = [total, *(found[number] for number in order)]
    height = 0.27 * len(labels) + 2.6
    figure = Figure(figsize=(15, height), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [3, 2]})
    best = np.array([[*one["best"], one["objects"].sum() - one["best"].sum()] for one in counts])
    _stacked(left, best, SHADES, labels)
    left.set_title("The N detections of highest score, N: the class's objects", fontsize=12, loc="left", pad=34)
    _stacked(
        right, np.array([one["objects"] for one in counts]), OBJECTS, [f"{one['objects'].sum():,}" for one in counts]
    )
    right.set_title("The N objects, found by …", fontsize=12, loc="left", pad=34)
    left_out = "" if len(most) == len(tested) else f"; the {len(most)} classes with most objects of {len(tested)}"
    _save(figure, [*titles, f"IoU 0.5; by descending AP50{left_out}"], path)
    return total


_SIZES = {"best": len(KINDS) + 1, "objects": 3}


def _stacked(axis: Axes, counts: np.ndarray, shades: dict[str, str], labels: Sequence[str]) -> None:
    """Bars of shares of a row's sum, with the counts where they fit."""
    rows, start = np.arange(len(counts)) + np.where(np.arange(len(counts)) > 0, 0.4, 0), np.zeros(len(counts))
    for (name, shade), column in zip(shades.items(), counts.T, strict=True):
        share = 100 * column / np.maximum(1, counts.sum(1))
        axis.barh(rows, share, left=start, height=0.8, color=shade, label=name, edgecolor="white", linewidth=0.6)
        for row, begun, width, count in zip(rows, start, share, column.tolist(), strict=True):
            text = f"{count:,}"
            if width > 1.2 + 1.1 * len(text) and name != "no detection":
                ink = "black" if shade in LIGHT else "white"
                axis.text(begun + width / 2, row, text, ha="center", va="center", color=ink, fontsize=8)
        start = start + share
    axis.set_yticks(rows, labels, fontsize=10)
    axis.set_ylim(rows[-1] + 0.6, -0.6)
    axis.set_xlim(0, 100)
    axis.xaxis.set_major_formatter("{x:.0f} %")
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(shades), fontsize=9.5, frameon=False,
        handlelength=1, columnspacing=1.0, handletextpad=0.4, borderpad=0.2,
    )  # fmt: skip


def _write_counts(found: dict[int, dict[str, np.ndarray]], names: Sequence[str], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["class", "objects", "right", *KINDS, "found by these", "by lower ones only", "by none"])
    for number, one in found.items():
        writer.writerow([for_spreadsheet(names[number]), one["objects"].sum(), *one["best"], *one["objects"]])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def chosen(aps: np.ndarray) -> list[tuple[str, list[int]]]:
    """(heading, classes by descending AP) of the curves to draw; ``aps`` (C,), NaN of classes without an object."""
    order = [int(one) for one in np.argsort(-aps, kind="stable") if not np.isnan(aps[one])]
    if len(order) <= SHOWN:
        return [("", order)]
    part, middle = SHOWN // 3, (len(order) - SHOWN // 3) // 2
    groups = (order[:part], order[middle : middle + part], order[-part:])
    return [(f"the {part} {word}", group) for word, group in zip(("best", "middle", "worst"), groups, strict=True)]


@_plain()
def curves(measured: Measured, names: Sequence[str], titles: Sequence[str], path: Path) -> None:
    """Write precision over recall of each class, or of some, at IoU 0.5 and 0.75, with AP in the title."""
    groups = chosen(measured.aps.mean(1))
    across = SHOWN // 3 if len(groups) > 1 else min(ACROSS, max(1, len(groups[0][1])))
    lines = [(word, some[at : at + across]) for word, some in groups for at in range(0, max(1, len(some)), across)]
    wide = 15 / max(4, across)
    figure = Figure(figsize=(max(10.0, wide * across), (wide + 0.45) * len(lines) + 1.2), layout="constrained")
    grid = figure.subplots(len(lines), across, squeeze=False, sharex=True, sharey=True)
    for axes, (word, some) in zip(grid, lines, strict=True):
        for axis in axes[len(some) :]:
            axis.set_visible(False)
        for axis, number in zip(axes, some, strict=False):
            _curve(axis, measured, number, _named([names[number]], 22)[0])
        axes[0].set_ylabel(f"{word}\nprecision" if word else "precision", fontsize=10)
    for column in grid.T:
        lowest = [axis for axis in column if axis.get_visible()][-1:]
        for axis in lowest:
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("recall", fontsize=10)
    without = int(np.isnan(measured.aps[:, 0]).sum())
    note = f"; {without} of {len(names)} classes have no test object" if without else ""
    said = "precision over recall, solid at IoU 0.5, dashed at 0.75, with AP / AP50 / AP75"
    dot = f"dot: score {measured.score:.2f}, of the highest F1{note}"
    _save(figure, [*titles, said, dot], path)


def _curve(axis: Axes, measured: Measured, number: int, name: str) -> None:
    matches, at = measured.matches, _places(measured)
    for threshold, colour, style in zip(at, ("#0072b2", "#d55e00"), ("-", "--"), strict=False):
        recall, precision = matches.curve(number, threshold)
        axis.plot(recall, precision, style, color=colour, linewidth=1.5)
        scores = np.sort(matches.score[(matches.category == number) & (matches.outcome[0, :, threshold] != 0)])
        shown = len(scores) - np.searchsorted(scores, measured.score)
        if shown:
            axis.plot(recall[shown - 1], precision[shown - 1], "o", color=colour, markersize=5)
    aps = measured.aps[number]
    numbers = " / ".join(f"{value:.1f}" for value in (aps.mean(), *aps[at]))
    axis.set_title(f"{name}\nAP {numbers}", fontsize=9)
    axis.set(xlim=(0, 1), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axis.tick_params(labelsize=9)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _places(measured: Measured) -> list[int]:
    """Places of the thresholds 0.5 and 0.75 that the matches have."""
    near = np.isclose(measured.matches.thresholds[:, None], (0.5, 0.75))
    return [int(column.argmax()) for column in near.T if column.any()]


def _named(names: Sequence[str], width: int) -> list[str]:
    """Names of classes in one line of at most ``width`` characters."""
    return shortened([printable(" ".join(name.split())) for name in names], width)


def _save(figure: Figure, titles: Sequence[str], path: Path) -> None:
    figure.suptitle("\n".join(_named(titles, 130)), fontsize=12, x=0.01, ha="left")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
