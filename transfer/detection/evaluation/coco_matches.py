"""The outcome of every COCO detection from an evaluator's COCOeval object, for matches.py.

The fast engine matches anew for each range of object sizes. Most groups (the objects and detections of a class in an
image) need that once: where all objects of a group are inside a range, or all outside and none is a crowd, the same
objects are matched in the same order as without a range, and only what counts differs (pycocotools' evaluateImg).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pretrain.common.errors import RunError
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches
from transfer.detection.evaluation.store import Detections

Load = Callable[[Any, Detections, str], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
    """M objects in the annotations' order: ``image`` and ``category`` (M,) as places, ``counts`` (M,), no crowds;
    ``size`` (M,) in square pixels."""

    image: np.ndarray
    category: np.ndarray
    counts: np.ndarray
    size: np.ndarray

    def within(self, areas: np.ndarray) -> np.ndarray:
        """M×A: whether an object counts in each of the A×2 ranges, whose ends belong to them."""
        size = self.size[:, None]
        return np.asarray(self.counts[:, None] & (size >= areas[:, 0]) & (size <= areas[:, 1]))


def matches_of(evaluated: Any, detections: Detections, classes: Sequence[str], load: Load) -> Matches:
    """The outcome of every detection by an engine's COCOeval object, whose last number of detections counts.

    ``load`` gives detections as the fast engine's COCO object: (truth, detections, task).
    """
    parameters = evaluated.params
    place = {int(image): number for number, image in enumerate(parameters.imgIds)}
    objects = _objects(evaluated, place)
    image = np.array([place[one] for one in detections.ids.tolist()], dtype=np.int32)[detections.image]
    areas = np.array(parameters.areaRng, dtype=np.float64)
    outcome = np.full((len(areas), len(detections), len(parameters.iouThrs)), UNCOUNTED, dtype=np.uint8)
    if not hasattr(evaluated, "_engine"):
        _outcomes(evaluated, outcome)
    elif len(detections):
        _outcomes_fast(evaluated, detections, objects, image, load, outcome)
    return Matches(
        ids=np.array(parameters.imgIds),
        image=image,
        category=detections.category,
        score=detections.score,
        outcome=outcome,
        object_image=objects.image,
        object_category=objects.category,
        object_counts=objects.within(areas),
        thresholds=np.array(parameters.iouThrs),
        areas=tuple(parameters.areaRngLbl),
        classes=tuple(classes),
        rule="coco",
    )


def _objects(evaluated: Any, place: dict[int, int]) -> Objects:
    number_of = {int(category): number for number, category in enumerate(evaluated.params.catIds)}
    objects = [one for one in evaluated.cocoGt.dataset["annotations"] if one["image_id"] in place]
    objects = [one for one in objects if one["category_id"] in number_of]
    pointed = evaluated.params.iouType == "keypoints"
    counts = [not one.get("iscrowd") and (not pointed or one["num_keypoints"] > 0) for one in objects]
    return Objects(
        image=np.array([place[one["image_id"]] for one in objects], dtype=np.int32),
        category=np.array([number_of[one["category_id"]] for one in objects], dtype=np.int32),
        counts=np.array(counts, dtype=bool),
        size=np.array([one["area"] for one in objects], dtype=np.float64),
    )


def _outcomes(evaluated: Any, outcome: np.ndarray) -> None:
    """Fill A×N×T ``outcome`` from pycocotools' evalImgs."""
    areas = [list(area) for area in evaluated.params.areaRng]
    for one in evaluated.evalImgs:
        if one is not None and one["dtIds"]:
            found = np.where(one["dtIgnore"], UNCOUNTED, np.where(one["dtMatches"] > 0, TRUE, FALSE))
            outcome[areas.index(list(one["aRng"])), np.array(one["dtIds"]) - 1] = found.T


