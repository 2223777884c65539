"""Detections on disk: complete, in the test set's order, whatever the number of processes and whatever was there."""

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from pycocotools import mask as rle

from pretrain.common.errors import InputError, RunError
from tests.transfer.detection.evaluation.scenes import outputs, registered, truth
from transfer.detection.evaluation import store
from transfer.detection.evaluation.coco import COCOEvaluator
from transfer.detection.evaluation.matches import load_matches
from transfer.detection.evaluation.store import Recorder, load_detections


def record(folder, inputs, found):
    recorder = Recorder(folder)
    recorder.reset()
    for image, output in zip(inputs, copy.deepcopy(found), strict=True):
        recorder.add([image], [output])
    return recorder.join()


def assert_same(one, other):
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(other, name)), name


@pytest.mark.parametrize("part", [1, 10, 10**6])
def test_everything_that_the_detector_gave_is_read_back(part, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART", part)
    inputs, found = outputs(0, truth(0), decimals=5)
    (tmp_path / "detections").mkdir()
    (tmp_path / "detections" / "0003-000001.npz").write_text("of an attempt that was killed")
    (tmp_path / "matches-bbox.npz").write_text("of an attempt that was killed")
    joined = record(tmp_path, inputs, found)
    read = load_detections(tmp_path)
    assert_same(joined, read)
    assert_same(joined, record(None, inputs, found))
    assert not (tmp_path / "matches-bbox.npz").exists()
    files = list((tmp_path / "detections").iterdir())
    assert len(files) == 1 if part == 10**6 else len(files) > 3
    assert read.ids.tolist() == [one["image_id"] for one in inputs]
    rles, row = read.rles(), 0
    for number, one in enumerate(found):
        instances = one["instances"]
        own = np.flatnonzero(read.image == number)
        assert own.tolist() == list(range(row, row + len(instances)))
        assert np.array_equal(read.score[own], instances.scores.numpy())
        assert np.array_equal(read.box[own], instances.pred_boxes.tensor.numpy())
        assert np.array_equal(read.category[own], instances.pred_classes.numpy())
        assert np.array_equal(read.keypoints[own], instances.pred_keypoints.numpy())
        for place, expected in zip(own, instances_to_coco_json(copy.deepcopy(instances), 1), strict=True):
            assert rles[place]["counts"].decode() == expected["segmentation"]["counts"]
            assert rles[place]["size"] == expected["segmentation"]["size"]
            assert read.mask_area[place] == rle.decode(rles[place]).sum()
        row += len(instances)
    assert row == len(read) > 100


def test_more_masks_in_an_image_than_a_byte_counts(tmp_path):
    inputs, found = outputs(0, truth(0, 1), invented=1000)
    assert len(found[0]["instances"]) > 300
    assert len(record(tmp_path, inputs, found).masks) == len(found[0]["instances"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("box", np.zeros((3, 4), np.float32), r"box has the shape \(3, 4\)"),
        ("category", np.zeros(2, np.int64), r"category has the shape \(2,\)"),
        ("image", np.array([99]), "image"),
        ("mask_lengths", np.array([1, 1], np.int32), "2 masks for"),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_named(name, value, words, tmp_path):
    inputs, found = outputs(0, truth(0), decimals=5)
    count = len(record(tmp_path, inputs, found))
    (path,) = (tmp_path / "detections").iterdir()
    with np.load(path) as stored:
        arrays = {**stored, name: np.full(count, 99) if name == "image" else value}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=f"cannot be read .*{words}"):
        load_detections(tmp_path)


def test_images_without_detections_and_names_as_ids(tmp_path):
    inputs, found = outputs(3, truth(3, 6), masks=False, keypoints=False)
    inputs = [{"image_id": f"2008_{number:06d}"} for number in range(6)]
    read = record(tmp_path, inputs, [{"instances": one["instances"][[]]} for one in found])
    assert read.ids.tolist() == [one["image_id"] for one in inputs] and len(read) == 0 and read.masks is None
    assert_same(read, load_detections(tmp_path))
    assert len(record(tmp_path, [], [])) == 0


@pytest.mark.parametrize("place", ["scores", "boxes"])
def test_numbers_that_are_not_finite_are_refused(place):
    inputs, found = outputs(0, truth(0, 1))
    instances = found[0]["instances"]
    (instances.scores if place == "scores" else instances.pred_boxes.tensor)[0] = torch.nan
    with pytest.raises(RunError, match="image 1: the detector gives scores or boxes that are not finite"):
        Recorder(None).add(inputs, found)


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(InputError, match="has no detections"):
        load_detections(tmp_path)
    (tmp_path / "detections").mkdir()
    (tmp_path / "detections" / "0000-000000.npz").write_text("x")
    with pytest.raises(InputError, match=r"0000-000000\.npz cannot be read"):
        load_detections(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        load_matches(tmp_path / "matches-bbox.npz")
    (tmp_path / "matches-bbox.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="cannot be read"):
        load_matches(tmp_path / "matches-bbox.npz")


def _evaluate_share(folder, content):
    from detectron2.utils import comm

    torch.set_num_threads(1)
    with registered(folder / f"data{comm.get_rank()}", content) as name:
        inputs, found = outputs(5, content)
        middle = len(inputs) // 2 + 1  # the share of the first process, as detectron2's sampler would give it
        share = slice(middle) if comm.get_rank() == 0 else slice(middle, None)
        evaluator = COCOEvaluator(name, ["bbox", "segm"], folder / "kept")
        evaluator.reset()
        evaluator.process(inputs[share], found[share])
        results = evaluator.evaluate()
    if comm.is_main_process():
        (folder / "results.json").write_text(json.dumps(results))
    else:
        assert results == {}


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    content = truth(5)
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    launch(_evaluate_share, 2, dist_url="auto", args=(tmp_path / "two", content))
    inputs, found = outputs(5, content)
    with registered(tmp_path / "data", content) as name:
        evaluator = COCOEvaluator(name, ["bbox", "segm"], tmp_path / "one")
        evaluator.reset()
        evaluator.process(inputs, found)
        expected = evaluator.evaluate()
    assert (tmp_path / "two" / "results.json").read_text() == json.dumps(expected)  # there are NaN
    assert sorted(path.name for path in (tmp_path / "two" / "kept").glob("detections/*")) == [
        "0000-000000.npz", "0001-000000.npz",
    ]  # fmt: skip
    assert_same(load_detections(tmp_path / "two" / "kept"), load_detections(tmp_path / "one"))
    for task in ("bbox", "segm"):
        assert_same(*(load_matches(tmp_path / part / f"matches-{task}.npz") for part in ("two/kept", "one")))
