"""Ridge regression whose penalty is chosen by leave-one-out errors, for many targets from one decomposition."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

ALPHAS = tuple(10.0**power for power in range(-1, 7))  # of standardised inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fitted map from n×d inputs to n×t targets. ``alphas``: the penalty of each group of targets."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray  # d×t, of standardised inputs
    offset: np.ndarray  # (t,)
    alphas: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """N×t."""
        found: np.ndarray = (x.astype(np.float64) - self.mean) / self.scale @ self.weights + self.offset
        return found


def fit(x: np.ndarray, y: Sequence[np.ndarray], alphas: Sequence[float] = ALPHAS) -> Ridge:
    """Regress each of the groups ``y`` (n×t_g each) on ``x`` (n×d), both centred, x standardised.

    A group has one penalty, the one of least summed squared leave-one-out error, whose closed form is
    (y − ŷ) / (1 − h) with the diagonal h of the hat matrix (Hastie, Tibshirani and Friedman, The Elements of
    Statistical Learning, eq. 7.64; sklearn.linear_model.RidgeCV computes the same). Constant inputs get no weight.
    """
    x = x.astype(np.float64)
    mean, scale = x.mean(0), x.std(0)
    scale[scale <= 1e-12 * np.abs(x).max()] = np.inf  # a constant input
    inputs = (x - mean) / scale
    targets = np.concatenate(y, 1).astype(np.float64)
    offset = targets.mean(0)
    centred = targets - offset
    values, vectors = np.linalg.eigh(inputs.T @ inputs)
    rotated, kept = inputs @ vectors, values.clip(0)
    projected = rotated.T @ centred
    ends = np.cumsum([0, *(one.shape[1] for one in y)])
    errors = np.empty((len(alphas), len(y)))
    for place, alpha in enumerate(alphas):
        shrunk = 1 / (kept + alpha)
        hat = 1 / len(x) + np.square(rotated) @ shrunk
        left_out = np.square((centred - rotated @ (shrunk[:, None] * projected)) / (1 - hat)[:, None]).sum(0)
        errors[place] = [left_out[begin:end].sum() for begin, end in itertools.pairwise(ends)]
    best = [alphas[place] for place in errors.argmin(0)]
    chosen = np.repeat(best, np.diff(ends))
    weights = vectors @ (projected / (kept[:, None] + chosen))
    return Ridge(mean=mean, scale=scale, weights=weights, offset=offset, alphas=tuple(best))
