"""Kinds of false positives and found objects: by hand, against loops over pairs, against pycocotools' matches."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from tests.transfer.detection.evaluation.scenes import outputs, truth
from transfer.detection.evaluation import coco, voc
from transfer.detection.evaluation.kinds import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    KINDS,
    LOCATION,
    NONE,
    finders,
    kinds,
)
from transfer.detection.evaluation.matches import FALSE, TRUE, Matches
from transfer.detection.evaluation.pairs import overlap_of_boxes, overlap_of_masks, pairs
from transfer.detection.evaluation.store import Detections, Recorder

CLASSES = ("ant", "bee", "cat")


def of_boxes(truths, found, rule="coco"):
    """(matches, overlap) of one image: objects (class, box, counts), detections (class, box, outcome), best first."""
    matches = Matches(
        ids=np.array([7]),
        image=np.zeros(len(found), int),
        category=np.array([kind for kind, *_ in found], int),
        score=np.linspace(0.9, 0.5, len(found), dtype=np.float32),
        outcome=np.array([outcome for *_, outcome in found], np.uint8).reshape(1, -1, 1),
        object_image=np.zeros(len(truths), int),
        object_category=np.array([kind for kind, *_ in truths], int),
        object_counts=np.array([[counts] for *_, counts in truths], bool).reshape(-1, 1),
        thresholds=np.array([0.5]),
        areas=("all",),
        classes=CLASSES,
        rule=rule,
    )
    boxes = [np.array([box for _, box, _ in some], dtype=float).reshape(-1, 4) for some in (found, truths)]
    return matches, overlap_of_boxes(boxes[0].astype(np.float32), boxes[1], rule)


ANT, BEE = (0, (0, 0, 10, 10), True), (1, (100, 0, 110, 10), True)


@pytest.mark.parametrize(
    ("box", "category", "kind", "meant"),
    [
        ((0, 0, 10, 9), 0, DUPLICATE, 0),
        ((0, 0, 10, 5), 0, DUPLICATE, 0),  # IoU 0.5
        ((0, 0, 10, 4.9), 0, LOCATION, 0),
        ((0, 0, 10, 1), 0, LOCATION, 0),  # IoU 0.1
        ((0, 0, 10, 0.9), 0, BACKGROUND, NONE),
        ((50, 50, 60, 60), 0, BACKGROUND, NONE),
        ((100, 0, 110, 9), 0, CLASS, 1),
        ((100, 0, 110, 5), 0, CLASS, 1),
        ((100, 0, 110, 4), 0, BOTH, 1),
        ((100, 0, 110, 1), 0, BACKGROUND, NONE),  # 0.1 with another class is background, as TIDE has it
        ((0, 0, 10, 10), 2, CLASS, 0),
    ],
)
def test_each_kind_by_hand(box, category, kind, meant):
    matches, overlap = of_boxes([ANT, BEE], [(0, (0, 0, 10, 10), TRUE), (category, box, FALSE)])
    found, about = kinds(matches, overlap)
    assert (found.tolist(), about.tolist()) == ([NONE, kind], [NONE, meant])


def test_voc_asks_for_more_than_half_with_its_own_pixels():
    own = [(0, (0, 0, 10, 10), TRUE)]
    for height, kind in ((5, LOCATION), (5.2, DUPLICATE)):
        matches, overlap = of_boxes([ANT], [*own, (0, (0, 0, 10, height), FALSE)], "voc2007")
        assert kinds(matches, overlap)[0][1] == kind


def test_objects_that_do_not_count_make_no_kind():
    hard = (1, (0, 0, 10, 10), False)
    matches, overlap = of_boxes([hard], [(0, (0, 0, 10, 10), FALSE)])
    assert kinds(matches, overlap)[0].tolist() == [BACKGROUND] and finders(matches, overlap).tolist() == [NONE]


def test_without_objects_or_detections():
    matches, overlap = of_boxes([], [(0, (0, 0, 10, 10), FALSE)])
    assert kinds(matches, overlap)[0].tolist() == [BACKGROUND] and finders(matches, overlap).tolist() == []
    matches, overlap = of_boxes([ANT], [])
    assert kinds(matches, overlap)[0].tolist() == [] and finders(matches, overlap).tolist() == [NONE]


def test_other_thresholds_are_refused():
    matches, overlap = of_boxes([ANT], [])
    matches.thresholds[0] = 0.75
    for work in (kinds, finders):
        with pytest.raises(ValueError, match=r"first threshold is 0\.75, not 0\.5"):
            work(matches, overlap)


def test_pairs_of_equal_keys():
    rng = np.random.default_rng(0)
    own, keys = rng.integers(0, 8, 40), rng.integers(0, 9, 30)
    expected = [(one, other) for one in range(40) for other in range(30) if own[one] == keys[other]]
    assert list(zip(*(part.tolist() for part in pairs(own, keys)), strict=True)) == expected


def pixels(found, truths):
    """IoU of two boxes on pixels, ends excluded."""
    sides = [min(found[axis + 2], truths[axis + 2]) - max(found[axis], truths[axis]) for axis in (0, 1)]
    both = max(0, sides[0]) * max(0, sides[1])
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (found, truths)) - both)


def slow_kinds(matches, iou):
    """TIDE's kinds by loops; ``iou``(detection, object)."""
    found = []
    for one in range(len(matches.score)):
        if matches.outcome[0, one, 0] != FALSE:
            found.append(NONE)
            continue
        same = other = 0.0
        for number in range(len(matches.object_image)):
            if matches.object_image[number] == matches.image[one] and matches.object_counts[number, 0]:
                if matches.object_category[number] == matches.category[one]:
                    same = max(same, iou(one, number))
                else:
                    other = max(other, iou(one, number))
        half = (lambda value: value >= 0.5) if matches.rule == "coco" else (lambda value: value > 0.5)
        if same >= 0.1 and not half(same):
            found.append(KINDS.index("location"))
        elif half(other):
            found.append(KINDS.index("class"))
        elif half(same):
            found.append(KINDS.index("duplicate"))
        elif max(same, other) <= 0.1:
            found.append(KINDS.index("background"))
        else:
            found.append(KINDS.index("class and location"))
    return found


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_coco_equals_loops_and_pycocotools(seed, task, tmp_path):
    content = truth(seed)
    recorder = Recorder(None)
    recorder.reset()
    recorder.add(*outputs(seed, content, decimals=1, keypoints=False))
    detections = recorder.join()
    (tmp_path / "truth.json").write_text(json.dumps(content))
    whole = coco.evaluate(coco.read_truth(tmp_path / "truth.json", "pycocotools"), detections, task, "pycocotools")
    matches = coco.matches_of(whole, detections, tuple("abcde"), coco.loaded)
    objects = content["annotations"]
    if task == "bbox":
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in objects)])
        overlap = overlap_of_boxes(detections.box, boxes, "coco")

        def iou(one, number):
            return pixels(detections.box[one].astype(float), boxes[number])
    else:
        codes = [whole.cocoGt.annToRLE(one) for one in objects]
        overlap = overlap_of_masks(detections.rles(), codes, matches.image)
        found_masks, masks = [rle.decode(one) for one in detections.rles()], [rle.decode(one) for one in codes]

        def iou(one, number):
            either = (found_masks[one] | masks[number]).sum()
            return (found_masks[one] & masks[number]).sum() / either if either else 0.0

    kind, _ = kinds(matches, overlap)
    assert kind.tolist() == slow_kinds(matches, iou)
    assert set(kind.tolist()) == {NONE, DUPLICATE, LOCATION, CLASS, BOTH, BACKGROUND}
    found = finders(matches, overlap)
    expected = np.full(len(objects), NONE)
    place = {one["id"]: number for number, one in enumerate(objects)}
    for one in whole.evalImgs:
        if one is not None and list(one["aRng"]) == [0, 1e10]:
            for number, finder in zip(one["gtIds"], one["gtMatches"][0], strict=True):
                if finder and not objects[place[number]]["iscrowd"]:
                    expected[place[number]] = finder - 1
    assert found.tolist() == expected.tolist() and (found != NONE).sum() == (matches.outcome[0, :, 0] == TRUE).sum() > 9


