"""VOC07 classification: its settings, whole runs on a tiny root, and a run that is killed."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from benchmarks import run
from benchmarks.data.root import DataRoot
from benchmarks.plan import Column, Plan, check_data
from benchmarks.predictions import load_predictions
from benchmarks.records import ResultsStore, files_of
from benchmarks.report.published import published, published_settings
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.compute import svm_runs
from benchmarks.tasks.compute.features import FeatureView, eval_transform
from benchmarks.tasks.compute.multilabel import average_precision, labelled, usable
from benchmarks.tasks.voc07_svm import LAYERS, SvmConfig, view_of
from pretrain.common.errors import InputError
from pretrain.data import decode
from tests.benchmarks.doubles import make_spec
from tests.benchmarks.plans import evaluated
from tests.benchmarks.tasks.voc_roots import colours, random_backbone, voc_root

CHECKOUT = Path(__file__).resolve().parents[3]
TASK = TASKS["voc07-svm"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """RESULTS_DIR, and a random network for every checkpoint."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    backbone = random_backbone(tmp_path)
    monkeypatch.setattr(run.Context, "backbone", lambda context: backbone)
    return backbone


def small_root(folder, difficult=0.1):
    lists = {
        ("train", "VOC2007", "trainval"): colours(40, 1, difficult),
        ("test", "VOC2007", "test"): colours(30, 2, difficult),
    }
    folder.mkdir()
    return voc_root(folder, lists)


def executed(root, task="voc07-svm", seed=0, architecture="resnet18"):
    """The record of a run, and its predictions."""
    spec = make_spec(task=task, seed=seed, data_name=root.name, data_fingerprint="f" * 64)
    checkpoint = evaluated(root.path, architecture=architecture)
    (saved,) = run.execute(checkpoint, root.path, [spec], 0, root.path / "log.txt", True)
    assert saved.error is None
    record = ResultsStore().load(saved.path)
    return record, load_predictions(files_of(saved.path))


EQUAL = {"costs", "folds", "penalty", "loss", "intercept_scaling", "class_weight_positive", "class_weight_negative"}
EQUAL |= {"normalise_eps", "interpolation"}
OPTIMUM = {"dual", "tol", "max_iter", "random_state"}  # of liblinear, which our fits go beyond: to the optimum
CHECKPOINTS = {"normalise_mean", "normalise_std"}  # of its own input
IN_WORDS = {
    "layers": "res5: AvgPool2d kernel 6 stride 1 padding 0 -> 2048x2x2 = 8192",
    "layer_dims": 8192,
    "input": "Resize(256) short side, then Resize([224, 224]) to a square",
    "feature_dtype": "float32 as extracted",
    "normalisation": "f / (||f||_2 + 1e-5) per image",
    "fold_scoring": "stratified, unshuffled; mean of the folds",
    "cost_selection": "per class, argmax of the cross-validated AP (first maximum)",
    "classifier": "sklearn.svm.LinearSVC",
    "train_split": "VOC2007 trainval",
    "test_split": "VOC2007 test",
    "labels": "0 -> -1 (ignore: the class appears only as difficult)",
    "ignored_in_training": "trained as a negative, in the folds too",
    "ignored_in_test": "dropped",
    "ap": "area under the interpolated precision-recall curve, all points",
    "metric": "mean over 20 classes, per layer",
    "refit": "the model fitted on all of trainval at the chosen cost",
}


def test_its_settings_are_the_published_ones_key_by_key():
    published = published_settings()["svm"]["vissl"]
    found = TASK.settings(Setup(profile="paper")).values
    for key in EQUAL:
        assert published[key] == (list(found[key]) if key == "costs" else found[key]), key
    for key, word in IN_WORDS.items():
        assert word in published[key] or any(word in str(one) for one in published[key]), key
    assert published.keys() == EQUAL | OPTIMUM | CHECKPOINTS | IN_WORDS.keys() | {"source", "expected"}
    said = {"resize": 256, "crop": 224, "squash": False, "squash_to_crop": True, "layers": ("res5-2x2", "avgpool")}
    said |= {"ignored_in_training": "negative", "ignored_in_test": "dropped"}
    ours = {"gradient_tolerance", "max_iterations"}
    assert {key: found[key] for key in found.keys() - EQUAL - ours} == said and ours <= found.keys()


def test_smaller_profiles_change_the_sizes_alone():
    paper, smoke = (
        TASK.settings(Setup(profile=name, num_gpus=8, opts=("A", "1"))).values for name in ("paper", "smoke")
    )
    assert {key for key in paper if paper[key] != smoke[key]} == {"resize", "crop"}
    assert {field.name for field in dataclasses.fields(SvmConfig)} <= set(paper)


def test_the_published_rows_are_those_of_no_stated_layer():
    rows = published(TASK)
    found = dict(zip(rows["method"], rows["VOC07 SVM mAP"].astype(float), strict=True))
    assert found.items() >= {"SwAV (multi-crop)": 88.9, "VICReg": 86.6}.items() and "SimSiam" not in found


