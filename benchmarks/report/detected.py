"""Everything that show.py draws of a detection run, from the files beside its record: no model and no second test.

Detections (store.py), their matches (matches.py) and the test set of the data root; also of masks where there are some.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as rle

from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.pictures import Marked, objects_of
from benchmarks.data.registration import load_voc, records_of, register
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError
from transfer.detection.evaluation.kinds import NONE, finders, kinds
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches, load_matches
from transfer.detection.evaluation.pairs import Overlap, overlap_of_boxes, overlap_of_masks
from transfer.detection.evaluation.store import Detections, load_detections

MEASURES = {"bbox": "boxes", "segm": "masks"}
AGAIN = "run it again with --rerun always"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Detections judged by boxes or by masks, at IoU 0.5: ``kind`` and ``meant`` (N,) of kinds.py, ``finder`` (M,)."""

    matches: Matches
    kind: np.ndarray
    meant: np.ndarray
    finder: np.ndarray

    @functools.cached_property
    def aps(self) -> np.ndarray:
        """C×T average precisions in percent, NaN of classes without an object that counts."""
        return np.array([100 * self.matches.ap(number) for number in range(len(self.matches.classes))])

    @functools.cached_property
    def score(self) -> float:
        """The score from which detections have the highest F1 over all classes at IoU 0.5.

        Where none is right, the score of the detection whose rank is the number of objects; 1 without a detection.
        """
        outcome, objects = self.matches.outcome[0, :, 0], int(self.matches.object_counts[:, 0].sum())
        counted = np.flatnonzero(outcome != UNCOUNTED)
        order = counted[np.argsort(-self.matches.score[counted], kind="stable")]
        if not len(order):
            return 1.0
        scores, true = self.matches.score[order], np.cumsum(outcome[order] == TRUE)
        f1 = 2 * true / (np.arange(1, len(order) + 1) + objects)
        f1[:-1][scores[1:] == scores[:-1]] = 0  # equal scores are taken together
        return float(scores[f1.argmax()] if true[-1] else scores[min(max(objects, 1), len(scores)) - 1])

    def ranked(self, category: int) -> np.ndarray:
        """Numbers of a class's detections that count, by descending score."""
        own = np.flatnonzero((self.matches.category == category) & (self.matches.outcome[0, :, 0] != UNCOUNTED))
        return own[np.argsort(-self.matches.score[own], kind="stable")]

    def objects(self, category: int) -> np.ndarray:
        """Numbers of a class's objects that count."""
        return np.flatnonzero((self.matches.object_category == category) & self.matches.object_counts[:, 0])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """A run on its test set: ``images`` are dataset dicts by place, ``objects`` the M of all, ``place`` (M,) theirs."""

    classes: tuple[str, ...]
    images: Sequence[dict[str, Any]]
    objects: Sequence[Marked]
    place: np.ndarray
    detections: Detections
    measures: Mapping[str, Measured]

    def box(self, number: int) -> tuple[float, float, float, float]:
        """Of a detection: left, top, right, bottom in pixels."""
        left, top, right, bottom = self.detections.box[number].tolist()
        return left, top, right, bottom

    def mask(self, number: int) -> dict[str, Any] | None:
        """COCO's RLE of a detection's mask."""
        if self.detections.masks is None:
            return None
        size = self.detections.sizes[self.detections.image[number]].tolist()
        return {"size": size, "counts": self.detections.masks[number]}


def load_tested(folder: Path, root: DataRoot, layout: str) -> Tested:
    """The run whose files are in ``folder``, on the test set of ``root``. InputError where they are not of it."""
    detections = load_detections(folder)
    paths = {name: folder / f"matches-{name}.npz" for name in MEASURES}
    matches = {name: load_matches(path) for name, path in paths.items() if path.is_file()}
    if not matches:
        raise InputError(f"{folder} has no matches-bbox.npz: the run is of an earlier version ({AGAIN})")
    root.check_unchanged()
    classes = tuple(root.section(layout)["classes"])
    images = test_images(root, layout)
    for name, one in matches.items():
        _check(paths[name], one, detections, images, classes)
    first = next(iter(matches.values()))
    of_id = {str(image["image_id"]): image for image in images}
    images = [of_id[str(one)] for one in first.ids.tolist()]
    objects = [one for image in images for one in objects_of(image, classes)]
    place = np.repeat(np.arange(len(images)), [len(image["annotations"]) for image in images])
    measures = {}
    for name, one in matches.items():
        one = _in_image_order(one)
        if not np.array_equal(one.object_image, place):
            raise InputError(f"{paths[name]} is of other objects than {root.path} has: {AGAIN}")
        overlap = _overlap(name, one, detections, images, objects, place)
        kind, meant = kinds(one, overlap)
        measures[name] = Measured(matches=one, kind=kind, meant=meant, finder=finders(one, overlap))
    return Tested(
        classes=classes, images=images, objects=objects, place=place, detections=detections, measures=measures
    )


