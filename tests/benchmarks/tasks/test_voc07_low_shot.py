"""VOC07 classification on few images per class."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from benchmarks.report.published import published_settings
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.compute import svm_runs
from benchmarks.tasks.compute.multilabel import average_precision, labelled, usable
from benchmarks.tasks.compute.svm_runs import LowShotRuns, draw
from benchmarks.tasks.voc07_low_shot import DRAWS, SHOTS, SHOWN, factor_of, key, notes
from benchmarks.tasks.voc07_svm import SvmConfig
from tests.benchmarks.tasks import test_voc07_svm
from tests.benchmarks.tasks.test_voc07_svm import executed, small_root

TASK = TASKS["voc07-low-shot"]
results = test_voc07_svm.results


IN_WORDS = {
    "layers": "res5: AvgPool2d kernel 6 stride 1 padding 0 -> 8192",
    "input": "Resize([224, 224]) square directly (no 256 step, unlike svm.vissl)",
    "sampling": "Draws are independent between classes, k values and draws",
    "negatives_per_class": "19 * k drawn from all images without the class",
    "seed": "none in the sampling code",
    "training_images": "per class only the entries != -1",
    "normalisation": "f / (||f||_2 + 1e-5) per image",
    "classifier": "sklearn.svm.LinearSVC, l2, squared_hinge, dual, tol 1e-4, max_iter 2000, class_weight {1: 2, -1: 1}",
    "test_split": "ignore label (-1) dropped per class",
    "ap": "area under the interpolated precision-recall curve, all points",
    "metric": "mean over 20 classes at one cost shared by all classes",
    "cost_selection": "per k: the cost whose TEST mAP averaged over the 5 draws is highest",
    "aggregate": "over the 5 draws at that cost",
}


def test_its_settings_are_the_published_ones_key_by_key():
    published = published_settings()["lowshot"]["vissl"]
    found = TASK.settings(Setup(profile="paper")).values
    assert (published["shots"], published["costs"]) == (list(found["shots"]), list(found["costs"]))
    assert published["draws"] == DRAWS and published["cross_validation"] is False and "folds" not in found
    assert published["negatives_factor"] == factor_of(20) and found["negatives_per_shot"] == "classes - 1"
    for name, word in IN_WORDS.items():
        assert word in published[name] or any(word in one for one in published[name]), name
    compared = {"shots", "costs", "draws", "cross_validation", "negatives_factor"}
    assert published.keys() == compared | IN_WORDS.keys() | {"source", "expected"}
    view = {"resize": 224, "crop": 224, "squash": True, "squash_to_crop": False, "layer": "res5-2x2"}
    weights = {"class_weight_positive": 2, "class_weight_negative": 1, "normalise_eps": 1e-5}
    assert found.items() >= (view | weights | {"cost_selection": "test", "ignored": "dropped"}).items()


def test_its_columns():
    shown = [metric.key for metric in TASK.metrics if metric.shown]
    assert (
        shown == [f"{shots}-shot/mAP" for shots in SHOWN] == ["1-shot/mAP", "4-shot/mAP", "16-shot/mAP", "96-shot/mAP"]
    )
    assert not TASK.deterministic and len(TASK.metrics) == len(SHOTS) == 8


def test_a_draw_has_its_numbers_of_images_and_no_ignored_one():
    labels = np.repeat([1, 0, -1], (20, 60, 30))
    rows = draw(labels, 8, 40, 0, 3)
    assert (labels[rows] == 1).sum() == 8 and (labels[rows] == 0).sum() == 40 and len(set(rows)) == 48
    assert (draw(labels, 8, 40, 0, 3) == rows).all()
    others = [draw(labels, 8, 40, 1, 3), draw(labels, 8, 40, 0, 4)]
    assert all(set(other) != set(rows) for other in others)
    assert (labels[draw(labels, 8, 500, 0, 3)] == 0).sum() == 60
    many = np.concatenate([draw(labels, 2, 6, seed, 0) for seed in range(3000)])
    assert np.abs(np.bincount(many, minlength=110)[:80] / 300 - 1).max() < 0.25  # every image equally often: 300 ± 17


def test_a_record_has_a_number_for_each_k_that_the_data_have(tmp_path, results):
    root = small_root(tmp_path / "root")
    record, predictions = executed(root, "voc07-low-shot", 3)
    train = labelled(root, "train").labels
    most, least = (train == 1).sum(0).min(), (train == 0).sum(0).min()
    assert 8 <= most < 32
    for shots in SHOTS:
        value = record.metrics[key(shots)]
        assert (value is None) == (shots > most)
        if value is not None:
            tried = record.config["svm"][str(shots)]
            assert value == max(tried["mAP"].values()) == tried["mAP"][str(tried["cost"])] and len(tried["mAP"]) == 11
    assert record.metrics[key(8)] > 50
    assert "best on the test images" in record.notes[0] and f"a class has {most} training images" in record.notes[1]
    assert "32, 64, 96 shots" in record.notes[1] and (len(record.notes) == 3) == (least < 2 * most)
    assert record.files == ("predictions.npz",) and predictions.scores.shape == (30, 3)
    again, _ = executed(root, "voc07-low-shot", 3)
    other, _ = executed(root, "voc07-low-shot", 4)
    assert again.metrics == record.metrics != other.metrics


def test_the_notes_say_what_the_data_are_too_few_for():
    assert len(notes(96, 1824, 19)) == 1
    assert notes(95, 1824, 19)[1:] == ["a class has 95 training images: not measured are 96 shots"]
    assert "1823 training images without it, fewer than 19 per shot" in notes(96, 1823, 19)[1]


def test_each_cost_is_scikit_learns_fit_and_the_best_on_the_test_images_counts(tmp_path):
    data = usable(small_root(tmp_path / "root"), 1)
    generator = np.random.default_rng(0)
    x = {
        split: (generator.normal(size=(len(part.images), 12)) + 0.5 * (part.labels @ np.ones((3, 12)))).astype(
            np.float32
        )
        for split, part in (("train", data.train), ("test", data.test))
    }
    config = SvmConfig(costs=(0.1, 5.0))
    found = LowShotRuns(x, data, config, tmp_path / "files").run(4, 8, 7)
    unit = {split: part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-5) for split, part in x.items()}
    for place, number in enumerate(data.counted):
        labels, tested = data.train.labels[:, number], data.test.labels[:, number]
        rows = draw(labels, 4, 8, 7, number)
        for column, cost in enumerate(config.costs):
            reference = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, tol=1e-10, max_iter=200_000, random_state=0)
            reference.fit(unit["train"][rows], np.where(labels[rows] == 1, 1, -1))
            scores = reference.decision_function(unit["test"])
            expected = average_precision(tested[tested != -1] == 1, scores[tested != -1])
            assert found.table[place, column] == pytest.approx(100 * expected, abs=1e-6)
            if cost == found.cost:
                np.testing.assert_allclose(found.scores[:, number], scores, atol=1e-5)
    assert found.cost == config.costs[int(np.argmax(found.means))] and found.unconverged == 0


def test_a_number_of_shots_that_is_done_is_not_fitted_again(tmp_path, monkeypatch):
    data = usable(small_root(tmp_path / "root"), 1)
    x = {split: np.random.default_rng(0).normal(size=(rows, 5)) for split, rows in (("train", 40), ("test", 30))}
    first = LowShotRuns(x, data, SvmConfig(), tmp_path / "files").run(2, 4, 0)
    monkeypatch.setattr(svm_runs, "fit", lambda *_: pytest.fail("fitted again"))
    again = LowShotRuns(x, data, SvmConfig(), tmp_path / "files")
    assert (again.run(2, 4, 0).table == first.table).all() and again.run(2, 4, 0).cost == first.cost
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        again.run(4, 8, 0)
