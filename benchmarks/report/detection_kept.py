"""Scenes of a detection run of an earlier version, which left predictions.json and no matches, for show_detection.py.

Shown are predictions with a score of at least 0.5, matched here: each, by descending score, with the object of its
class that it overlaps most, one to one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from benchmarks.data.pictures import Marked, objects_of
from benchmarks.report.detection_images import IGNORED, RIGHT, WRONG, Scene, Tally, ranking
from pretrain.common.errors import InputError

SHOWN_SCORE, IOU = 0.5, 0.5


def read_scenes(path: Path, test: Sequence[dict[str, Any]], classes: Sequence[str]) -> tuple[list[Scene], float]:
    """The images whose predictions a run kept, best first, and the highest score of all.

    InputError if they are not in ``test``.
    """
    truth = {str(one["image_id"]): one for one in test}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        scenes = [scene(image, truth[str(image["image_id"])], classes) for image in stored]
        highest = max([0.0, *(one["score"] for image in stored for one in image["instances"])])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise InputError(
            f"{path} is damaged or of another run ({reason:.200}): run again with --rerun always"
        ) from None
    if not scenes:
        raise InputError(f"{path} holds no image: run again with --rerun always")
    return [scenes[one] for one in ranking([each.tally for each in scenes])], highest


def scene(kept: dict[str, Any], image: dict[str, Any], classes: Sequence[str]) -> Scene:
    """One image of predictions.json with its truth; ValueError if the two do not match."""
    if Path(kept["file_name"]).name != Path(image["file_name"]).name:
        raise ValueError(f"image {kept['image_id']} is {kept['file_name']}, in the data {image['file_name']}")
    instances = sorted(kept["instances"], key=lambda one: -one["score"])
    predictions = [prediction(one, image, classes) for one in instances]
    found = predictions[: sum(one["score"] >= SHOWN_SCORE for one in instances)]
    return matched(image, objects_of(image, classes), found)


def prediction(one: dict[str, Any], image: dict[str, Any], classes: Sequence[str]) -> Marked:
    """A kept prediction as an object to draw; ValueError if it cannot belong to ``image``."""
    category, mask, (left, top, right, bottom) = one["class"], one["mask"], one["box"]
    inside = 0 <= left <= right <= image["width"] and 0 <= top <= bottom <= image["height"]
    if type(category) is not int or not 0 <= category < len(classes) or not 0 <= one["score"] < 2 or not inside:
        raise ValueError(f"no prediction on image {image['image_id']}: {json.dumps(one)}")
    if mask is not None and mask["size"] != [image["height"], image["width"]]:
        raise ValueError(f"a mask of size {mask['size']} on image {image['image_id']}")
    note = f" {one['score']:.2f}"
    return Marked(name=classes[category], box=(left, top, right, bottom), segmentation=mask, note=note)


def matched(image: dict[str, Any], truth: Sequence[Marked], found: Sequence[Marked]) -> Scene:
    """Predictions by descending score against the objects, both coloured.

    An unmatched prediction does not count as wrong if half of it is inside an ignored object of its class.
    """
    ignored = np.array([one.ignored for one in truth], dtype=bool)
    free, colours = ~ignored, []
    overlaps = np.zeros((len(found), len(truth)))
    if found and truth:
        # Overlap with a crowd is the fraction of the prediction inside it.
        overlaps = rle.iou(_corner_and_size(found), _corner_and_size(truth), ignored.astype(np.uint8))
        overlaps[np.not_equal.outer([one.name for one in found], [one.name for one in truth])] = 0
    for row in overlaps:
        if (row * free).max(initial=0) >= IOU:
            free[(row * free).argmax()] = False
            colours.append(RIGHT)
        else:
            colours.append(WRONG if (row * ignored).max(initial=0) < IOU else IGNORED)
    tally = Tally(hits=colours.count(RIGHT), missed=int(free.sum()), wrong=colours.count(WRONG))
    of_truth = [IGNORED if apart else WRONG if left else RIGHT for apart, left in zip(ignored, free, strict=True)]
    marked = [
        [dataclasses.replace(one, colour=colour) for one, colour in zip(some, shades, strict=True)]
        for some, shades in ((truth, of_truth), (found, colours))
    ]
    return Scene(image=image, truth=marked[0], found=marked[1], tally=tally)


def _corner_and_size(objects: Sequence[Marked]) -> np.ndarray:
    boxes = np.array([one.box for one in objects], dtype=float)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
