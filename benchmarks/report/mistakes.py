"""Find what to show of a classifier's predictions: confused classes, worst images, nearest neighbours. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.predictions import Predictions

CHUNK = 8192  # training rows whose cosines are computed at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Test images of class ``truth`` that were taken for class ``predicted``.

    ``rows`` are their numbers, the most confident first; ``of`` counts all test images of the true class.
    """

    truth: int
    predicted: int
    rows: np.ndarray
    of: int


def check(found: Predictions, labels: np.ndarray, classes: int) -> None:
    """ValueError where ``found`` cannot be of the test set whose images have ``labels``.

    They are class numbers (N,), or of several per image N×C: 1 where an object of the class is in the image, 0 where
    none is, −1 where all are ignored by some evaluators.
    """
    if found.scores is not None:
        if not found.target.shape == found.scores.shape == labels.shape:
            raise ValueError(f"scores of shape {found.scores.shape}, where the test set has {labels.shape}")
        if ((labels == 1) != (found.target == 1))[labels >= 0].any():
            raise ValueError("a class in the target that is not in its image, or the other way round")
        return
    if found.predicted is None or not found.target.shape == found.predicted.shape == labels.shape:
        raise ValueError(f"{len(found.target)} images, where the test split has {len(labels)}")
    if found.confidence is not None and found.confidence.shape != labels.shape:
        raise ValueError(f"confidence of shape {found.confidence.shape}")
    if (found.target != labels).any():
        raise ValueError("other classes than the test images have")
    if (found.predicted < 0).any() or (found.predicted >= classes).any():
        raise ValueError(f"a predicted class outside 0 … {classes - 1}")


def confidence(found: Predictions) -> np.ndarray:
    """(N,) as kept; zeros where the run has none, so that the order of the images counts."""
    return found.confidence if found.confidence is not None else np.zeros(len(found.target))


def confused(found: Predictions, count: int) -> list[Pair]:
    """The ``count`` pairs of classes with most mistakes; among equals the larger share of the true class first."""
    assert found.predicted is not None
    wrong = np.flatnonzero(~found.correct)
    wrong = wrong[np.argsort(-confidence(found)[wrong], kind="stable")]
    sizes = np.bincount(found.target)
    rows: dict[tuple[int, int], list[int]] = {}
    for row in wrong.tolist():
        rows.setdefault((int(found.target[row]), int(found.predicted[row])), []).append(row)
    pairs = [
        Pair(truth=truth, predicted=predicted, rows=np.array(some), of=int(sizes[truth]))
        for (truth, predicted), some in rows.items()
    ]
    return sorted(pairs, key=lambda one: (-len(one.rows), one.of, one.truth, one.predicted))[:count]


def worst(found: Predictions, count: int) -> np.ndarray:
    """Numbers of the wrong images with the highest confidence, the highest first."""
    wrong = np.flatnonzero(~found.correct)
    return wrong[np.argsort(-confidence(found)[wrong], kind="stable")][:count]


def highest_without(found: Predictions, label: int) -> np.ndarray:
    """Numbers of the images without class ``label``, the highest score first: the worst false positives."""
    return _by_score(found, label, 0, -1)


def lowest_with(found: Predictions, label: int) -> np.ndarray:
    """Numbers of the images with class ``label``, the lowest score first: the worst misses."""
    return _by_score(found, label, 1, 1)


def wrong(found: Predictions, label: int) -> np.ndarray:
    """(N,) booleans: the class is predicted and absent, or present and not predicted; ignored images are not wrong."""
    return (found.target[:, label] >= 0) & ~found.correct[:, label]


def is_scored(found: Predictions, label: int) -> bool:
    """Whether the images have scores of class ``label`` that differ: runs keep a constant where they fitted nothing."""
    column = _scores(found)[:, label]
    return bool(np.isfinite(column).all() and (column != column[0]).any())


def _scores(found: Predictions) -> np.ndarray:
    assert found.scores is not None
    return found.scores


def _by_score(found: Predictions, label: int, target: int, sign: int) -> np.ndarray:
    rows = np.flatnonzero(found.target[:, label] == target)
    return rows[np.argsort(sign * _scores(found)[rows, label], kind="stable")]


def nearest(train: np.ndarray, test: np.ndarray, rows: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the features ``test[rows]`` (M×D) the ``count`` nearest of ``train`` (N×D): numbers and cosines, M×count.

    The nearest first; fewer than ``count`` where there are fewer.
    """
    wanted = _normalised(test[np.asarray(rows, dtype=int)])
    cosines = np.empty((len(wanted), len(train)), np.float32)
    for begun in range(0, len(train), CHUNK):
        part = _normalised(train[begun : begun + CHUNK])
        cosines[:, begun : begun + len(part)] = wanted @ part.T
    found = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return found, np.take_along_axis(cosines, found, axis=1)


def _normalised(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
