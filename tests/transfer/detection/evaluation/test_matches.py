"""Curves and AP from kept matches. That they equal the evaluators' is in test_coco.py and test_voc.py."""

import dataclasses

import numpy as np
import pytest

from pretrain.common.errors import InputError
from transfer.detection.evaluation.matches import FALSE, RULES, TRUE, UNCOUNTED, Matches, load_matches


def matches(rule, seed=0, images=8):
    rng = np.random.default_rng(seed)
    image, object_image = (np.sort(rng.integers(0, images, count)) for count in (60, 40))
    return Matches(
        ids=np.arange(images),
        image=image,
        category=rng.integers(0, 3, 60),
        score=rng.integers(0, 10, 60) / np.float32(10),
        outcome=rng.choice([UNCOUNTED, TRUE, FALSE], (1, 60, 2)).astype(np.uint8),
        object_image=object_image,
        object_category=rng.integers(0, 2, 40),  # the third class has none
        object_counts=rng.random((40, 1)) < 0.9,
        thresholds=np.array([0.5, 0.75]),
        areas=("all",),
        classes=("ant", "bee", "cat"),
        rule=rule,
    )


def drawn(given, times):
    """The matches of a data set in which image i occurs times[i] times."""
    which = np.repeat(np.arange(len(given.ids)), times)
    rows = [np.flatnonzero(given.image == one) for one in which]
    objects = [np.flatnonzero(given.object_image == one) for one in which]
    detections, truths = np.concatenate(rows), np.concatenate(objects)
    return Matches(
        ids=np.arange(len(which)),
        image=np.repeat(np.arange(len(which)), [len(one) for one in rows]),
        category=given.category[detections],
        score=given.score[detections],
        outcome=given.outcome[:, detections],
        object_image=np.repeat(np.arange(len(which)), [len(one) for one in objects]),
        object_category=given.object_category[truths],
        object_counts=given.object_counts[truths],
        thresholds=given.thresholds,
        areas=given.areas,
        classes=given.classes,
        rule=given.rule,
    )


@pytest.mark.parametrize("rule", RULES)
def test_the_curve_is_counted_by_hand(rule):
    given = matches(rule)
    order = sorted(np.flatnonzero(given.category == 1), key=lambda one: (-given.score[one], given.image[one], one))
    total = sum(given.object_counts[given.object_category == 1, 0])
    true = false = 0
    expected = []
    for one in order:
        true += given.outcome[0, one, 1] == TRUE
        false += given.outcome[0, one, 1] == FALSE
        if given.outcome[0, one, 1] != UNCOUNTED:
            expected.append((true / total, true / (true + false)))
    assert len(expected) > 5 and np.allclose(np.transpose(given.curve(1, 1)), expected, atol=1e-15)
    assert given.objects(1) == total


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_weights_count_an_image_as_often_as_it_was_drawn(seed, rule):
    given = dataclasses.replace(matches(rule, seed), score=np.random.default_rng(seed).permutation(60) / np.float32(60))
    times = np.bincount(np.random.default_rng(seed).integers(0, 8, 8), minlength=8)
    assert given.mean_ap(weights=times) == pytest.approx(drawn(given, times).mean_ap(), abs=1e-12)
    assert given.mean_ap(weights=np.ones(8, int)) == given.mean_ap() != given.mean_ap(weights=times)


def test_a_class_without_an_object_has_no_ap():
    given = matches("coco")
    assert np.isnan(given.ap(2)).all() and np.isnan(given.curve(2)[0]).all()
    assert given.mean_ap() == pytest.approx(np.mean([given.ap(0), given.ap(1)]))
    assert np.isnan(given.mean_ap(weights=np.zeros(8)))


def test_they_are_read_back(tmp_path):
    given = matches("voc2007")
    given.save(tmp_path / "m.npz")
    for name, value in vars(load_matches(tmp_path / "m.npz")).items():
        assert np.array_equal(value, getattr(given, name)) and type(value) is type(getattr(given, name)), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": np.zeros(59)}, r"score has the shape \(59,\), not \(60,\)"),
        ({"outcome": np.zeros((1, 60, 3), np.uint8)}, "outcome has the shape"),
        ({"outcome": np.full((1, 60, 2), 3)}, "outcome is not of whole numbers from 0 to 2"),
        ({"image": np.full(60, 8)}, "image is not of whole numbers from 0 to 7"),
        ({"object_category": np.full(40, -1)}, "object_category is not of whole numbers from 0 to 2"),
        ({"category": np.zeros(60)}, "category is not of whole numbers"),
        ({"rule": "mine"}, "rule is 'mine'"),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_named(change, words, tmp_path):
    """As in an archive of somebody else's."""
    dataclasses.replace(matches("coco"), **change).save(tmp_path / "m.npz")
    with pytest.raises(InputError, match=rf"m\.npz cannot be read .*{words}"):
        load_matches(tmp_path / "m.npz")
