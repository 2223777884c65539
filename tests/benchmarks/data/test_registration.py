"""A data root in detectron2's catalogues: boxes, categories, evaluators, and a loader that takes it."""

import json
import shutil

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances

from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32)
        yield DataRoot.load(generate(config, "registered", 1))


def perfect(record):
    """The ground truth of a mapped record (crowds left out) as predictions."""
    truth = record["instances"]
    predictions = Instances(truth.image_size, pred_boxes=Boxes(truth.gt_boxes.tensor), pred_classes=truth.gt_classes)
    predictions.scores = torch.ones(len(truth))
    if truth.has("gt_masks"):
        polygons = truth.gt_masks
        predictions.pred_masks = BitMasks.from_polygon_masks(polygons, *truth.image_size).tensor
    return {"instances": predictions}


def mapper(mask_on):
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = mask_on
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.ENABLED, cfg.INPUT.RANDOM_FLIP = (0,), False, "none"
    return DatasetMapper(cfg, is_train=True)


def test_voc_is_zero_based_and_evaluates_to_100(root):
    data = register(root, "voc")
    assert register(root, "voc") == data
    assert (data.num_classes, data.mask_format, data.test_images) == (20, "none", 20)
    assert [len(DatasetCatalog.get(name)) for name in data.train + data.test] == [20, 20, 20]
    records = DatasetCatalog.get(data.test[0])
    coco = json.loads((root.path / "coco/annotations/instances_val2017.json").read_text())
    for record in records:
        expected = [
            one["bbox"]
            for one in coco["annotations"]
            if one["image_id"] == int(record["image_id"]) and not one["iscrowd"]
        ]
        found = [BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYWH_ABS) for one in record["annotations"]]
        assert found == expected
    meta = MetadataCatalog.get(data.test[0])
    assert (meta.evaluator_type, meta.year, tuple(meta.thing_classes)) == ("pascal_voc", 2007, data.classes)
    evaluator, read = PascalVOCDetectionEvaluator(data.test[0]), mapper(False)
    evaluator.reset()
    for record in records:
        evaluator.process([record], [perfect(read(record))])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_the_same_data_elsewhere_are_read_there(kind, root, tmp_path):
    moved = DataRoot.load(shutil.copytree(root.path, tmp_path / root.name))
    assert register(root, kind) == register(moved, kind)
    for name in register(moved, kind).test:
        assert all(one["file_name"].startswith(str(tmp_path)) for one in DatasetCatalog.get(name))


def test_coco_evaluates_to_100_with_boxes_and_masks(root, tmp_path):
    data = register(root, "coco")
    assert register(root, "coco") == data
    assert (data.num_classes, data.mask_format, data.test_images) == (20, "polygon", 20)
    meta = MetadataCatalog.get(data.test[0])
    assert meta.evaluator_type == "coco" and tuple(meta.thing_classes) == data.classes
    records, read = DatasetCatalog.get(data.test[0]), mapper(True)
    evaluator = COCOEvaluator(data.test[0], tasks=("bbox", "segm"), use_fast_impl=False, output_dir=str(tmp_path))
    evaluator.reset()
    for record in records:
        evaluator.process([record], [perfect(read(record))])
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == pytest.approx(100) and results["segm"]["AP"] == pytest.approx(100)


def test_training_records_survive_the_mapper_crowds_included(root):
    read, data = mapper(True), register(root, "coco")
    records = DatasetCatalog.get(data.train[0])
    assert any(one["iscrowd"] for record in records for one in record["annotations"])
    for record in records:
        crowds = sum(one["iscrowd"] for one in record["annotations"])
        assert len(read(record)["instances"]) == len(record["annotations"]) - crowds


def test_absent_layout_is_one_line(root):
    without = DataRoot(path=root.path, name="x", synthetic=False, description="", config={}, sections={})
    with pytest.raises(InputError, match="no voc layout"):
        register(without, "voc")
