"""Labels from annotations, and average precision."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from benchmarks.tasks.compute.multilabel import (
    average_precision,
    eleven_point_precision,
    image_sets,
    labelled,
    undefined,
    usable,
)
from pretrain.common.errors import InputError
from tests.benchmarks.tasks.voc_roots import colours, voc_root

CHECKOUT = Path(__file__).resolve().parents[4]


def test_a_class_is_present_absent_or_only_difficult(tmp_path):
    images = {
        "000007": [],
        "000002": [("red", True)],
        "000003": [("red", True), ("red", False), ("blue", True), ("blue", True)],
        "000001": [("red", False), ("red", True), ("green", False)],
    }
    root = voc_root(tmp_path, {("train", "VOC2007", "trainval"): images, ("test", "VOC2007", "test"): colours(4, 1)})
    found = labelled(root, "train")
    assert [path.stem for path in found.images] == ["000001", "000002", "000003", "000007"]  # sorted, as VISSL's
    assert found.labels.tolist() == [[0, 1, 1], [0, 0, -1], [-1, 0, 1], [0, 0, 0]]  # of blue, green, red
    assert all(path.exists() for path in found.images)


def test_the_year_2007_is_taken_alone_where_there_are_others(tmp_path):
    lists = {
        ("train", "VOC2012", "trainval"): colours(6, 2),
        ("train", "VOC2007", "trainval"): colours(8, 1),
        ("test", "VOC2007", "test"): colours(7, 3),
    }
    root = voc_root(tmp_path, lists)
    data = usable(root, 1)
    assert len(data.train.images) == 8 and {path.parents[1].name for path in data.train.images} == {"VOC2007"}
    assert len(data.test.images) == 7 and data.counted == (0, 1, 2)
    assert data.notes == ("trained and tested on VOC2007 alone, as published, not on the root's VOC2012",)
    section = {"train": [["VOC2012", "trainval"]], "test": [["VOC2012", "test"]]}
    assert image_sets(section, "train") == [("VOC2012", "trainval")]


def test_classes_without_enough_images_do_not_count_and_are_named(tmp_path):
    train = {f"0{number}": [("red", False)] * (number < 3) + [("blue", False)] * (number < 2) for number in range(7)}
    test = {"11": [("red", False), ("blue", False)], "12": [("green", True)]}
    root = voc_root(tmp_path, {("train", "VOC2007", "trainval"): train, ("test", "VOC2007", "test"): test})
    data = usable(root, 3)
    assert data.counted == (2,) and data.notes == (
        "class blue does not count: 2 training images with and 5 without",
        "class green does not count: 0 training images with and 7 without",
    )
    assert usable(root, 2).counted == (0, 2)
    with pytest.raises(InputError, match=r"no class of data set colours can be classified \(blue has 2 training"):
        usable(root, 4)


def test_ignored_images_count_for_neither_side():
    train = np.array([[1], [1], [0], [-1], [-1]])
    assert undefined(train, train, 1) == {} and undefined(train, train, 2) == {
        0: "2 training images with and 1 without"
    }
    assert undefined(train, np.array([[1], [-1]]), 1) == {0: "1 test images with and 0 without"}


def test_a_list_that_is_gone_and_a_class_that_was_not_prepared(tmp_path):
    lists = {("train", "VOC2007", "trainval"): {"1": [("white", False)]}, ("test", "VOC2007", "test"): colours(2, 1)}
    root = voc_root(tmp_path, lists)
    with pytest.raises(InputError, match=r"1\.xml has an object of class white, which was not prepared"):
        labelled(root, "train")
    (tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "trainval.txt").unlink()
    with pytest.raises(InputError, match=r"trainval\.txt cannot be read \(No such file"):
        labelled(root, "train")


def examples():
    generator = np.random.default_rng(0)
    for count in (1, 2, 5, 40, 300):
        for share in (0.05, 0.3, 0.9):
            target = generator.random(count) < share
            target[generator.integers(count)] = True
            yield target, generator.normal(size=count) + target


def test_average_precision_is_the_mean_over_positives_of_the_best_precision_from_there_on():
    larger = 0
    for target, scores in examples():
        ranked = target[np.argsort(-scores)]
        precision = [ranked[: rank + 1].mean() for rank in range(len(ranked))]
        expected = np.mean([max(precision[rank:]) for rank in np.flatnonzero(ranked)])
        assert average_precision(target, scores) == pytest.approx(expected, abs=1e-12)
        without = average_precision_score(target, scores)  # scikit-learn does not interpolate
        assert average_precision(target, scores) >= without - 1e-12
        larger += average_precision(target, scores) > without + 1e-6
    assert larger >= 5
    assert average_precision(np.array([True, False]), np.array([2.0, 1.0])) == 1
    assert average_precision(np.array([True, False]), np.array([1.0, 2.0])) == 0.5
    assert np.isnan(average_precision(np.zeros(3, dtype=bool), np.arange(3.0)))


def test_of_equal_scores_the_later_image_ranks_first():
    target = np.array([False, True, False, True])
    assert average_precision(target, np.zeros(4)) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(target[::-1], np.zeros(4)) == pytest.approx(0.5)


def test_eleven_points_against_scikit_learns_curve():
    for target, scores in examples():
        precision, recall, _ = precision_recall_curve(target, scores)
        precision, recall = precision[:-1], recall[:-1]  # without its added end at recall 0
        points = [max(precision[recall >= step / 10], default=0) for step in range(11)]
        assert eleven_point_precision(target, scores) == pytest.approx(np.mean(points), abs=1e-12)
    assert np.isnan(eleven_point_precision(np.zeros(3, dtype=bool), np.arange(3.0)))


def test_labels_are_read_without_torch():
    code = "import sys, benchmarks.tasks.compute.multilabel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0
