"""The support vector machines of voc07-svm beside scikit-learn's LinearSVC as VISSL calls it, both sides in one run.

Run: ``python -m benchmarks.perf svm --rows 5011 --dim 8192 --classes 1``, VOC2007's size; or on the features that a run
has extracted, with ``--features results/features/KEY/labelled-train.npy --data results/data/NAME``.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from benchmarks.data.root import DataRoot
from benchmarks.perf.timing import processor
from benchmarks.tasks.compute.multilabel import PRESENT, usable
from benchmarks.tasks.compute.svm import Rows, choose_and_fit, normalised
from benchmarks.tasks.voc07_svm import SvmConfig
from pretrain.common.device import best_device
from pretrain.common.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Choose and fit each class, on synthetic features that overlap as a network's do, or on real ones."""

    rows: int = 1500
    dim: int = 2048
    classes: int = 2
    rank: int = 200  # directions that most of the variance is in
    share: float = 0.1  # of the images with a class
    features: Path | None = None  # labelled-train.npy of a run of voc07-svm, instead of synthetic ones
    data: Path | None = None  # its prepared data root


def synthetic(arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    """Features N×D float32, non-negative, of decaying spectrum, and N×classes booleans that they hardly tell."""
    generator = np.random.default_rng(0)
    present = generator.random((arguments.rows, arguments.classes)) < arguments.share
    scale = np.arange(1, arguments.rank + 1) ** -0.7
    few = generator.normal(size=(arguments.rows, arguments.rank)) * scale
    few[:, -arguments.classes :] += 1.5 * scale[-1] * present
    x = few @ generator.normal(size=(arguments.rank, arguments.dim))
    x += 0.002 * generator.normal(size=x.shape) + 0.5
    return np.maximum(x, 0).astype(np.float32), present


def inputs(arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    """Features N×D and N×classes booleans. InputError where the two files of real ones do not belong together."""
    if arguments.features is None or arguments.data is None:
        return synthetic(arguments)
    data = usable(DataRoot.load(arguments.data), SvmConfig().folds)
    try:
        x = np.load(arguments.features)
    except (OSError, ValueError) as error:
        raise InputError(f"{arguments.features} cannot be read ({error}): give a labelled-train.npy") from None
    if len(x) != len(data.train.images):
        raise InputError(f"{arguments.features} has {len(x)} rows, {arguments.data} {len(data.train.images)} images")
    return x, data.train.labels[:, data.counted[: arguments.classes]] == PRESENT


def reference(x: np.ndarray, present: np.ndarray, config: SvmConfig) -> tuple[float, np.ndarray, int]:
    """(cost, costs × folds average precisions, fits that ended at 2,000 passes) of scikit-learn at VISSL's settings."""
    y, tried = np.where(present, 1, -1), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for cost in config.costs:
            tried.append(cross_val_score(_machine(cost), x, y, cv=config.folds, scoring="average_precision"))
        best = config.costs[int(np.argmax([one.mean() for one in tried]))]
        _machine(best).fit(x, y)
    short = sum(issubclass(one.category, ConvergenceWarning) for one in caught)
    return best, np.array(tried), short


def _machine(cost: float) -> LinearSVC:
    return LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, tol=1e-4, max_iter=2000, random_state=0)


def measure(arguments: Arguments) -> str:
    """Seconds of both sides, their ratio, and how far their choices and precisions are apart."""
    config, (x, present) = SvmConfig(), inputs(arguments)
    begun = time.perf_counter()
    rows = Rows.of(normalised(x, config.normalise_eps, best_device()))
    ours, theirs = time.perf_counter() - begun, 0.0
    unit, same, apart, short, unconverged = rows.x[:, :-1].cpu().numpy(), 0, 0.0, 0, 0
    for number in range(present.shape[1]):
        begun = time.perf_counter()
        found = choose_and_fit(rows, present[:, number], config)
        ours += time.perf_counter() - begun
        begun = time.perf_counter()
        cost, tried, ended = reference(unit, present[:, number], config)
        theirs += time.perf_counter() - begun
        same += cost == found.cost
        apart = max(apart, np.abs(tried.mean(1) - found.tried.mean(1)).max())
        short, unconverged = short + ended, unconverged + found.unconverged
    fits = present.shape[1] * (config.folds * len(config.costs) + 1)
    return "\n".join(
        [
            f"{len(x):,} × {x.shape[1]} features, {present.shape[1]} classes, {fits} fits; "
            f"{best_device()}, {processor()}, {torch.get_num_threads()} threads",
            f"{'scikit-learn, tol 1e-4, 2,000 passes':40}{theirs:9.1f} s    1.0×   {short} fits unconverged",
            f"{'Newton, gradient 1e-8':40}{ours:9.1f} s {theirs / ours:6.1f}×   {unconverged} fits unconverged",
            f"same cost for {same} of {present.shape[1]} classes; mean precision of the folds at most "
            f"{100 * apart:.3f} points apart at any cost",
        ]
    )
