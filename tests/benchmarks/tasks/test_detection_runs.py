"""Detection tasks end to end on tiny data roots, profile smoke, and their records read."""

import pytest

from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.prepare import main
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.rehearsal.raw_sets import cityscapes, coco_with_keypoints, lvis
from benchmarks.tasks import TASKS
from tests.benchmarks.tasks.small import executed
from transfer.detection.evaluation.store import load_detections

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


def prepared(kind, source, tmp_path):
    assert main([kind, str(source), "--name", "raw"]) == 0
    return DataRoot.load(tmp_path / "data" / "raw")


def files_of(record):
    """The folder of the record's attempt."""
    (path,) = ResultsStore().paths(record.spec)
    return path.with_suffix("")


def test_probes_of_a_frozen_resnet_leave_a_record_of_their_own():
    config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32)
    records = executed(DataRoot.load(generate(config, "probed", 1)), "voc-probe", "coco-probe")
    for name, record in records.items():
        facts = record.config["facts"]
        assert (facts["tensors_equal"], facts["trainable_backbone_tensors"], record.test_images) == (100, 0, 20)
        assert set(record.metrics) >= {metric.key for metric in TASKS[name].metrics}
        assert record.metrics["bbox/AP"] is not None and record.config["MODEL"]["BACKBONE"]["FREEZE_AT"] == 5
        assert record.config["MODEL"]["FPN"]["NORM"] == "GN"  # no norm of a batch takes its place in a small profile


def test_keypoints_run_end_to_end_and_keep_points_and_matches(tmp_path):
    root = prepared("coco", coco_with_keypoints(tmp_path / "coco"), tmp_path)
    record = executed(root, "coco-keypoint-fpn-2x")["coco-keypoint-fpn-2x"]
    assert record.test_images == 4 and record.config["MODEL"]["KEYPOINT_ON"]
    assert record.config["facts"]["classes_tested"] == 1 and record.config["facts"]["tensors_equal"] == 100
    wanted = {metric.key for metric in TASKS["coco-keypoint-fpn-2x"].metrics}
    assert wanted <= set(record.metrics) and all(0 <= record.metrics[key] <= 100 for key in wanted)
    kept = load_detections(files_of(record))
    assert kept.keypoints.shape == (len(kept), 17, 3) and len(kept) > 0
    assert {"matches-bbox.npz", "matches-keypoints.npz"} <= set(record.files)


def test_lvis_runs_end_to_end_with_300_detections_and_rare_classes(tmp_path):
    root = prepared("lvis", lvis(tmp_path / "datasets"), tmp_path)
    record = executed(root, "lvis-v1-fpn-1x")["lvis-v1-fpn-1x"]
    assert record.test_images == 4 and record.config["DATALOADER"]["SAMPLER_TRAIN"] == "RepeatFactorTrainingSampler"
    assert record.config["facts"]["coco_engine"].startswith("hotcoco 1.")
    assert {metric.key for metric in TASKS["lvis-v1-fpn-1x"].metrics} <= set(record.metrics)
    assert 0 <= record.metrics["segm/AP"] <= 100 and 0 <= record.metrics["bbox/AP"] <= 100
    kept = load_detections(files_of(record))
    assert len(kept.masks) == len(kept) > 0 and sorted(kept.ids.tolist()) == [139, 146, 153, 160]


def test_cityscapes_runs_end_to_end_on_the_pixels_of_the_instance_ids(tmp_path):
    root = prepared("cityscapes", cityscapes(tmp_path / "cityscapes"), tmp_path)
    record = executed(root, "cityscapes-fpn-24k")["cityscapes-fpn-24k"]
    assert record.test_images == 3 and record.config["INPUT"]["MASK_FORMAT"] == "bitmask"
    assert {metric.key for metric in TASKS["cityscapes-fpn-24k"].metrics} <= set(record.metrics)
    assert 0 <= record.metrics["segm/AP"] <= 100 and record.config["facts"]["coco_engine"] is None
    kept = load_detections(files_of(record))
    assert len(kept.masks) == len(kept) > 0 and kept.ids.tolist() == [1, 2, 3]


DEEPER = [("resnet101", "voc-c4-24k-frozen", 520), ("resnet152", "voc-fpn-24k-frozen", 775)]


@pytest.mark.parametrize(("architecture", "task", "tensors"), DEEPER)
def test_deeper_resnets_run_end_to_end(architecture, task, tensors):
    """Of all protocols test_checks has which parameters train; a step around each deep network would take minutes."""
    config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32)
    record = executed(DataRoot.load(generate(config, "deep", 1)), task, architecture=architecture)[task]
    assert (record.architecture, record.config["facts"]["tensors_equal"]) == (architecture, tensors)
    assert record.metrics["bbox/AP"] is not None
