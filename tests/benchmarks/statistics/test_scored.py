"""Metrics on draws of the test images against the same metric of the images drawn, one after another."""

import dataclasses

import numpy as np
import pytest

from benchmarks.predictions import Predictions
from benchmarks.records import ResultsStore
from benchmarks.statistics import scored as module
from benchmarks.statistics.paired import draws
from benchmarks.statistics.scored import on_draws, scored
from benchmarks.tasks.compute.multilabel import average_precision
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.statistics.test_average_precision import random_matches


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Save a record with files that ``write`` makes in its folder; the record and its file."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))

    def save(metrics, write, **spec):
        store, record = ResultsStore(), make_record(make_spec(**spec), metrics)
        folder = store.working_folder(record.spec)
        folder.mkdir(parents=True)
        write(folder)
        record = dataclasses.replace(record, files=store.working_files(record.spec))
        return record, store.save(record)

    return save


def labelled(rng, images=60):
    target = rng.integers(4, size=images)
    predicted = np.where(rng.random(images) < 0.6, target, rng.integers(4, size=images))
    return Predictions(target=target, predicted=predicted, confidence=rng.random(images))


def test_accuracy_of_the_drawn_images(saved):
    predictions = labelled(np.random.default_rng(0))
    top1 = 100 * predictions.correct.mean()
    record, path = saved({"top1": top1, "top5": 90.0}, predictions.save)
    found = on_draws(record, path, count=30)
    assert found.keys() == {"top1"}  # nothing kept says how often the label is among five
    for value, weights in zip(found["top1"], draws(60, 30), strict=True):
        assert value == pytest.approx(100 * predictions.correct[np.repeat(np.arange(60), weights)].mean())


def test_mean_average_precision_of_the_drawn_images(saved):
    rng = np.random.default_rng(1)
    target = rng.choice([1, 0, -1], size=(50, 3), p=[0.3, 0.6, 0.1])
    scores = rng.normal(size=(50, 3)).astype(np.float32) + target
    predictions = Predictions(target=target, scores=scores)

    def mean(rows):
        values = [
            average_precision(target[rows, c][target[rows, c] >= 0] > 0, scores[rows, c][target[rows, c] >= 0])
            for c in range(3)
        ]
        return 100 * np.mean(values)

    record, path = saved({"mAP": mean(np.arange(50))}, predictions.save, task="voc07-svm")
    found = on_draws(record, path, count=20)["mAP"]
    for value, weights in zip(found, draws(50, 20), strict=True):
        assert value == pytest.approx(mean(np.repeat(np.arange(50), weights)))


def test_a_detectors_numbers_are_those_of_its_matches(saved):
    matches = random_matches(np.random.default_rng(2), "coco", thresholds=10)
    each = np.stack([matches.ap(category) for category in range(4)])
    metrics = {"bbox/AP": 100 * each.mean(), "bbox/AP50": 100 * each[:, 0].mean(), "bbox/AP75": 100 * each[:, 5].mean()}
    small = 100 * matches.mean_ap(area=1)
    record, path = saved(
        metrics | {"bbox/APs": small}, lambda folder: matches.save(folder / "matches-bbox.npz"), task="coco-det-fpn-1x"
    )
    found = on_draws(record, path, count=10)
    assert found.keys() == metrics.keys() and on_draws(record, path, True, 10).keys() == {*metrics, "bbox/APs"}
    for number, weights in enumerate(draws(40, 10)):
        assert found["bbox/AP"][number] == pytest.approx(100 * matches.mean_ap(weights=weights))


def test_a_number_that_the_files_do_not_give_has_no_draws(saved):
    predictions = labelled(np.random.default_rng(3))
    record, path = saved({"top1": 100 * predictions.correct.mean() + 0.01}, predictions.save)
    assert on_draws(record, path, count=5) == {}
    bare = make_record(make_spec(seed=1), {"top1": 50.0})
    assert scored(ResultsStore().save(bare)) == []


def test_the_draws_are_kept_and_a_broken_file_is_made_again(saved, monkeypatch, tmp_path):
    predictions = labelled(np.random.default_rng(4))
    record, path = saved({"top1": 100 * predictions.correct.mean()}, predictions.save)
    first = on_draws(record, path, count=5)["top1"]
    (kept,) = (tmp_path / "statistics").glob("*.npz")
    with monkeypatch.context() as without:
        without.setattr(module, "scored", None)
        np.testing.assert_array_equal(on_draws(record, path, count=5)["top1"], first)
        with pytest.raises(TypeError):
            on_draws(record, path, count=6)
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(on_draws(record, path, count=5)["top1"], first)
    other = dataclasses.replace(record, metrics={"top1": 1.0})
    later = ResultsStore().save(other)
    assert on_draws(other, later, count=5) == {}  # another attempt has its own
