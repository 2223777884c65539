"""Pairs of detections and objects, and how far they overlap: as an evaluator's rule has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Intersection over union of P pairs: (P,) numbers of detections and (P,) of objects, ascending by detection."""


def pairs(own: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of equal key of N detections' ``own`` and M objects' ``keys``: (P,) detections and (P,) objects.

    Ascending by detection, the objects of one in their order.
    """
    order = np.argsort(keys, kind="stable")
    start, end = (np.searchsorted(keys[order], own, side) for side in ("left", "right"))
    counts = end - start
    first = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(own)), counts), order[np.arange(counts.sum()) - np.repeat(first - start, counts)]


def voc_boxes(box: np.ndarray) -> np.ndarray:
    """N×4 float32 boxes in VOC's pixels, which start at 1, to one decimal.

    detectron2 writes '%.1f' of float32 numbers: their products are exact in float64, so these are the same.
    """
    corners = (box + np.array([1, 1, 0, 0], np.float32)).astype(np.float64)
    return np.asarray(np.rint(corners * 10) / 10)


def voc_overlaps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(P,) intersection over union of P pairs of boxes whose right and bottom pixels belong to them."""
    return _overlaps(found, truth, 1.0)


def coco_overlaps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(P,) intersection over union of P pairs of boxes whose right and bottom edges end them."""
    return _overlaps(found, truth, 0.0)


def _overlaps(found: np.ndarray, truth: np.ndarray, edge: float) -> np.ndarray:
    width = np.maximum(np.minimum(truth[:, 2], found[:, 2]) - np.maximum(truth[:, 0], found[:, 0]) + edge, 0.0)
    height = np.maximum(np.minimum(truth[:, 3], found[:, 3]) - np.maximum(truth[:, 1], found[:, 1]) + edge, 0.0)
    both = width * height
    areas = [(box[:, 2] - box[:, 0] + edge) * (box[:, 3] - box[:, 1] + edge) for box in (found, truth)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(both / (areas[0] + areas[1] - both))


def overlap_of_boxes(found: np.ndarray, truth: np.ndarray, rule: str) -> Overlap:
    """Of N×4 float32 and M×4 boxes (left, top, right, bottom, from 0, ends excluded), by ``rule`` of matches.RULES."""
    if rule == "coco":
        boxes, objects, overlaps = found.astype(np.float64), truth, coco_overlaps
    else:
        boxes, objects, overlaps = voc_boxes(found), truth + np.array([1.0, 1, 0, 0]), voc_overlaps
    return lambda detections, numbers: overlaps(boxes[detections], objects[numbers])


def overlap_of_masks(found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], image: np.ndarray) -> Overlap:
    """Of N and M masks in COCO's RLE; ``image`` (N,) of the detections, whose pairs are within an image."""

    def overlap(detections: np.ndarray, objects: np.ndarray) -> np.ndarray:
        values = np.zeros(len(detections))
        order = np.argsort(image[detections], kind="stable")
        places = image[detections[order]]
        for some in np.split(order, np.flatnonzero(places[1:] != places[:-1]) + 1) if len(order) else []:
            own, row = np.unique(detections[some], return_inverse=True)
            there, column = np.unique(objects[some], return_inverse=True)
            found_there, true_there = [found[one] for one in own.tolist()], [truth[one] for one in there.tolist()]
            values[some] = rle.iou(found_there, true_there, np.zeros(len(there), np.uint8))[row, column]
        return values

    return overlap
