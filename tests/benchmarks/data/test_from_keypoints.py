"""COCO's person keypoints beside the instances: taken up as a layout of their own, or refused in one line."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, MetadataCatalog, get_detection_dataset_dicts

from benchmarks.data.prepare import main
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.rehearsal.raw_sets import POINTS, coco_with_keypoints
from pretrain.common.errors import InputError


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def source(tmp_path):
    return coco_with_keypoints(tmp_path / "coco")


def prepare(source, *options):
    assert main(["coco", str(source), "--name", "people", *options]) == 0
    return DataRoot.load(source.parent / "data" / "people")


def edit(source, change, split="train"):
    path = source / "annotations" / f"person_keypoints_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_keypoints_are_a_layout_beside_the_instances_whose_identity_stays(source):
    both = prepare(source)
    assert set(both.sections) == {"coco", "keypoints"}
    for split in ("train", "val"):
        (source / "annotations" / f"person_keypoints_{split}2017.json").unlink()
    alone = prepare(source)
    assert set(alone.sections) == {"coco"}
    assert alone.section("coco")["fingerprint"] == both.section("coco")["fingerprint"]
    with pytest.raises(
        InputError, match=r"no keypoints layout .*prepare coco SOURCE`, with person_keypoints_train2017"
    ):
        alone.section("keypoints")


def test_counts_metadata_and_records_are_coco_s_own(source):
    root = prepare(source)
    section = root.section("keypoints")
    assert section["classes"] == ["person"]
    # Three of every four images show two people, one of them also a crowd.
    train = {"images": 8, "annotations": 13, "crowds": 1, "people with keypoints": 11}
    assert section["counts"] == {
        "train": train,
        "val": train | {"images": 4, "annotations": 7, "people with keypoints": 5},
    }
    data = register(root, "keypoints")
    assert (data.num_classes, data.mask_format, data.test_images) == (1, "none", 4)
    meta = MetadataCatalog.get(data.test[0])
    assert meta.keypoint_names == POINTS and ("left_ear", "right_ear") in meta.keypoint_flip_map
    written = json.loads((root.path / "keypoints/annotations/person_keypoints_val2017.json").read_text())
    given = json.loads((source / "annotations/person_keypoints_val2017.json").read_text())
    assert written["annotations"] == given["annotations"]


def test_training_leaves_out_images_without_a_keypoint_and_flips_left_to_right(source):
    data = register(prepare(source), "keypoints")
    cfg = get_cfg()
    cfg.MODEL.KEYPOINT_ON = True
    cfg.DATASETS.TRAIN = data.train
    records = get_detection_dataset_dicts(data.train, min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    assert len(records) == 6
    mapper = DatasetMapper(cfg, is_train=True)
    original = np.array(records[0]["annotations"][0]["keypoints"]).reshape(17, 3)
    seen = set()
    for _ in range(20):  # flipped half of the time
        mapped = mapper(records[0])
        points = mapped["instances"].gt_keypoints.tensor[0].numpy()
        height, width = mapped["instances"].image_size
        scale = np.array([width / records[0]["width"], height / records[0]["height"]])
        flipped = not np.allclose(points[0, 0], original[0, 0] * scale[0], atol=1e-3)
        order = [POINTS.index(other(name) if "_" in name else name) for name in POINTS]
        wanted = original[order if flipped else range(17)].copy()
        if flipped:
            wanted[:, 0] = records[0]["width"] - wanted[:, 0]
        visible = wanted[:, 2] > 0
        assert np.allclose(points[visible, :2], wanted[visible, :2] * scale, atol=1e-3)
        seen.add(flipped)
    assert seen == {True, False}


def other(name):
    side, part = name.split("_")
    return f"{'right' if side == 'left' else 'left'}_{part}"


REFUSED = {
    "another skeleton": (lambda w: w["categories"][0].update(keypoints=["a", "b"]), "person with 2 keypoints"),
    "no skeleton": (lambda w: w["categories"][0].pop("keypoints"), "person with 0 keypoints"),
    "50 numbers": (
        lambda w: w["annotations"][3]["keypoints"].pop(),
        r"without 17 keypoints x, y, visibility in .*: \d+",
    ),
    "visibility 3": (lambda w: w["annotations"][0]["keypoints"].__setitem__(2, 3), "without 17 keypoints"),
    "no keypoints": (lambda w: w["annotations"][0].pop("keypoints"), r"its keypoints are null"),
    "no box": (lambda w: w["annotations"][0].pop("bbox"), "annotation without a box"),
    "another picture": (lambda w: w["images"][0].update(file_name="000000000001.jpg"), "another one than in"),
    "another size": (lambda w: w["images"][0].update(width=90, height=120), "another one than in"),
    "nobody seen": (lambda w: [one.update(keypoints=[0] * 51) for one in w["annotations"]], "no visible keypoint"),
    "unknown image": (lambda w: w["annotations"][0].update(image_id=5), "annotation of an unknown image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_keypoints_are_refused_in_one_line_and_nothing_is_written(case, source, tmp_path):
    change, words = REFUSED[case]
    edit(source, change)
    with pytest.raises(InputError, match=words) as caught:
        prepare(source)
    assert "person_keypoints_train2017.json" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "people").exists()


def test_a_split_without_keypoints_is_named(source):
    (source / "annotations" / "person_keypoints_val2017.json").unlink()
    with pytest.raises(InputError, match=r"has no person_keypoints_val2017.json beside it"):
        prepare(source)


def test_counts_of_points_are_made_right_and_flat_boxes_left_out(source):
    edit(source, lambda w: w["annotations"][0].update(num_keypoints=0, iscrowd=False))
    edit(source, lambda w: w["annotations"][1]["bbox"].__setitem__(2, 0))
    root = prepare(source)
    assert root.section("keypoints")["validation"]["train"]["degenerate boxes dropped"] == 1
    stored = json.loads((root.path / "keypoints/annotations/person_keypoints_train2017.json").read_text())
    first = stored["annotations"][0]
    assert first["num_keypoints"] == sum(value > 0 for value in first["keypoints"][2::3]) > 0


def test_a_root_that_an_earlier_version_wrote_without_keypoints_takes_them_up(source):
    root = prepare(source)
    about = json.loads((root.path / "data.json").read_text())
    del about["keypoints"]
    about["config"]["version"] = 2
    (root.path / "data.json").write_text(json.dumps(about))
    assert "keypoints" in prepare(source).sections