@pytest.mark.parametrize("seed", range(4))
def test_voc_equals_loops(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(12):
        for _ in range(rng.integers(0, 6)):
            left, top = rng.integers(1, 60, 2)
            width, height = rng.integers(9, 50, 2)
            rows.append(
                (image, int(rng.integers(3)), bool(rng.random() < 0.2), [left, top, left + width, top + height])
            )
    objects = voc.Truth([str(image) for image in range(12)], rows)
    picked = rng.integers(0, len(rows), 250)
    box = objects.box[picked] - [1, 1, 0, 0] + rng.normal(0, 5, (250, 4))
    order = np.argsort(objects.image[picked], kind="stable")
    kind = np.where(rng.random(250) < 0.7, objects.category[picked], rng.integers(0, 3, 250))
    detections = Detections(
        ids=objects.ids,
        sizes=np.full((12, 2), 120),
        image=objects.image[picked][order],
        category=kind[order].astype(np.int32),
        score=np.round(rng.random(250), 1).astype(np.float32),
        box=box[order].astype(np.float32),
    )
    matches = voc.match(detections, objects, CLASSES, "voc2007")
    rounded = np.round(np.round((detections.box + np.float32([1, 1, 0, 0])).astype(float) * 10) / 10, 1)

    def iou(one, number):
        return pixels(rounded[one] + [0, 0, 1, 1], objects.box[number] + [0, 0, 1, 1])

    overlap = overlap_of_boxes(detections.box, objects.box - [1, 1, 0, 0], "voc2007")
    assert kinds(matches, overlap)[0].tolist() == slow_kinds(matches, iou)
    expected = np.full(len(rows), NONE)
    for one in np.flatnonzero(matches.outcome[0, :, 0] == TRUE).tolist():
        own = [
            number
            for number in range(len(rows))
            if (objects.image[number], objects.category[number]) == (matches.image[one], matches.category[one])
        ]
        expected[max(own, key=lambda number: (iou(one, number), -number))] = one
    found = finders(matches, overlap)
    assert found.tolist() == expected.tolist() and (found != NONE).sum() > 9
