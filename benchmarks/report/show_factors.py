"""The scores of a run's factors with their intervals, of the features and the embedding, for show.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.data.pictures import GAP, WIDTH, heading
from benchmarks.data.root import DataRoot
from benchmarks.records import RunRecord
from benchmarks.report.text import shortened
from benchmarks.tasks.factors import Z
from pretrain.common.errors import InputError

LAYERS = {"": ("features h", "#4c72b0"), Z: ("embedding z", "#dd8452")}
LABEL = 36  # characters


def bands(record: RunRecord, root: DataRoot, folder: Path, count: int) -> list[Image.Image]:
    """The picture of the scores in the record, below its title. InputError for a damaged record."""
    scores: dict[str, Any] = record.config.get("factors", {})
    known = {name: one for name, one in scores.items() if isinstance(one, dict) and one.get("value") is not None}
    if not known:
        raise InputError(f"the record of {record.label} has no score of a factor: run it again with --rerun always")
    about = (
        f"{record.test_images:,} test images; 100: a linear map reads the factor, 0: chance; bars: 95 % intervals over "
        "the test images; vertical line: the same probe fitted on permutations"
    )
    return [heading(about, 15), _chart(known)]


def _chart(scores: dict[str, Any]) -> Image.Image:
    """One bar per factor and layer, in the record's order."""
    layers = {before: (word, colour) for before, (word, colour) in LAYERS.items() if _named(scores, before)}
    names = _named(scores, "")
    figure = Figure(figsize=((WIDTH - 2 * GAP) / 120, 0.9 + 0.32 * len(layers) * len(names)), layout="constrained")
    axis, thick = figure.subplots(), 0.8 / len(layers)
    for number, (before, (word, colour)) in enumerate(layers.items()):
        kept = [(place, scores[before + name]) for place, name in enumerate(names) if before + name in scores]
        at = np.array([place for place, _ in kept]) + (number - (len(layers) - 1) / 2) * thick
        value, low, high, shuffled = (
            100 * np.array([one[key] for _, one in kept]) for key in ("value", "low", "high", "shuffled")
        )
        axis.barh(at, value, thick * 0.92, color=colour, label=word)
        spans = np.clip([value - low, high - value], 0, None)
        axis.errorbar(value, at, xerr=spans, fmt="none", ecolor="black", capsize=2)
        axis.scatter(shuffled, at, marker="|", s=60, color="black", linewidths=1)
        for place, end, one in zip(at, high, value, strict=True):
            axis.annotate(
                f"{one:.1f}", (max(end, 0), place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), shortened(names, LABEL))
    axis.invert_yaxis()
    axis.set_xlabel("percent above chance: R², or accuracy of a category")
    if len(layers) > 1:
        axis.legend(loc="lower right", frameon=False)
    stored = io.BytesIO()
    figure.savefig(stored, format="png", dpi=120)
    return Image.open(stored).convert("RGB")


def _named(scores: dict[str, Any], before: str) -> list[str]:
    """The factors of a layer."""
    if before:
        return [name.removeprefix(before) for name in scores if name.startswith(before)]
    return [name for name in scores if not name.startswith(Z)]
