"""PASCAL VOC's AP as detectron2 defines it, vectorised, averaged only over the classes with an object in the test set.

Definition: facebookresearch/detectron2:detectron2/evaluation/pascal_voc_evaluation.py. Scores are rounded to 3 decimals
and boxes to 1; pixels are inclusive; a detection belongs to the object of its class that it overlaps most, taken or
not; on a difficult object it does not count. detectron2 sorts equal scores in an order that depends on the processor
(an unstable sort); here they stay in the order of the test set and of the detector's output, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation.pascal_voc_evaluation import parse_rec

from pretrain.common.errors import RunError
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches
from transfer.detection.evaluation.pairs import pairs, voc_boxes, voc_overlaps
from transfer.detection.evaluation.store import Detections, Recording

THRESHOLDS = tuple(percent / 100.0 for percent in range(50, 100, 5))


class VOCEvaluator(Recording):
    """AP, AP50 and AP75 over the classes with a test object that is not difficult.

    detectron2 gives a class without one AP 0, so that a perfect detector does not reach 100; COCO's evaluator leaves
    it out. Where every class has a test object, and no score occurs twice, the results are detectron2's to the bit.
    With a ``folder`` the detections (store.py) and matches-bbox.npz stay there.
    """

    def __init__(self, dataset_name: str, folder: Path | None = None) -> None:
        """``dataset_name`` needs dirname, split, year and thing_classes in its metadata, as detectron2 requires."""
        super().__init__(folder)
        meta = MetadataCatalog.get(dataset_name)
        if meta.year not in (2007, 2012):
            raise RunError(f"{dataset_name}: VOC's metric of {meta.year} is unknown")
        self.rule = f"voc{meta.year}"
        self.classes = tuple(meta.thing_classes)
        self.truth = _read_truth(Path(meta.dirname), meta.split, self.classes)
        counted = np.unique(self.truth.category[~self.truth.difficult])
        self.tested: list[int] = counted.tolist()
        """Numbers of the classes that count, ascending."""

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"bbox": {"AP", "AP50", "AP75"}} in percent, −1 (undefined, as COCO writes it) where no class is tested.

        None on ranks other than 0.
        """
        detections = self.recorder.join()
        if detections is None:
            return None
        matches = match(detections, self.truth, self.classes, self.rule)
        if self.folder:
            matches.save(self.folder / "matches-bbox.npz")
        if not self.tested:
            return {"bbox": {"AP": -1.0, "AP50": -1.0, "AP75": -1.0}}
        each = np.array([matches.ap(number) * 100 for number in self.tested])
        means = [np.mean(column.copy()) for column in each.T]  # contiguous: the order of a sum is part of its bits
        return {"bbox": {"AP": float(np.mean(means)), "AP50": float(means[0]), "AP75": float(means[5])}}


class Truth:
    """M objects of the classes on the images ``ids``, in the annotations' order: ``image`` (places in ``ids``)
    ascending, ``category``, ``difficult`` (M,), and ``box`` M×4 in VOC's pixels, which start at 1."""

    def __init__(self, ids: list[str], rows: list[tuple[int, int, bool, list[int]]]) -> None:
        self.ids = np.array(ids, dtype=np.str_)
        self.image = np.array([row[0] for row in rows], dtype=np.int32)
        self.category = np.array([row[1] for row in rows], dtype=np.int32)
        self.difficult = np.array([row[2] for row in rows], dtype=bool)
        self.box = np.array([row[3] for row in rows], dtype=np.float64).reshape(-1, 4)


def _read_truth(folder: Path, split: str, classes: Sequence[str]) -> Truth:
    ids = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8").split()
    number = {name: place for place, name in enumerate(classes)}
    rows = [
        (place, number[one["name"]], bool(one["difficult"]), one["bbox"])
        for place, image in enumerate(ids)
        for one in parse_rec(str(folder / "Annotations" / f"{image}.xml"))
        if one["name"] in number
    ]
    return Truth(ids, rows)


def match(detections: Detections, truth: Truth, classes: Sequence[str], rule: str) -> Matches:
    """The outcome of every detection at THRESHOLDS. RunError for a detection on an image that is not in the test set.

    Not counted are objects that are difficult, and detections on them.
    """
    image = _places(detections, truth)
    # detectron2 writes '%.3f' of float32 numbers: the products are exact in float64, so these are the same.
    score = np.rint(detections.score.astype(np.float64) * 1000) / 1000
    box = voc_boxes(detections.box)
    overlap, nearest = _nearest(image, detections.category, box, truth, len(classes))
    thresholds = np.array(THRESHOLDS)
    outcome = np.full((1, len(score), len(thresholds)), FALSE, dtype=np.uint8)
    ranked = np.lexsort((image, -score))
    for number, threshold in enumerate(thresholds):
        on_object = ranked[overlap[ranked] > threshold]
        hard = truth.difficult[nearest[on_object]]
        outcome[0, on_object[hard], number] = UNCOUNTED
        on_object = on_object[~hard]
        _, first = np.unique(nearest[on_object], return_index=True)
        outcome[0, on_object[first], number] = TRUE
    return Matches(
        ids=truth.ids,
        image=image,
        category=detections.category,
        score=score.astype(np.float32),
        outcome=outcome,
        object_image=truth.image,
        object_category=truth.category,
        object_counts=~truth.difficult[:, None],
        thresholds=thresholds,
        areas=("all",),
        classes=tuple(classes),
        rule=rule,
    )


def _places(detections: Detections, truth: Truth) -> np.ndarray:
    """(N,) place of each detection's image in the test set."""
    place = {name: number for number, name in enumerate(truth.ids.tolist())}
    names = [str(one) for one in detections.ids.tolist()]
    if strangers := [name for name in names if name not in place]:
        raise RunError(f"a detection is on image {strangers[0]}, which is not in the test set")
    return np.array([place[name] for name in names], dtype=np.int32)[detections.image]


def _nearest(
    image: np.ndarray, category: np.ndarray, box: np.ndarray, truth: Truth, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """((N,) highest overlap with an object of the same class and image, −inf if there is none; (N,) that object).

    Of objects that are overlapped equally, the first.
    """
    overlap, nearest = np.full(len(box), -np.inf), np.zeros(len(box), dtype=np.int64)
    key = truth.image.astype(np.int64) * classes + truth.category
    row, column = pairs(image.astype(np.int64) * classes + category, key)
    if not len(row):
        return overlap, nearest
    values = voc_overlaps(box[row], truth.box[column])
    first = np.flatnonzero(np.append(True, row[1:] != row[:-1]))  # of each detection's pairs
    counts = np.diff(np.append(first, len(row)))
    highest = np.maximum.reduceat(values, first)
    # An inverted box may have an overlap of 0/0, which exceeds no threshold, whichever object it is.
    candidates = np.where(values == np.repeat(highest, counts), np.arange(len(values)), len(values) - 1)
    some = row[first]
    overlap[some], nearest[some] = highest, column[np.minimum.reduceat(candidates, first)]
    return overlap, nearest


def classes_tested(dataset_name: str) -> int:
    """Number of classes with a test object that is not difficult."""
    meta = MetadataCatalog.get(dataset_name)
    truth = _read_truth(Path(meta.dirname), meta.split, meta.thing_classes)
    return len(np.unique(truth.category[~truth.difficult]))
