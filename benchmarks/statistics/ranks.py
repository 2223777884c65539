"""Ranks of rows over columns, and Kendall's τ-b between columns, with intervals.

A mean over columns of unlike units is none: ranks within columns are comparable. Ranks and τ-b count ties (Kendall,
Biometrika 33, 1945). The columns are fixed: a mean rank's interval says how it would come out with other test images
and downstream seeds. A τ's interval draws the rows too, as other checkpoints might have been compared.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from benchmarks.statistics.paired import DRAWS, Side, mean_error

PERMUTATIONS = 10_000
EXACT = 7  # rows of which all orders are tried
FEWEST = 8  # rows of an interval of τ: with 6 it held the truth in 87 % of 300 simulations, with 8 in 95 to 98 %
LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correlation:
    """Kendall's τ-b of ``n`` rows, NaN where a column is constant; ``p`` of no association, over orders of the rows.

    ``interval`` is None for fewer than FEWEST rows.
    """

    tau: float
    n: int
    p: float
    interval: tuple[float, float] | None


def redrawn(side: Side, rng: np.random.Generator, count: int = DRAWS) -> np.ndarray:
    """(count,) the mean as it could have come out: on draws of the images, and with Student's error of seeds or runs.

    Draw b of every side is of the same images. The mean itself where nothing is known of either.
    """
    error, _ = mean_error(side)
    found = np.full(count, side.mean)
    if error is None:
        return found
    if side.drawn and error.images:
        drawn = side.drawn_mean()[:count]
        found += (drawn - drawn.mean()) * (error.images / drawn.std(ddof=1))
    if error.between:
        found += error.between * rng.standard_t(error.freedom, count)
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, 1 for the highest; equal values share the mean of their ranks. NaN is not allowed."""
    above = (values[..., None, :] > values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return np.asarray(above + (equal + 1) / 2)


def tau_b(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's τ-b along the last axis; NaN where one of the two is constant."""
    upper = np.triu_indices(x.shape[-1], 1)
    signs = [np.sign(one[..., upper[0]] - one[..., upper[1]]) for one in (x, y)]
    untied = np.sqrt(np.abs(signs[0]).sum(-1) * np.abs(signs[1]).sum(-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((signs[0] * signs[1]).sum(-1) / np.where(untied > 0, untied, np.nan))


def mean_rank_intervals(draws: np.ndarray) -> list[tuple[float, float]]:
    """For draws B×columns×rows of the values, larger better: the 95 % interval of each row's mean rank."""
    found = ranks(draws).mean(1)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def by_chance(column_ranks: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """For ranks columns×rows: the central 95 % of a row's mean rank were every column's order random."""
    rng = np.random.default_rng(seed)
    picked = [rng.choice(one, PERMUTATIONS) for one in column_ranks]
    low, high = np.quantile(np.mean(picked, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def correlation(
    x: np.ndarray, y: np.ndarray, drawn: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0
) -> Correlation:
    """τ-b of two columns (n,). ``drawn``: B×n values of each on draws of images and seeds, for the interval."""
    rng = np.random.default_rng(seed)
    tau, n = float(tau_b(x, y)), len(x)
    if math.isnan(tau) or n < FEWEST:
        return Correlation(tau=tau, n=n, p=_p(x, y, tau, rng), interval=None)
    xs, ys = drawn or (np.tile(x, (DRAWS, 1)), np.tile(y, (DRAWS, 1)))
    rows = rng.integers(n, size=xs.shape)
    found = tau_b(np.take_along_axis(xs, rows, 1), np.take_along_axis(ys, rows, 1))
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(tau=tau, n=n, p=_p(x, y, tau, rng), interval=(float(low), float(high)))


def _p(x: np.ndarray, y: np.ndarray, tau: float, rng: np.random.Generator) -> float:
    """Two-sided, over all orders of few rows, else over random ones and the observed one."""
    if math.isnan(tau) or len(x) < 2:
        return math.nan
    if len(x) <= EXACT:
        orders = np.array(list(itertools.permutations(range(len(x)))))
        return float((np.abs(tau_b(x[None], y[orders])) >= abs(tau) - 1e-9).mean())
    orders = np.argsort(rng.random((PERMUTATIONS, len(x))), axis=1)
    beyond = int((np.abs(tau_b(x[None], y[orders])) >= abs(tau) - 1e-9).sum())
    return (beyond + 1) / (PERMUTATIONS + 1)
