"""Parts of a registered training set: detectron2 sees the drawn images alone, and tests on the held-out ones alone."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

from benchmarks.data import parts
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.prepare import main
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.data.subsets import draw_percent, draw_shots
from benchmarks.rehearsal import raw_sets
from pretrain.common.errors import InputError
from transfer.detection.evaluation.choose import classes_tested
from transfer.detection.evaluation.coco import read_truth
from transfer.detection.evaluation.voc import VOCEvaluator


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32)
        yield DataRoot.load(generate(config, "parts", 1))


def subset(**values):
    return CfgNode({"PERCENT": 0.0, "SHOTS": 0, "FILE": "", "FILE_SHA256": "", **values})


def test_objects_are_those_of_the_annotation_files(root):
    """COCO's by number, VOC's by folder and name: the same scenes, written twice. Crowds are no objects to train on."""
    coco = json.loads((root.path / "coco/annotations/instances_train2017.json").read_text())
    expected = {one["id"]: 0 for one in coco["images"]}
    for one in coco["annotations"]:
        expected[one["image_id"]] += not one["iscrowd"]
    found = parts.objects(register(root, "coco"))
    assert {image: len(kinds) for image, kinds in found.items()} == expected
    voc = parts.objects(register(root, "voc"))
    assert {name.split("/")[0] for name in voc} == {"VOC2007", "VOC2012"} and len(voc) == 40


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_training_sees_the_drawn_images_alone_with_all_their_objects(root, kind):
    data = register(root, kind)
    found = parts.objects(data)
    drawn = parts.draw(found, data.classes, subset(PERCENT=25.0), 1)
    assert drawn == draw_percent(parts.trainable(found), 25, 1) and len(drawn.images) == 10
    before = {parts._id(one): one for name in data.train for one in DatasetCatalog.get(name)}
    kept = parts.keep(data, drawn.images)
    records = get_detection_dataset_dicts(kept.train, filter_empty=True)
    assert {parts._id(one): one for one in records} == {image: before[image] for image in drawn.images}
    assert kept.test == data.test and len(DatasetCatalog.get(kept.test[0])) == 20
    assert len(parts.objects(register(root, kind))) == 40  # registering anew has all of them


def test_shots_are_drawn_from_both_of_vocs_folders(root):
    data = register(root, "voc")
    found = parts.objects(data)
    drawn = parts.draw(found, data.classes, subset(SHOTS=3), 0)
    assert drawn == draw_shots(parts.trainable(found), 3, 0, data.classes)
    assert {name.split("/")[0] for name in drawn.images} == {"VOC2007", "VOC2012"}


def test_a_set_without_a_drawn_image_is_left_out(root):
    data = register(root, "voc")
    first = next(image for image in parts.objects(data) if image.startswith("VOC2012"))
    kept = parts.keep(data, [first])
    assert len(kept.train) == 1 < len(data.train) and len(get_detection_dataset_dicts(kept.train)) == 1


def test_a_list_of_bare_names_draws_vocs_images(root, tmp_path):
    data = register(root, "voc")
    found = parts.objects(data)
    image = next(iter(parts.trainable(found)))
    (tmp_path / "list.json").write_text(json.dumps([image.split("/")[1]]))
    assert parts.draw(found, data.classes, subset(SHOTS=1, FILE=str(tmp_path / "list.json")), 0).images == (image,)
    assert set(parts._names(["a/1", "b/1", "b/2"])) == {"a/1", "b/1", "b/2", "2"}  # of two images 1 neither is meant


def test_data_without_objects_give_no_draw():
    with pytest.raises(InputError, match="no training image has an object"):
        parts.draw({1: [], 2: []}, ("a",), subset(PERCENT=50.0), 0)


def test_the_held_out_images_of_coco_are_tested_with_their_annotations_alone(root, tmp_path):
    data = register(root, "coco")
    ids = sorted(parts.trainable(parts.objects(data)))[:7]
    held = parts.hold_out(root, "coco", data, ids, tmp_path / "held", write=True)
    stored = json.loads((root.path / "coco/annotations/instances_train2017.json").read_text())
    assert held.test_images == 7 and held.train == data.train
    assert [one["image_id"] for one in DatasetCatalog.get(held.test[0])] == ids
    truth = read_truth(MetadataCatalog.get(held.test[0]).json_file, "pycocotools").dataset
    assert truth["annotations"] == [one for one in stored["annotations"] if one["image_id"] in ids]
    assert truth["categories"] == stored["categories"]
    records = {one["image_id"]: one for one in DatasetCatalog.get(data.train[0])}
    assert DatasetCatalog.get(held.test[0]) == [records[image] for image in ids]
    shown = {one["category_id"] for one in truth["annotations"] if not one["iscrowd"]}
    assert classes_tested(held.test[0]) == len(shown)


@pytest.mark.parametrize(
    ("kind", "make"), [("lvis", raw_sets.lvis), ("cityscapes", raw_sets.cityscapes), ("keypoints", None)]
)
def test_other_layouts_hold_out_with_all_that_their_evaluators_ask_for(kind, make, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    make = make or raw_sets.coco_with_keypoints
    assert main(["coco" if kind == "keypoints" else kind, str(make(tmp_path / "source")), "--name", "raw"]) == 0
    root = DataRoot.load(tmp_path / "data" / "raw")
    data = register(root, kind)
    found = parts.trainable(parts.objects(data))
    ids = sorted(found)[:2]
    before = {one["image_id"]: one for one in DatasetCatalog.get(data.train[0])}
    held = parts.keep(parts.hold_out(root, kind, data, ids, tmp_path / "held", write=True), sorted(found)[2:])
    assert DatasetCatalog.get(held.test[0]) == [before[image] for image in ids]
    assert [parts._id(one) for one in DatasetCatalog.get(held.train[0])] == sorted(found)[2:]
    own, train = (MetadataCatalog.get(name).as_dict() for name in (held.test[0], held.train[0]))
    assert {key for key in own if own[key] != train[key]} == {"name", "json_file"} and own.keys() == train.keys()
    assert [one["id"] for one in json.loads((tmp_path / "held" / "held.json").read_text())["images"]] == ids


def test_the_held_out_images_of_voc_come_from_both_folders(root, tmp_path):
    data = register(root, "voc")
    found = parts.objects(data)
    ids = [image for image in found if image.endswith(("1", "2"))]
    assert {image.split("/")[0] for image in ids} == {"VOC2007", "VOC2012"}
    for _ in range(2):  # again after a kill
        held = parts.hold_out(root, "voc", data, ids, tmp_path / "held", write=True)
    records = DatasetCatalog.get(held.test[0])
    own = {parts._id(one): one for name in data.train for one in DatasetCatalog.get(name)}
    assert [one["annotations"] for one in records] == [own[image]["annotations"] for image in sorted(ids)]
    linked, original = (Path(one["file_name"]) for one in (records[0], own[sorted(ids)[0]]))
    assert linked.read_bytes() == original.read_bytes()
    evaluator = VOCEvaluator(held.test[0])
    assert evaluator.truth.ids.tolist() == [one["image_id"] for one in records]
    assert len(evaluator.truth.image) == sum(len(found[image]) for image in ids)
    assert parts.hold_out(root, "voc", data, ids, tmp_path / "held", write=False) == held
