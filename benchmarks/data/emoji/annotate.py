"""Annotations of the emoji set's scenes: the objects that count, their outlines, boxes and areas, as VOC and COCO.

An object is left out when the longer side of its visible box is under 12 pixels or under 10 % of it is visible;
truncated = cut by the border; difficult = under 30 % visible. Outlines are the outer contours, holes filled; COCO's
area and box and VOC's box all come from the rasterised polygon, so the files agree with themselves and each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pycocotools import mask as rle
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

from benchmarks.data.drawing import Placed, visible
from benchmarks.data.vocxml import VocObject

SMALLEST = 12  # pixels, longer side of the visible box
COCO_NAMES = {  # VOC's name -> COCO's own id and name
    "person": (1, "person"), "bicycle": (2, "bicycle"), "car": (3, "car"), "motorbike": (4, "motorcycle"),
    "aeroplane": (5, "airplane"), "bus": (6, "bus"), "train": (7, "train"), "boat": (9, "boat"), "bird": (16, "bird"),
    "cat": (17, "cat"), "dog": (18, "dog"), "horse": (19, "horse"), "sheep": (20, "sheep"), "cow": (21, "cow"),
    "bottle": (44, "bottle"), "chair": (62, "chair"), "sofa": (63, "couch"), "pottedplant": (64, "potted plant"),
    "diningtable": (67, "dining table"), "tvmonitor": (72, "tv"),
}  # fmt: skip


def longer_side(pixels: np.ndarray) -> int:
    """Longer side of the box around the true pixels of a (H, W) bool array; 0 if there is none."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return int(max(np.ptp(rows), np.ptp(columns)) + 1) if rows.size else 0


def outlines(pixels: np.ndarray) -> list[list[float]]:
    """Outer contours of a (H, W) bool array as COCO polygons [x0, y0, x1, y1, …]; specks under 4 pixels are dropped."""
    padded = np.pad(binary_fill_holes(pixels), 1).astype(np.float32)
    polygons = []
    for contour in find_contours(padded, 0.5):
        # Padding moved pixel centres by 1; COCO counts from the pixel's corner, so its centre is at 0.5.
        points = contour[:-1, ::-1] - 0.5
        before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
        points = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
        x, y = points.T
        if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 >= 4:
            polygons.append(points.ravel().tolist())
    return polygons


def annotate(placed: Placed, shown: np.ndarray) -> dict[str, Any] | None:
    """The annotation of one object whose pixels ``shown`` are visible; None if it is left out.

    Keys: class, segmentation (polygons), bbox ([x, y, width, height], pixels), area, truncated, difficult.
    """
    part = shown.sum() / max(placed.whole, 1)
    polygons = outlines(shown)
    if part < 0.1 or not polygons:
        return None
    raster = rle.merge(rle.frPyObjects(polygons, *shown.shape))
    x, y, width, height = (int(value) for value in rle.toBbox(raster))
    if max(width, height) < SMALLEST:
        return None
    return {
        "class": placed.factors["class"],
        "segmentation": polygons,
        "bbox": [x, y, width, height],
        "area": int(rle.area(raster)),
        "truncated": bool(placed.silhouette.sum() < placed.whole),
        "difficult": bool(part < 0.3),
    }


def annotate_crowd(crowd: list[Placed], objects: list[Placed]) -> dict[str, Any] | None:
    """The crowd's visible pixels as one annotation with uncompressed column-wise RLE; None if nothing is visible."""
    pixels = np.any(visible(crowd + objects)[: len(crowd)], axis=0)
    if not pixels.any():
        return None
    flat = np.concatenate([[False], pixels.ravel(order="F")])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [pixels.size]]))
    x, y, width, height = (int(value) for value in rle.toBbox(rle.encode(np.asfortranarray(pixels.astype(np.uint8)))))
    return {
        "class": crowd[0].factors["class"],
        "segmentation": {"size": list(pixels.shape), "counts": [int(count) for count in counts]},
        "bbox": [x, y, width, height],
        "area": int(pixels.sum()),
    }


def voc_object(one: dict[str, Any]) -> VocObject:
    """COCO's [x, y, width, height] from 0 becomes VOC's 1-based inclusive corners."""
    x, y, width, height = one["bbox"]
    box = (x + 1, y + 1, x + width, y + height)
    return VocObject(name=one["class"], box=box, truncated=one["truncated"], difficult=one["difficult"])


def coco_json(scenes: list[dict[str, Any]], size: int, description: str, classes: Iterable[str]) -> dict[str, Any]:
    """COCO's instances file of square ``scenes``, ``size`` pixels a side: ids from 1, COCO's own categories."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for one in scenes:
        images.append({"id": one["id"], "file_name": one["file_name"], "width": size, "height": size, "license": 1})
        for item in one["annotations"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": one["id"],
                    "category_id": COCO_NAMES[item["class"]][0],
                    "iscrowd": int(isinstance(item["segmentation"], dict)),
                    **{key: item[key] for key in ("segmentation", "bbox", "area")},
                }
            )
    categories = [
        {"id": number, "name": name, "supercategory": "emoji"}
        for number, name in sorted(COCO_NAMES[name] for name in classes)
    ]
    licence = {"id": 1, "name": "CC BY-SA 4.0", "url": "https://creativecommons.org/licenses/by-sa/4.0/"}
    info = {"description": description, "version": "1"}
    return {
        "info": info,
        "licenses": [licence],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