def _outcomes_fast(
    evaluated: Any, detections: Detections, objects: Objects, image: np.ndarray, load: Load, outcome: np.ndarray
) -> None:
    """Fill A×N×T ``outcome`` from ultrafast-pycocotools' engine; ``image`` (N,): places of the detections' images."""
    ranges = np.array(evaluated.params.areaRng, dtype=np.float64)
    every = objects.within(ranges)
    size = _sizes(detections, evaluated.params.iouType)
    if size is None or not (every[:, 0] == objects.counts).all() or (size < ranges[0, 0]).any():
        _asked(evaluated, detections, image, range(len(outcome)), outcome)
        return
    _asked(evaluated, detections, image, [0], outcome)
    groups, group = np.unique(_keys(objects.category, objects.image, evaluated), return_inverse=True)
    own = _keys(detections.category, image, evaluated)
    at = np.searchsorted(groups, own).clip(max=max(0, len(groups) - 1))
    apart = np.zeros(len(detections), dtype=bool)  # whose group needs the engine for some range
    for area in range(1, len(outcome)):
        inside, outside, crowd = (
            np.bincount(group[some], minlength=len(groups)) > 0
            for some in (every[:, area], objects.counts & ~every[:, area], ~objects.counts)
        )
        outcome[area] = outcome[0]
        if len(groups):
            known = groups[at] == own
            outcome[area][((known & outside[at])[:, None]) & (outcome[0] == TRUE)] = UNCOUNTED
            apart |= known & (outside & (inside | crowd))[at]
        beyond = (size < ranges[area, 0]) | (size > ranges[area, 1])
        outcome[area][beyond[:, None] & (outcome[0] == FALSE)] = UNCOUNTED
    if apart.any():
        rows = np.flatnonzero(apart)
        some, anew = detections.rows(rows), np.full((len(outcome), len(rows), outcome.shape[2]), UNCOUNTED, np.uint8)
        _asked(_again(evaluated, some, load), some, image[rows], range(1, len(outcome)), anew)
        outcome[1:, rows] = anew[1:]


def _keys(category: np.ndarray, image: np.ndarray, evaluated: Any) -> np.ndarray:
    return np.asarray(category.astype(np.int64) * len(evaluated.params.imgIds) + image)


def _sizes(detections: Detections, task: str) -> np.ndarray | None:
    """(N,) square pixels of each detection as the engine has them; None where only it knows them."""
    if task == "segm":
        return detections.mask_area
    if task != "bbox":
        return None
    sides = (detections.box[:, 2:] - detections.box[:, :2]).astype(np.float64)  # detectron2 subtracts in float32
    return np.asarray(sides[:, 0] * sides[:, 1])


def _again(evaluated: Any, detections: Detections, load: Load) -> Any:
    """The engine's COCOeval object of some of the detections, with as little accumulated as it allows."""
    anew = type(evaluated)(evaluated.cocoGt, load(evaluated.cocoGt, detections, evaluated.params.iouType))
    anew.params = evaluated.params.__class__(evaluated.params.iouType)
    anew.params.__dict__.update(evaluated.params.__dict__)
    anew.params.recThrs = anew.params.recThrs[:1]
    anew.params.maxDets = list(anew.params.maxDets[-1:])
    anew.evaluate()
    return anew


def _order(detections: Detections, image: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(N,) numbers by ``group`` (class and image) and descending score; ties stay in order."""
    score = detections.score
    onward, same = image[1:] > image[:-1], image[1:] == image[:-1]
    if (onward | (same & (score[1:] <= score[:-1]))).all() and detections.category.max(initial=0) < 2**15:
        # As detectors give them: only the classes are out of order, and 16 bits are sorted fastest.
        return np.argsort(detections.category.astype(np.int16), kind="stable")
    return np.lexsort((-score, group))


def _asked(
    evaluated: Any, detections: Detections, image: np.ndarray, areas: Sequence[int], outcome: np.ndarray
) -> None:
    """Fill A×N×T ``outcome`` of ``areas`` as the engine has it, whose codes are 0 ignored, 1 true, 2 false.

    It lists the detections by class, image and descending score, the first ``most`` of each class and image.
    """
    most = evaluated.params.maxDets[-1]
    group = _keys(detections.category, image, evaluated)
    order = _order(detections, image, group)
    group = group[order]
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    order = order[np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group)))) < most]
    for area in areas:
        found = evaluated._engine.outcomes(area, most)
        if not (
            np.array_equal(found["score"], detections.score[order])
            and np.array_equal(found["cat_slot"], detections.category[order])
        ):
            raise RunError("ultrafast-pycocotools lists the detections in another order: set COCO_EVAL=pycocotools")
        outcome[area][order] = found["outcome"]