def test_images(root: DataRoot, layout: str) -> list[dict[str, Any]]:
    """detectron2's dataset dicts of the test split, without the images' own files and without the training split.

    Of COCO with every annotation in its file, in its order. InputError where they cannot be read.
    """
    try:
        if layout == "voc":
            return _voc_images(root)
        of_coco = LAYOUTS[layout].evaluator == "coco"
        return _coco_images(root.folder(layout)) if of_coco else records_of(register(root, layout).test)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # any, on an edited file
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise InputError(f"{root.folder(layout)} cannot be read ({reason:.200}): prepare it again") from None


def _voc_images(root: DataRoot) -> list[dict[str, Any]]:
    section = root.section("voc")
    parts = [(root.folder("voc") / folder, image_set) for folder, image_set in section["test"]]
    return [one for part in parts for one in load_voc(*part, list(section["classes"]))]


def _coco_images(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "annotations").glob("*_val2017.json")
    stored = json.loads(file.read_text(encoding="utf-8"))
    number = {one: place for place, one in enumerate(sorted(one["id"] for one in stored["categories"]))}
    images = {
        one["id"]: {
            "file_name": str(folder / "val2017" / one["file_name"]),
            "image_id": one["id"],
            "height": one["height"],
            "width": one["width"],
            "annotations": [],
        }
        for one in stored["images"]
    }
    for one in stored["annotations"]:
        if one["image_id"] in images and one["category_id"] in number:
            image = images[one["image_id"]]
            changed = {"category_id": number[one["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}
            if isinstance(one.get("segmentation"), dict):
                changed["segmentation"] = rle_of(one["segmentation"], image["height"], image["width"])
            image["annotations"].append(one | changed)
    return list(images.values())


def _check(
    path: Path, matches: Matches, detections: Detections, images: Sequence[dict[str, Any]], classes: Sequence[str]
) -> None:
    """InputError where the matches are not of these detections on these images."""
    same = (
        np.array_equal(matches.category, detections.category)
        and matches.classes == tuple(classes)
        and sorted(map(str, matches.ids.tolist())) == sorted(str(image["image_id"]) for image in images)
        and np.array_equal(matches.ids.astype(str)[matches.image], detections.ids.astype(str)[detections.image])
        and matches.outcome.shape[1:] == (len(detections), len(matches.thresholds))
        and matches.thresholds[0] == 0.5
    )
    if not same:
        raise InputError(f"{path} is damaged or of another run: {AGAIN}")


def _in_image_order(matches: Matches) -> Matches:
    order = np.argsort(matches.object_image, kind="stable")
    names = ("object_image", "object_category", "object_counts")
    return dataclasses.replace(matches, **{name: getattr(matches, name)[order] for name in names})


def _overlap(
    name: str,
    matches: Matches,
    detections: Detections,
    images: Sequence[dict[str, Any]],
    objects: Sequence[Marked],
    place: np.ndarray,
) -> Overlap:
    if name == "bbox":
        return overlap_of_boxes(
            detections.box, np.array([one.box for one in objects], dtype=float).reshape(-1, 4), matches.rule
        )
    sizes = [(image["height"], image["width"]) for image in images]
    truth = [rle_of(one.segmentation, *sizes[at]) for one, at in zip(objects, place.tolist(), strict=True)]
    return overlap_of_masks(detections.rles() if len(detections) else [], truth, matches.image)


def rle_of(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons, or RLE of lists, as COCO's compressed RLE; compressed RLE unchanged."""
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return rle.frPyObjects(segmentation, height, width)
    return segmentation


def shares(measured: Measured, category: int) -> dict[str, np.ndarray]:
    """Counts of a class: of its N best detections (N: its objects) the right ones and each kind; and of its objects
    those found by them, by detections below them, and by none."""
    objects, ranked = measured.objects(category), measured.ranked(category)
    best = ranked[: len(objects)]
    finder = measured.finder[objects]
    by_best = int(np.isin(finder, best).sum())
    right = int((measured.matches.outcome[0, best, 0] == TRUE).sum())
    kinds_of = measured.kind[best][measured.matches.outcome[0, best, 0] == FALSE]
    return {
        "best": np.array([right, *np.bincount(kinds_of, minlength=5)]),
        "objects": np.array([by_best, int((finder != NONE).sum()) - by_best, int((finder == NONE).sum())]),
    }
