"""VOC's AP over the classes that are tested, against detectron2's own evaluator on a list of just these classes.

detectron2's sort is made stable, as ours is: otherwise its order of equal scores depends on the processor.
"""

import functools
import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, Instances

from benchmarks.data.vocxml import VocImage, VocObject, write_xml
from transfer.detection.config import protocol_cfg
from transfer.detection.evaluation.voc import VOCEvaluator, classes_tested
from transfer.detection.trainer import Trainer, flat_metrics

CLASSES = ["ant", "bee", "cat", "dog"]
SIZE = 200


def scenes(rng, present, difficult_only=()):
    """Twelve images of three or four objects (class number, box, difficult), each class of ``present`` in some."""
    made = []
    for number in range(12):
        kinds = [present[number % len(present)], *rng.choice([*present, *difficult_only], 3)]
        objects = []
        for place, kind in enumerate(kinds):
            x, y = rng.integers(1, SIZE - 70, 2)
            width, height = rng.integers(20, 60, 2)
            hard = kind in difficult_only or bool(place and rng.random() < 0.3)
            objects.append((int(kind), (int(x), int(y), int(x + width), int(y + height)), hard))
        made.append(objects)
    return made


@pytest.fixture(autouse=True)
def stable(monkeypatch):
    monkeypatch.setattr(np, "argsort", functools.partial(np.argsort, kind="stable"))


@pytest.fixture
def registered(tmp_path):
    """Write scenes as a VOC folder; the name of a data set of its objects under a list of class names."""
    names = []

    def write(images):
        for number, objects in enumerate(images):
            found = tuple(VocObject(name=CLASSES[kind], box=box, difficult=hard) for kind, box, hard in objects)
            image = VocImage(filename=f"{number}.jpg", width=SIZE, height=SIZE, objects=found)
            write_xml(tmp_path / "Annotations" / f"{number}.xml", image, "VOC2007")
        lists = tmp_path / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        (lists / "test.txt").write_text("".join(f"{number}\n" for number in range(len(images))))

    def call(images, classes=CLASSES, year=2007):
        if not names:
            write(images)
        names.append(f"{tmp_path}-{len(names)}")
        about = {"dirname": str(tmp_path), "split": "test", "year": year, "thing_classes": list(classes)}
        MetadataCatalog.get(names[-1]).set(evaluator_type="pascal_voc", **about)
        return names[-1]

    yield call
    for name in names:
        MetadataCatalog.remove(name)


def noisy(rng, images):
    """Detections (class, box, score) an image: objects moved by some pixels or with another class, and inventions."""
    detected = []
    for objects in images:
        rows = [
            (rng.integers(len(CLASSES)) if rng.random() < 0.2 else kind, np.add(box, rng.normal(0, 4, 4)), rng.random())
            for kind, box, _ in objects
            for _ in range(rng.integers(0, 3))
        ]
        for _ in range(4):
            corner = rng.uniform(0, 100, 2)
            rows.append((rng.integers(len(CLASSES)), (*corner, *(corner + rng.uniform(20, 90, 2))), rng.random()))
        detected.append(rows)
    return detected


def perfect(images):
    """The objects themselves; detectron2's boxes start at 0, VOC's at 1."""
    return [[(kind, np.subtract(box, (1, 1, 0, 0)), 0.9) for kind, box, _ in objects] for objects in images]


def score(evaluator, detected, numbers=(0, 1, 2, 3)):
    """Results of detections whose classes are in ``numbers``, renumbered by their place there."""
    evaluator.reset()
    place = {number: index for index, number in enumerate(numbers)}
    for number, rows in enumerate(detected):
        kept = [(place[int(kind)], box, score) for kind, box, score in rows if int(kind) in place]
        found = Instances((SIZE, SIZE))
        found.pred_boxes = Boxes(torch.tensor(np.array([box for _, box, _ in kept]), dtype=torch.float).reshape(-1, 4))
        found.scores = torch.tensor([score for _, _, score in kept])
        found.pred_classes = torch.tensor([kind for kind, _, _ in kept], dtype=torch.long)
        evaluator.process([{"image_id": str(number), "file_name": f"{number}.jpg"}], [{"instances": found}])
    return evaluator.evaluate()


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(5))
def test_is_detectron2s_where_every_class_is_tested(seed, year, registered):
    rng = np.random.default_rng(seed)
    images = scenes(rng, [0, 1, 2, 3])
    name, detected = registered(images, year=year), noisy(rng, images)
    expected = score(PascalVOCDetectionEvaluator(name), detected)
    assert score(VOCEvaluator(name), detected) == expected
    assert 1 < expected["bbox"]["AP50"] < 99 and classes_tested(name) == 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("present", "difficult_only"), [((0, 2, 3), ()), ((1, 3), (0,)), ((2,), (0, 1, 3))])
def test_is_the_mean_over_the_classes_that_are_tested(present, difficult_only, seed, registered):
    rng = np.random.default_rng(seed)
    images = scenes(rng, present, difficult_only)
    detected = noisy(rng, images)
    name, shorter = registered(images), registered(images, [CLASSES[number] for number in present])
    evaluator = VOCEvaluator(name)
    expected = score(PascalVOCDetectionEvaluator(shorter), detected, present)
    assert score(evaluator, detected) == expected == evaluator.evaluate()  # and again
    assert evaluator.tested == list(present) and classes_tested(name) == len(present)
    # detectron2 counts the others as 0.
    whole = score(PascalVOCDetectionEvaluator(name), detected)["bbox"]["AP"]
    assert whole == pytest.approx(expected["bbox"]["AP"] * len(present) / len(CLASSES))


@pytest.mark.parametrize(("present", "difficult_only"), [((0, 1, 2, 3), ()), ((0, 2), ()), ((1,), (2,))])
def test_a_perfect_detector_has_100(present, difficult_only, registered, tmp_path):
    images = scenes(np.random.default_rng(0), present, difficult_only)
    cfg = protocol_cfg("voc_fpn_24k")
    cfg.OUTPUT_DIR = str(tmp_path)
    metrics = flat_metrics(score(Trainer.build_evaluator(cfg, registered(images)), perfect(images)))
    assert metrics == pytest.approx({"bbox/AP": 100, "bbox/AP50": 100, "bbox/AP75": 100})


def test_without_a_tested_class_the_ap_is_undefined(registered):
    rng = np.random.default_rng(0)
    hard = [[(0, (5, 5, 50, 50), True)] for _ in range(3)]
    name = registered(hard)
    undefined = {"bbox/AP": None, "bbox/AP50": None, "bbox/AP75": None}
    assert flat_metrics(score(VOCEvaluator(name), noisy(rng, hard))) == undefined
    assert classes_tested(name) == 0


def test_without_a_detection_the_ap_is_0(registered):
    images = scenes(np.random.default_rng(0), [0, 2])
    none = [[] for _ in images]
    assert set(flat_metrics(score(VOCEvaluator(registered(images)), none)).values()) == {0.0}


def test_coco_counts_categories_with_an_object_that_is_no_crowd(tmp_path):
    objects = [(1, 0), (1, 1), (2, 1), (3, None)]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "categories": [{"id": number, "name": str(number)} for number in (1, 2, 3, 4)],
        "annotations": [{"id": n, "image_id": 1, "category_id": c, "iscrowd": w} for n, (c, w) in enumerate(objects)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    register_coco_instances(str(tmp_path), {}, str(tmp_path / "coco.json"), str(tmp_path))
    assert classes_tested(str(tmp_path)) == 2
