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
from detectron2.evaluation.pascal_voc_evaluation import voc_eval
from detectron2.structures import Boxes, Instances

from benchmarks.data.vocxml import VocImage, VocObject, write_xml
from pretrain.common.errors import RunError
from transfer.detection.config import protocol_cfg
from transfer.detection.evaluation import choose
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, load_matches
from transfer.detection.evaluation.store import load_detections
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
        found.scores = torch.tensor([score for _, _, score in kept], dtype=torch.float)
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
    assert choose.classes_tested(str(tmp_path)) == 2


def crowded(rng, number=12):
    """Images of many overlapping objects, some the same box twice, a third difficult; every third without any."""
    images = []
    for place in range(number):
        objects = []
        for _ in range(0 if place % 3 == 2 else rng.integers(1, 12)):
            x, y = rng.integers(1, 60, 2)
            width, height = rng.choice([9, 19, 39, 79], 2)
            objects.append(
                (int(rng.integers(4)), (int(x), int(y), int(x + width), int(y + height)), rng.random() < 0.3)
            )
            if rng.random() < 0.2:
                objects.append((objects[-1][0], objects[-1][1], rng.random() < 0.5))
        images.append(objects)
    return images


def tied(rng, images):
    """Detections on the objects, shifted by whole pixels so that overlaps are simple fractions; scores of 1 decimal.

    Coordinates and some scores end where rounding to 1 and 3 decimals has to decide.
    """
    detected = []
    for objects in images:
        rows = []
        for kind, (left, top, right, bottom), _ in objects:
            for _ in range(rng.integers(0, 4)):
                box = np.array([left - 1, top - 1, right, bottom], float)
                box[rng.integers(4)] += rng.choice([0, 5, 10, 20, -5, 0.05, 0.25, 0.35])
                if rng.random() < 0.2:
                    box[2] = box[0] + (box[2] - box[0] + 1) / 2 - 1  # half of it: an overlap of 0.5
                rows.append((kind, box, rng.choice([round(rng.random(), 1), 0.0005, 0.0015, 0.4995, 1.0])))
        for _ in range(rng.integers(0, 5)):
            corner = rng.uniform(0, 90, 2)
            rows.append((rng.integers(3), (*corner, *(corner + rng.uniform(0, 90, 2))), round(rng.random(), 1)))
        detected.append(rows)
    return detected


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(12))
def test_ties_and_difficult_objects_are_counted_as_by_detectron2(seed, year, registered, tmp_path):
    rng = np.random.default_rng(100 + seed)
    images = crowded(rng)
    detected = tied(rng, images)
    names = {number: registered(images, [CLASSES[number]], year) for number in range(4)}
    evaluator = VOCEvaluator(registered(images, year=year), tmp_path / "kept")
    results = score(evaluator, detected)
    expected = {
        number: score(PascalVOCDetectionEvaluator(names[number]), detected, (number,)) for number in evaluator.tested
    }
    assert results["bbox"]["AP50"] == np.mean([one["bbox"]["AP50"] for one in expected.values()])
    assert results["bbox"]["AP"] == pytest.approx(np.mean([one["bbox"]["AP"] for one in expected.values()]), abs=1e-12)
    matches = load_matches(tmp_path / "kept" / "matches-bbox.npz")
    for number, one in expected.items():
        each = 100 * matches.ap(number)
        assert {"AP": np.mean(each), "AP50": each[0], "AP75": each[5]} == one["bbox"]
    assert len(load_detections(tmp_path / "kept")) == sum(len(rows) for rows in detected) > 40
    assert 0 < results["bbox"]["AP50"] < 100
    codes = {int(code) for code in np.unique(matches.outcome)}
    assert codes == {UNCOUNTED, TRUE, FALSE}


def test_curves_are_those_of_detectron2(registered, tmp_path):
    rng = np.random.default_rng(0)
    images = crowded(rng)
    detected = tied(rng, images)
    evaluator = VOCEvaluator(registered(images), tmp_path / "kept")
    score(evaluator, detected)
    matches = load_matches(tmp_path / "kept" / "matches-bbox.npz")
    lines = [
        f"{number} {float(np.float32(value)):.3f} "
        + " ".join(f"{edge:.1f}" for edge in np.array(box, np.float32) + np.array([1, 1, 0, 0], np.float32))
        for number, rows in enumerate(detected)
        for kind, box, value in rows
        if kind == 1
    ]
    (tmp_path / "bee.txt").write_text("\n".join(lines))
    annotations, lists = str(tmp_path / "Annotations" / "{}.xml"), tmp_path / "ImageSets" / "Main" / "test.txt"
    for place, threshold in enumerate(matches.thresholds):
        recall, precision, ap = voc_eval(str(tmp_path / "{}.txt"), annotations, str(lists), "bee", threshold, True)
        ours = matches.curve(1, place)
        new = np.flatnonzero(np.diff(recall, prepend=0) > 0)  # where an object is found
        assert np.array_equal(ours[0][np.diff(ours[0], prepend=0) > 0], recall[new])
        assert np.array_equal(ours[1][np.diff(ours[0], prepend=0) > 0], precision[new])
        assert matches.ap(1)[place] == ap


def test_the_order_of_equal_scores_is_the_test_sets(registered):
    """The first of two equal detections of an object is the true one: here on the first image, whoever comes first."""
    box = (20, 20, 60, 60)
    images = [[(0, box, False)], [(0, box, False)]]
    right, wrong = (0, np.subtract(box, (1, 1, 0, 0)), 0.5), (0, np.array([100.0, 100, 150, 150]), 0.5)
    name = registered(images)
    first = score(VOCEvaluator(name), [[right], [wrong]])["bbox"]["AP50"]
    last = score(VOCEvaluator(name), [[wrong], [right]])["bbox"]["AP50"]
    assert first == pytest.approx(100 * 6 / 11) and last == pytest.approx(100 * 3 / 11)


def test_a_detection_on_an_image_that_is_not_tested_is_refused(registered):
    images = scenes(np.random.default_rng(0), [0, 1])
    with pytest.raises(RunError, match="image 12, which is not in the test set"):
        score(VOCEvaluator(registered(images)), [*noisy(np.random.default_rng(0), images), [(0, (1, 1, 5, 5), 0.5)]])
