"""Linear probes of known factors on frozen features, tested on other images, of other groups where there are some.

A number's score is R², of a factor of several numbers over their sum; a category's is accuracy above chance,
(accuracy − share of the most frequent category of the fit) / (1 − that share). Both are 0 for features without the
factor and 1 for those from which a linear map reads it; a probe that overfits is below 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.data.factors import GROUP, Factor
from benchmarks.tasks.compute import ridge
from pretrain.common.errors import RunError

RESAMPLES = 1000
PERMUTATIONS = 5
AT_ONCE = 2_000_000  # numbers of resampling weights in memory
MOST = 20_000  # images fitted on: a probe of 2,048 weights gains little by more, and memory is bounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Fractions, None where the test images have one value alone. ``low`` and ``high``: 2.5 and 97.5 percentiles of a
    bootstrap over the test images.

    ``shuffled`` is the mean score of the same probe fitted on PERMUTATIONS of the factor: the score of no information.
    """

    value: float | None
    low: float | None
    high: float | None
    shuffled: float | None
    images: int

    def summary(self) -> dict[str, Any]:
        """Plain values for the record."""
        return dataclasses.asdict(self)


def probe(
    fit: np.ndarray, test: np.ndarray, factors: Mapping[str, Factor], groups: np.ndarray | None, seed: int = 0
) -> dict[str, Score]:
    """The score of each factor on features ``fit`` (n×D) and ``test`` (m×D); factors and ``groups`` are of n+m images.

    With groups there are two folds: fitted on one half of the groups and tested on the test images of the other, and
    the other way round; the column that makes the groups is tested on the same ones. ``seed`` draws the images fitted
    on where there are more than MOST, the permutations and the bootstrap. RunError for a factor without a test image.
    """
    halves = folds(groups) if groups is not None else None
    found: dict[str, Score] = {}
    for mask, names in _alike(factors):
        some = {name: factors[name] for name in names}
        for apart in (True, False):
            part = {name: one for name, one in some.items() if (halves is not None and name != GROUP) == apart}
            if part:
                found |= _probe(fit, test, part, mask, halves if apart else None, seed)
    return {name: found[name] for name in factors}


def folds(groups: np.ndarray) -> np.ndarray:
    """(N,) booleans: half of the groups (N, their numbers), every second one by number."""
    return np.asarray(groups % 2 == 1)


def _alike(factors: Mapping[str, Factor]) -> list[tuple[np.ndarray, list[str]]]:
    """Factors that are known of the same images share a decomposition."""
    found: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, one in factors.items():
        found.setdefault(one.known.tobytes(), (one.known, []))[1].append(name)
    return list(found.values())


def _probe(
    fit: np.ndarray,
    test: np.ndarray,
    factors: Mapping[str, Factor],
    known: np.ndarray,
    halves: np.ndarray | None,
    seed: int,
) -> dict[str, Score]:
    count, rng = len(fit), np.random.default_rng([seed, 0])
    true: dict[str, list[np.ndarray]] = {name: [] for name in factors}
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in factors}
    shuffled: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in range(PERMUTATIONS)] for name in factors}
    for half in (True, False) if halves is not None else (None,):
        chosen = known if half is None or halves is None else known & (halves == half)
        tested = known if half is None or halves is None else known & (halves != half)
        rows, others = np.flatnonzero(chosen[:count]), np.flatnonzero(tested[count:])
        if len(rows) > MOST:
            rows = np.sort(rng.choice(rows, MOST, replace=False))
        if len(rows) < 2 or not len(others):
            continue
        targets = [_target(one, rows) for one in factors.values()]
        orders = [rng.permutation(len(rows)) for _ in range(PERMUTATIONS)]
        every = [*targets, *(one[order] for order in orders for one in targets)]
        outputs = ridge.fit(fit[rows], every)(test[others])
        parts = np.split(outputs, np.cumsum([one.shape[1] for one in every])[:-1], axis=1)
        for place, (name, one) in enumerate(factors.items()):
            keep = np.isin(one.values[count + others], one.values[rows]) if one.kind == "category" else slice(None)
            true[name].append(_target(one, (count + others)[keep]))
            frequent = targets[place].mean(0)
            for kept, source in zip((predicted[name], *shuffled[name]), parts[place :: len(factors)], strict=True):
                kept.append(_answer(one, source[keep], frequent))
    return {name: _score(one, true[name], predicted[name], shuffled[name], seed) for name, one in factors.items()}


def _target(one: Factor, rows: np.ndarray) -> np.ndarray:
    """N×k numbers of the images ``rows`` that a probe regresses: the factor's, or a category's columns of 0 and 1."""
    # Of these rows alone: ImageNet's classes of all its images take 10 GB.
    return np.eye(len(one.names))[one.values[rows]] if one.kind == "category" else one.values[rows]


def _answer(one: Factor, outputs: np.ndarray, frequent: np.ndarray) -> np.ndarray:
    """m×k numbers; of a category m×2: the predicted one, and the most frequent one of the fit."""
    if one.kind != "category":
        return outputs
    there = np.where(frequent > 0, outputs, -np.inf)
    return np.stack([there.argmax(1), np.full(len(outputs), frequent.argmax())], 1)


def _score(
    one: Factor,
    true: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    shuffled: Sequence[Sequence[np.ndarray]],
    seed: int,
) -> Score:
    if not true or not sum(map(len, true)):
        raise RunError(f"factor {one.name}: no test image of a value that the fit has; give it more images")
    of_all = _sums(one, np.concatenate(true), np.concatenate(predicted))
    without = [_sums(one, np.concatenate(true), np.concatenate(several)) for several in shuffled]
    count = len(of_all)
    rng, values = np.random.default_rng([seed, 1]), []
    for begun in range(0, RESAMPLES, step := max(1, AT_ONCE // count)):
        weights = rng.multinomial(count, np.full(count, 1 / count), min(step, RESAMPLES - begun))
        values.append(_ratio(one, weights @ of_all, count))
    value, *without_it = (float(_ratio(one, sums.sum(0, keepdims=True), count)[0]) for sums in (of_all, *without))
    if not np.isfinite(value):
        return Score(value=None, low=None, high=None, shuffled=None, images=count)
    low, high = np.nanpercentile(np.concatenate(values), [2.5, 97.5])
    floor = sum(without_it) / len(without_it)
    return Score(value=value, low=float(low), high=float(high), shuffled=floor, images=count)


def _sums(one: Factor, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """m×s numbers per image whose sums decide the score."""
    if one.kind == "category":
        label = true.argmax(1)
        return np.stack([predicted[:, 0] == label, predicted[:, 1] == label], 1).astype(np.float64)
    spread = true.std(0) if one.kind == "number" else np.ones(true.shape[1])
    scaled = np.where(spread > 0, spread, 1.0)  # numbers of different units count alike
    errors, shifted = np.square((true - predicted) / scaled).sum(1), (true - true.mean(0)) / scaled
    return np.concatenate([errors[:, None], np.square(shifted).sum(1, keepdims=True), shifted], 1)


def _ratio(one: Factor, sums: np.ndarray, count: int) -> np.ndarray:
    """The score of each row of sums."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if one.kind == "category":
            right, chance = sums[:, 0] / count, sums[:, 1] / count
            return np.asarray((right - chance) / (1 - chance))
        return np.asarray(1 - sums[:, 0] / (sums[:, 1] - np.square(sums[:, 2:]).sum(1) / count))