def test_its_view_is_two_resizes_and_no_crop(tmp_path, results):
    assert view_of("paper", "avgpool") == FeatureView(resize=256, crop=224, squash_to_crop=True)
    assert view_of("paper", "res5-2x2").key == "256-224-squashed-res5-2x2"
    root = small_root(tmp_path / "root")
    image = decode(labelled(root, "train").images[0])
    found = eval_transform(FeatureView(resize=24, crop=20, squash_to_crop=True), results)(image)
    twice = image.resize((32, 24), 2).resize((20, 20), 2)  # by Pillow's bilinear filter, from 64 × 48 pixels
    expected = torch.tensor(np.asarray(twice)).permute(2, 0, 1) / 255 - found.new([0.485, 0.456, 0.406])[:, None, None]
    np.testing.assert_allclose(found * found.new([0.229, 0.224, 0.225])[:, None, None], expected, atol=1e-6)


def test_a_record_has_the_precision_of_each_layer_and_scores_that_lead_to_it(tmp_path, results):
    root = small_root(tmp_path / "root")
    record, predictions = executed(root)
    assert set(record.metrics) == set(LAYERS.values()) and 60 < record.metrics["mAP"] <= 100
    assert record.test_images == 30 and record.notes == () and record.files == ("predictions.npz",)
    test = labelled(root, "test")
    assert (predictions.target == test.labels).all() and (test.labels == -1).sum() >= 3
    each = []
    for number, name in enumerate(("blue", "green", "red")):
        counted = test.labels[:, number] != -1
        each.append(100 * average_precision(test.labels[counted, number] == 1, predictions.scores[counted, number]))
        assert record.config["svm"]["res5-2x2"][name]["AP"] == pytest.approx(each[-1])
    assert record.metrics["mAP"] == pytest.approx(np.mean(each))
    assert record.config.items() >= {"folds": 3, "squash_to_crop": True}.items()


def test_the_scores_are_scikit_learns_at_the_chosen_costs_with_ignored_images_as_negatives(tmp_path, results):
    root = small_root(tmp_path / "root", difficult=0.3)
    record, predictions = executed(root)
    folder = next((tmp_path / "results" / "features").glob("*res5-2x2*"))
    x = {split: np.load(folder / f"labelled-{split}.npy").astype(np.float64) for split in ("train", "test")}
    assert x["train"].shape == (40, 4 * 512)
    unit = {split: part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-5) for split, part in x.items()}
    train = labelled(root, "train").labels
    assert (train == -1).sum() > 10
    for number, name in enumerate(("blue", "green", "red")):
        cost = record.config["svm"]["res5-2x2"][name]["cost"]
        reference = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, tol=1e-12, max_iter=10_000, dual=False)
        reference.fit(unit["train"], np.where(train[:, number] == 1, 1, -1))
        np.testing.assert_allclose(predictions.scores[:, number], reference.decision_function(unit["test"]), atol=1e-4)


def test_two_encoders_have_the_average_pool_only(tmp_path, results):
    record, predictions = executed(small_root(tmp_path / "root"), architecture="cmc-resnet18")
    assert record.metrics["mAP"] is None and record.metrics["avgpool/mAP"] > 0 and predictions.scores.any()
    assert record.notes == ("two encoders have no res5: only the average pool is measured",)


def test_data_of_one_class_only_are_refused_before_anything_starts(tmp_path):
    lists = {
        ("train", "VOC2007", "trainval"): {f"1{n}": [("red", False)] for n in range(5)},
        ("test", "VOC2007", "test"): {"21": [("red", False)], "22": []},
    }
    root = voc_root(tmp_path, lists, ("red",))
    plan = Plan(profile="smoke", columns=(Column(task="voc07-svm", root=root, seeds=(0,)),), num_gpus=0)
    with pytest.raises(InputError, match=r"no class of data set colours can be classified \(red has 5 training images"):
        check_data(plan, "")


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.tasks.compute import svm_runs
from tests.benchmarks.tasks.test_voc07_svm import classified
whole, fits = svm_runs.choose_and_fit, []

def third(rows, present, config):
    fits.append(1)
    if len(fits) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(rows, present, config)

svm_runs.choose_and_fit = third
classified(Path(sys.argv[1]), "files")
"""


def classified(folder, files):
    """The outcome of all three classes on random features, kept in ``folder/files``."""
    generator = np.random.default_rng(0)
    x = {"train": generator.normal(size=(40, 8)), "test": generator.normal(size=(30, 8))}
    return svm_runs.classify(x, usable(DataRoot.load(folder / "root"), 3), SvmConfig(), folder / files, "layer")


def test_a_killed_run_continues_after_the_last_finished_class(tmp_path, monkeypatch):
    small_root(tmp_path / "root")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=CHECKOUT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["layer-0.svm.npz", "layer-1.svm.npz"]
    (tmp_path / "files" / "predictions.npz").touch()
    fits, whole = [], svm_runs.choose_and_fit
    monkeypatch.setattr(svm_runs, "choose_and_fit", lambda *given: fits.append(1) or whole(*given))
    continued, anew = classified(tmp_path, "files"), classified(tmp_path, "others")
    assert len(fits) == 1 + 3
    assert (continued.scores == anew.scores).all() and continued.details == anew.details
    svm_runs.clean(tmp_path / "files")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["predictions.npz"]
