"""The difference of two checkpoints with a 95 % interval, over test images, downstream seeds and pretraining runs.

Three things could have come out otherwise: the test images, which both sides share; the seeds of the downstream runs,
paired where both sides have the same; and the pretraining runs, which are never paired. The images' part is a paired
bootstrap: every draw is a vector of image weights that all runs of both sides are scored with. The part of seeds or
runs is the variance of their means in closed form, because a bootstrap over three of them is too narrow
(``tests/benchmarks/statistics/test_paired.py`` has the coverage of both). The variation of each seed's own images is in
both parts and subtracted once (Owen, arXiv 0712.1111, section 3). The error of a difference is a normal part of the
images plus a Student's part of the few seeds or runs; Satterthwaite's approximation by one Student's distribution gives
p-values that are too small where the few happen to agree. Holm's procedure corrects the p-values of a table's rows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special

DRAWS = 1000
STEPS = 2000  # of the numerical mean over T
Level = Literal["images", "seeds", "runs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """Scores of one checkpoint, or of several pretraining runs of one recipe.

    ``scores`` has a list per pretraining run with the score of each downstream seed; ``drawn`` has likewise each seed's
    scores (B,) on B draws of the test images, the same draws on both sides, or is empty where some run kept no
    predictions. ``seeds`` are the seeds of each run.
    """

    scores: Sequence[Sequence[float]]
    seeds: Sequence[Sequence[int]]
    drawn: Sequence[Sequence[np.ndarray]] = ()

    @property
    def mean(self) -> float:
        """The mean over runs of the mean over seeds."""
        return float(np.mean([np.mean(run) for run in self.scores]))

    def drawn_mean(self) -> np.ndarray:
        """(B,) the same on every draw."""
        return np.asarray(np.mean([np.mean(run, axis=0) for run in self.drawn], axis=0))


@dataclasses.dataclass(frozen=True)
class Error:
    """The error of a difference: images·Z + between·T, Z normal and T Student's with ``freedom`` degrees (Behrens and
    Fisher's distribution)."""

    images: float
    between: float
    freedom: float

    def beyond(self, value: float) -> float:
        """The probability of an error of ``value`` or more on either side."""
        if not self.between:
            return float(2 * special.ndtr(-value / self.images)) if self.images else float(value == 0)
        if not self.images:
            return float(2 * special.stdtr(self.freedom, -value / self.between))
        middles = _middles(self.freedom) * self.between
        return float(sum(special.ndtr((sign * middles - value) / self.images).mean() for sign in (-1, 1)))

    def width(self, level: float) -> float:
        """Half of the interval that holds the error with probability ``level``."""
        if not self.images and not self.between:
            return 0.0
        tail = (1 - level) / 4
        most = self.between * -float(special.stdtrit(self.freedom, tail)) if self.between else 0.0
        most += self.images * -float(special.ndtri(tail))
        from scipy import optimize  # slow to import, and marks ask for no interval

        return float(optimize.brentq(lambda value: self.beyond(value) - (1 - level), 0.0, most, rtol=1e-6))


