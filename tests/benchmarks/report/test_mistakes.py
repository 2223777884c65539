"""Confused classes, worst images and nearest neighbours against loops."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.predictions import Predictions
from benchmarks.report import mistakes


def one_label(n=300, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    predicted = np.where(rng.random(n) < 0.4, target, rng.integers(0, classes, n))
    return Predictions(target=target, predicted=predicted, confidence=rng.random(n).round(2))


def test_confused_pairs_are_those_that_a_counter_finds():
    found = one_label()
    pairs = mistakes.confused(found, 100)
    counts = Counter((t, p) for t, p in zip(found.target.tolist(), found.predicted.tolist(), strict=True) if t != p)
    assert {(one.truth, one.predicted): len(one.rows) for one in pairs} == counts
    assert [len(one.rows) for one in pairs] == sorted(counts.values(), reverse=True)
    for one in pairs:
        assert one.of == (found.target == one.truth).sum()
        assert (found.target[one.rows] == one.truth).all() and (found.predicted[one.rows] == one.predicted).all()
        assert (np.diff(found.confidence[one.rows]) <= 0).all()
    assert [(one.truth, one.predicted) for one in mistakes.confused(found, 3)] == [
        (one.truth, one.predicted) for one in pairs[:3]
    ]


def test_among_equal_counts_the_larger_share_comes_first():
    target, predicted = np.array([0, 0, 0, 1, 1]), np.array([1, 0, 0, 0, 1])
    pairs = mistakes.confused(Predictions(target=target, predicted=predicted), 9)
    assert [(one.truth, one.of) for one in pairs] == [(1, 2), (0, 3)]


def test_worst_are_the_most_confident_mistakes():
    found = one_label()
    expected = sorted(
        (row for row in range(300) if found.target[row] != found.predicted[row]),
        key=lambda row: (-found.confidence[row], row),
    )
    assert mistakes.worst(found, 20).tolist() == expected[:20]
    without = Predictions(target=found.target, predicted=found.predicted)
    assert mistakes.worst(without, 20).tolist() == sorted(expected)[:20]
    right = Predictions(target=found.target, predicted=found.target)
    assert mistakes.worst(right, 20).tolist() == [] == mistakes.confused(right, 20)


def test_worst_of_several_labels_leave_out_what_does_not_count():
    target = np.array([[1], [0], [-1], [1], [0], [0], [-1], [1]])
    scores = np.array([[-0.1], [0.2], [9.0], [-3.0], [5.0], [-1.0], [-9.0], [0.5]])
    found = Predictions(target=target, scores=scores)
    assert mistakes.highest_without(found, 0).tolist() == [4, 1, 5]
    assert mistakes.lowest_with(found, 0).tolist() == [3, 0, 7]
    assert np.flatnonzero(mistakes.wrong(found, 0)).tolist() == [0, 1, 3, 4]


def test_a_class_that_was_not_fitted_has_no_scores():
    target = np.array([[1], [0], [1]])
    for column, scored in (([0.1, 0.1, 0.2], True), ([0, 0, 0], False), ([0.1, np.nan, 0.2], False)):
        found = Predictions(target=target, scores=np.array(column)[:, None])
        assert mistakes.is_scored(found, 0) is scored


def test_nearest_against_a_double_loop(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 7)).astype(np.float32), rng.normal(size=(9, 7)).astype(np.float32)
    monkeypatch.setattr(mistakes, "CHUNK", 16)
    rows, cosines = mistakes.nearest(train, test, [8, 0, 3], 4)
    for place, row in enumerate([8, 0, 3]):
        exact = [float(test[row] @ one / np.linalg.norm(test[row]) / np.linalg.norm(one)) for one in train]
        order = sorted(range(50), key=lambda other: -exact[other])[:4]
        assert rows[place].tolist() == order
        np.testing.assert_allclose(cosines[place], [exact[other] for other in order], atol=1e-6)
    assert mistakes.nearest(train[:2], test, [0], 4)[0].shape == (1, 2)
    assert mistakes.nearest(np.zeros((3, 7), np.float32), test, [0], 4)[1].tolist() == [[0, 0, 0]]


LABELS = np.array([0, 1, 1, 2])
SEVERAL = np.array([[1, 0], [-1, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": LABELS[:3], "predicted": LABELS[:3]}, "3 images, where the test split has 4"),
        ({"target": LABELS[::-1]}, "other classes than the test images have"),
        ({"predicted": LABELS + 1}, "outside 0 … 2"),
        ({"predicted": LABELS - 1}, "outside 0 … 2"),
        ({"predicted": None}, "4 images"),
        ({"confidence": np.ones(3)}, r"confidence of shape \(3,\)"),
    ],
)
def test_predictions_of_other_images_are_found(changes, words):
    right = {"target": LABELS, "predicted": LABELS, "confidence": np.ones(4)}
    mistakes.check(Predictions(**right), LABELS, 3)
    with pytest.raises(ValueError, match=words):
        mistakes.check(Predictions(**right | changes), LABELS, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": np.ones((2, 3))}, "scores of shape"),
        ({"target": np.array([[1, 1], [-1, 1]])}, "a class in the target that is not in its image, or the other way"),
        ({"target": np.array([[0, 0], [-1, 1]])}, "or the other way round"),
    ],
)
def test_scores_of_other_images_are_found(changes, words):
    right = {"target": SEVERAL, "scores": np.ones((2, 2))}
    for ignored in (-1, 0, 1):  # evaluators differ in what they make of difficult objects
        mistakes.check(Predictions(target=np.array([[1, 0], [ignored, 1]]), scores=np.ones((2, 2))), SEVERAL, 2)
    with pytest.raises(ValueError, match=words):
        mistakes.check(Predictions(**right | changes), SEVERAL, 2)
