"""Cityscapes' AP of instance masks: the numbers of cityscapesscripts' evaluation, which is not needed here.

Definition: mcordts/cityscapesScripts:cityscapesscripts/evaluation/evalInstanceLevelSemanticLabeling.py. It is not
COCO's: any number of detections counts, an object's best-scored detection is the true one, the area below the stepped
curve of precision is taken at every score, objects of fewer than 100 pixels do not count, and detections that find
nothing are ignored where they lie on pixels that no class is evaluated on, on groups or on small objects.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools import mask as rle

from transfer.detection.evaluation.store import Detections, Recording

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
SMALLEST = 100  # pixels of an object that counts
SINGLE = 1000  # ids of objects are 1000 · label + number, those of groups the label
VOID = np.array([0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30])  # labels that are not evaluated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """N detections of a class on an image against its M objects, groups among them.

    ``score`` (N,), float64; ``overlap`` N×M, IoU; ``counts`` (M,), False for groups and small objects; ``ignored``
    (N,), the fraction of its pixels on void, groups and small objects (twice on a small group, as in the original).
    """

    score: np.ndarray
    overlap: np.ndarray
    counts: np.ndarray
    ignored: np.ndarray


class CityscapesEvaluator(Recording):
    """AP (mean over IoU 0.5 … 0.95 and classes), AP50 and the AP of each class, of masks.

    With a ``folder`` the detections (store.py) stay there.
    """

    def __init__(self, dataset_name: str, folder: Path | None = None) -> None:
        """``dataset_name`` needs in its metadata json_file, label_ids of its classes, and the function instances_file
        from a file_name to the file of the image's instance ids."""
        super().__init__(folder)
        self.meta = MetadataCatalog.get(dataset_name)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """{"segm": {"AP", "AP50", "AP_person", …}} in percent, NaN without an object; {} on ranks other than 0."""
        detections = self.recorder.join()
        if detections is None:
            return {}
        names = {one["id"]: one["file_name"] for one in json.loads(Path(self.meta.json_file).read_text())["images"]}
        files = [self.meta.instances_file(names[key]) for key in detections.ids.tolist()]
        ap = average_precisions(detections, files, self.meta.label_ids)
        found = {"AP": _mean(ap), "AP50": _mean(ap[:, 0])}
        found |= {f"AP_{name}": _mean(row) for name, row in zip(self.meta.thing_classes, ap, strict=True)}
        return {"segm": {key: 100 * value for key, value in found.items()}}


def average_precisions(detections: Detections, files: Sequence[Path], labels: Sequence[int]) -> np.ndarray:
    """C×T average precisions in [0, 1]; NaN for a class without an object.

    ``files`` have the instance ids of each image of ``detections``, ``labels`` are the label ids of its categories.
    """
    found: list[list[Found]] = [[] for _ in labels]
    for place, path in enumerate(files):
        for category, one in enumerate(_of_image(detections, place, read_ids(path), labels)):
            found[category].append(one)
    return np.array([[_average_precision(some, threshold) for threshold in THRESHOLDS] for some in found])


def read_ids(path: Path) -> np.ndarray:
    """The H×W instance ids of a file."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.int64)


def _of_image(detections: Detections, place: int, ids: np.ndarray, labels: Sequence[int]) -> Iterator[Found]:
    """The detections on one image, by class; those without a pixel do not exist for the metric."""
    start, end = np.searchsorted(detections.image, [place, place + 1]).tolist()
    assert detections.masks is not None
    size = detections.sizes[place].tolist()
    codes = [{"size": size, "counts": counts} for counts in detections.masks[start:end]]
    counts = np.bincount(ids.ravel())
    present = np.flatnonzero(counts)
    areas, number = counts[present], np.zeros(len(counts), np.int32)
    number[present] = np.arange(len(present))
    columns = number[ids.T]  # as masks are in memory
    covered = [_covered(one, columns, len(present)) for one in codes]
    shared = np.array(covered, dtype=np.int64).reshape(-1, len(present))  # pixels of each detection on each id
    pixels, void = shared.sum(1), shared[:, np.isin(present, VOID)].sum(1)
    kind, score = detections.category[start:end], detections.score[start:end].astype(np.float64)
    label = np.where(present >= SINGLE, present // SINGLE, present)
    for category, wanted in enumerate(labels):
        own, objects = (kind == category) & (pixels > 0), label == wanted
        common, area = shared[own][:, objects], areas[objects]
        group, small = present[objects] < SINGLE, area < SMALLEST
        unseen = void[own] + common[:, group].sum(1) + common[:, small].sum(1)
        yield Found(
            score=score[own],
            overlap=common / (area + pixels[own, None] - common),
            counts=~(group | small),
            ignored=unseen / pixels[own],
        )


def _covered(code: dict[str, Any], columns: np.ndarray, count: int) -> np.ndarray:
    """How many of a mask's pixels are on each of ``count`` numbers of the W×H ``columns``."""
    left, top, width, height = rle.toBbox(code).astype(int).tolist()
    inside = (slice(left, left + width), slice(top, top + height))
    return np.bincount(columns[inside][rle.decode(code).T[inside] > 0], minlength=count)


def _average_precision(found: Sequence[Found], threshold: float) -> float:
    """Of one class: NaN without an object that counts, 0 without a detection."""
    if not any(one.counts.any() for one in found):
        return float("nan")
    true, false, missed = [], [], 0
    for one in found:
        hit = one.overlap > threshold
        hits = np.where(hit[:, one.counts], one.score[:, None], -np.inf)
        taken = hits > -np.inf
        missed += int((~taken.any(0)).sum())
        best = hits[:, taken.any(0)].max(0, initial=-np.inf)
        true.append(best)
        # Of an object's other detections each is a mistake, and so are those that find nothing.
        others = np.sort(hits[:, taken.any(0)], axis=0)[:-1]
        false += [others[others > -np.inf], one.score[~hit.any(1) & (one.ignored <= threshold)]]
    scores = [np.concatenate(some) for some in (true, false)]
    return _area(np.concatenate(scores), np.repeat([1.0, 0.0], [len(some) for some in scores]), missed)


def _area(score: np.ndarray, true: np.ndarray, missed: int) -> float:
    """The area below the curve of precision over recall, in steps; ``missed`` objects have no detection."""
    if not len(score):
        return 0.0
    order = np.argsort(score, kind="stable")
    _, first = np.unique(score[order], return_index=True)
    below = np.append(np.cumsum(true[order]), 0.0)[first - 1]  # true detections with a lower score
    hits = true.sum() - below
    precision = np.append(hits / (len(score) - first), 1.0)
    recall = np.append(hits / (hits + below + missed), 0.0)
    widths = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0, 0.5], "valid")
    return float(np.dot(precision, widths))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
