"""Predictions of a detection run beside the truth, the best and the worst images, for show.py.

An image's score is the F1 of its predictions (score ≥ 0.5) against its objects at IoU ≥ 0.5, class by class. Crowds and
difficult objects count neither as found nor as missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from benchmarks.data.pictures import (
    GAP,
    WIDTH,
    Colour,
    Marked,
    captioned,
    colours_of,
    heading,
    legend,
    objects_of,
    panel,
    rows,
    truths,
)
from benchmarks.data.root import DataRoot
from benchmarks.records import RunRecord
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError

SHOWN_SCORE, IOU = 0.5, 0.5
PAIRS = 3  # of truth and predictions, per row


class Tally(NamedTuple):
    """Numbers of objects found, objects missed, and predictions that match no object."""

    hits: int
    missed: int
    wrong: int

    @property
    def f1(self) -> float:
        """2·hits / (objects + predictions); 1 if there are neither."""
        return 2 * self.hits / (2 * self.hits + self.missed + self.wrong) if any(self) else 1.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One test image: detectron2's dataset dict, its objects, the predictions shown, and the highest score of all."""

    image: dict[str, Any]
    truth: list[Marked]
    found: list[Marked]
    highest: float
    tally: Tally


def bands(record: RunRecord, root: DataRoot, folder: Path, count: int) -> list[Image.Image]:
    """The ``count`` best and worst images of the test set by the predictions in ``folder``. InputError if it cannot."""
    predictions = folder / "predictions.json"
    if not predictions.is_file():
        raise InputError(f"{folder} has no predictions.json: only detection runs that finished keep it")
    kind = TASKS[record.spec.task].layout
    *_, test = truths(root, kind).values()
    scenes = read_scenes(predictions, test, root.section(kind)["classes"])
    return draw(record, scenes, colours_of(root), count)


def read_scenes(path: Path, test: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[Scene]:
    """The images whose predictions a run kept, best first. InputError if they are not in ``test``."""
    truth = {str(one["image_id"]): one for one in test}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        scenes = [scene(image, truth[str(image["image_id"])], classes) for image in stored]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise InputError(
            f"{path} is damaged or of another run ({reason:.200}): run again with --rerun always"
        ) from None
    if not scenes:
        raise InputError(f"{path} holds no image: run again with --rerun always")
    # Among equal scores an image with more objects found ranks higher, one with more mistakes lower.
    return sorted(scenes, key=lambda one: (-one.tally.f1, -one.tally.hits, one.tally.missed + one.tally.wrong))


def scene(kept: dict[str, Any], image: dict[str, Any], classes: Sequence[str]) -> Scene:
    """One image of predictions.json with its truth; ValueError if the two do not match."""
    if Path(kept["file_name"]).name != Path(image["file_name"]).name:
        raise ValueError(f"image {kept['image_id']} is {kept['file_name']}, in the data {image['file_name']}")
    instances = sorted(kept["instances"], key=lambda one: -one["score"])
    predictions = [prediction(one, image, classes) for one in instances]
    shown = sum(one["score"] >= SHOWN_SCORE for one in instances)
    truth, found = objects_of(image, classes), predictions[:shown]
    highest = instances[0]["score"] if instances else 0.0
    return Scene(image=image, truth=truth, found=found, highest=highest, tally=tally(truth, found))


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


def tally(truth: Sequence[Marked], found: Sequence[Marked]) -> Tally:
    """Match each prediction, by descending score, with the object of its class that it overlaps most, one to one.

    An unmatched prediction is not counted as wrong if half of it is inside an ignored object of its class.
    """
    ignored = np.array([one.ignored for one in truth], dtype=bool)
    free, hits, wrong = ~ignored, 0, 0
    overlaps = np.zeros((len(found), len(truth)))
    if found and truth:
        # Overlap with a crowd is the fraction of the prediction inside it.
        overlaps = rle.iou(_corner_and_size(found), _corner_and_size(truth), ignored.astype(np.uint8))
        overlaps[np.not_equal.outer([one.name for one in found], [one.name for one in truth])] = 0
    for row in overlaps:
        if (row * free).max(initial=0) >= IOU:
            free[(row * free).argmax()] = False
            hits += 1
        else:
            wrong += int((row * ignored).max(initial=0) < IOU)
    return Tally(hits=hits, missed=int(free.sum()), wrong=wrong)


def _corner_and_size(objects: Sequence[Marked]) -> np.ndarray:
    boxes = np.array([one.box for one in objects], dtype=float)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def draw(record: RunRecord, scenes: Sequence[Scene], colours: Mapping[str, Colour], count: int) -> list[Image.Image]:
    """The best scenes and the worst, below a legend; ``scenes`` are sorted best first."""
    highest, tested = max(one.highest for one in scenes), record.test_images or 0
    among = (
        f"{len(scenes):,} test images" if tested <= len(scenes) else f"the first {len(scenes):,} of {tested:,} images"
    )
    if highest < SHOWN_SCORE:
        nothing = f"no prediction reaches the score {SHOWN_SCORE}: the highest is {highest:.2f}"
        print(f"warning: {nothing}", file=sys.stderr)
        sections = {f"N{nothing[1:]}": scenes[-count:]}
    elif len(scenes) <= 2 * count:
        sections = {"All test images, the best first": scenes}
    else:
        sections = {
            f"The {count} best of {among}": scenes[:count],
            f"The {count} worst, the worst last": scenes[-count:],
        }
    used = {one.name for some in sections.values() for each in some for one in (*each.truth, *each.found)}
    rule = f"truth left, predictions with a score of at least {SHOWN_SCORE} right; F1 at IoU {IOU}"
    found = [heading(rule, 15), legend(colours, used)]
    for title, some in sections.items():
        found += [heading(title, 20), *rows([pair(one, colours) for one in some], PAIRS, gap=2 * GAP)]
    return found


def pair(one: Scene, colours: Mapping[str, Colour]) -> Image.Image:
    """Truth and predictions of one image side by side, with the score below."""
    side = (WIDTH - 2 * GAP * PAIRS) // (2 * PAIRS) - GAP // 2
    (both,) = rows([panel(one.image, objects, colours, side) for objects in (one.truth, one.found)], 2, gap=4)
    score = f"F1 {one.tally.f1:.2f}: {one.tally.hits} found, {one.tally.missed} missed, {one.tally.wrong} wrong"
    return captioned(both, f"{score} · {Path(one.image['file_name']).name}")