@functools.lru_cache
def _middles(freedom: float) -> np.ndarray:
    """Middles of STEPS parts of equal probability of the upper half of Student's distribution."""
    return np.asarray(-special.stdtrit(freedom, (np.arange(STEPS) + 0.5) / (2 * STEPS)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """a − b and its error, None where no level could be resampled; ``levels`` names the variation that is in it."""

    a: float
    b: float
    error: Error | None = None
    levels: tuple[Level, ...] = ()

    @property
    def value(self) -> float:
        """a − b."""
        return self.a - self.b

    @functools.cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        if self.error is None:
            return None
        width = self.error.width(0.95)
        return self.value - width, self.value + width

    @functools.cached_property
    def p(self) -> float | None:
        """Two-sided, of no difference."""
        return None if self.error is None else self.error.beyond(abs(self.value))


def draws(images: int, count: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(count, images) how often each test image is in each draw with replacement; the same for every pair."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=count)


def difference(a: Side, b: Side) -> Difference:
    """a − b with its interval over all levels that the two sides allow."""
    images = _images(a, b)
    between, freedom, level, shared = _between(a, b)
    if images is None and between is None:
        return Difference(a=a.mean, b=b.mean)
    error = Error(math.sqrt(max(0.0, (images or 0.0) - shared)), math.sqrt(between or 0.0), freedom)
    levels: tuple[Level, ...] = (*(("images",) if images is not None else ()), *((level,) if level else ()))
    return Difference(a=a.mean, b=b.mean, error=error, levels=levels)


def mean_error(side: Side) -> tuple[Error | None, tuple[Level, ...]]:
    """The error of one side's mean and the levels in it; None where no level could be resampled."""
    images = float(np.var(side.drawn_mean(), ddof=1)) if side.drawn else None
    pooled = len(side.scores) > 1
    ones = [np.mean(run) for run in side.scores] if pooled else list(side.scores[0])
    drawn = [np.mean(run, axis=0) for run in side.drawn] if pooled else [one for run in side.drawn for one in run]
    between = float(np.var(ones, ddof=1) / len(ones)) if len(ones) > 1 else None
    if images is None and between is None:
        return None, ()
    shared = _shared(drawn) if between is not None else 0.0
    freedom = len(ones) - 1 if between is not None else math.inf
    error = Error(math.sqrt(max(0.0, (images or 0.0) - shared)), math.sqrt(between or 0.0), freedom)
    level: Level = "runs" if pooled else "seeds"
    return error, (*(("images",) if images is not None else ()), *((level,) if between is not None else ()))


def _images(a: Side, b: Side) -> float | None:
    """Variance of the difference over draws of the test images; None where a side kept no predictions."""
    if not a.drawn or not b.drawn:
        return None
    return float(np.var(a.drawn_mean() - b.drawn_mean(), ddof=1))


def _between(a: Side, b: Side) -> tuple[float | None, float, Level | None, float]:
    """Variance of the difference between runs or seeds, its degrees of freedom, its level, and the part of it that the
    draws of images have too."""
    if min(len(a.scores), len(b.scores)) > 1:  # a run's mean has its seeds' variation in it
        variances = [np.var([np.mean(run) for run in side.scores], ddof=1) / len(side.scores) for side in (a, b)]
        counts = [len(side.scores) for side in (a, b)]
        shared = [_shared([np.mean(run, axis=0) for run in side.drawn]) for side in (a, b)]
        return *_welch(variances, counts), "runs", sum(shared)
    ones = [[score for run in side.scores for score in run] for side in (a, b)]
    seeds = [[seed for run in side.seeds for seed in run] for side in (a, b)]
    if min(map(len, ones)) < 2:
        return None, math.inf, None, 0.0
    drawn = [[one for run in side.drawn for one in run] for side in (a, b)]
    if sorted(seeds[0]) == sorted(seeds[1]) and len(set(seeds[0])) == len(seeds[0]):
        orders = [np.argsort(one) for one in seeds]
        deltas = np.array(ones[0])[orders[0]] - np.array(ones[1])[orders[1]]
        pairs = [drawn[0][i] - drawn[1][j] for i, j in zip(*orders, strict=True)] if all(drawn) else []
        return float(np.var(deltas, ddof=1) / len(deltas)), len(deltas) - 1, "seeds", _shared(pairs)
    variances = [np.var(one, ddof=1) / len(one) for one in ones]
    shared = [_shared(one) for one in drawn]
    return *_welch(variances, [len(one) for one in ones]), "seeds", sum(shared)


def _welch(variances: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """Variance of the difference of two means and its degrees of freedom (Welch, Satterthwaite)."""
    total = float(sum(variances))
    parts = sum(variance**2 / (count - 1) for variance, count in zip(variances, counts, strict=True))
    return total, total**2 / parts if parts else math.inf


def _shared(drawn: Sequence[np.ndarray]) -> float:
    """The images' part in the variance of a mean of seeds that is each seed's own; 0 without draws."""
    if len(drawn) < 2:
        return 0.0
    apart = np.stack(drawn) - np.mean(drawn, axis=0)
    return float(apart.var(axis=1, ddof=1).mean() / (len(drawn) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm, Scand. J. Stat. 6, 1979), in the given order: each is below α where its test rejects at
    the family's level α."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
