"""LVIS' AP of boxes and masks, by hotcoco, whose results are those of the lvis package to the bit.

LVIS is annotated federatedly: on an image a category is present, verified to be absent, or unknown. Detections of
unknown categories do not count, nor do unmatched ones of a category that is not annotated throughout on the image; 300
detections of an image count, of all categories together. AP is also given for categories that are rare, common and
frequent in the training set (Gupta et al., arXiv 1908.03195; lvis-dataset/lvis-api:lvis/eval.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from pretrain.common.errors import InputError
from transfer.detection.evaluation.coco import corner_and_size, results, without_collection
from transfer.detection.evaluation.store import Detections, Recording

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
IMAGES = 500  # whose detections are Python objects at the same time: LVIS val has six million


def engine_and_version() -> str:
    """hotcoco and its version, for the record. InputError if it is not installed."""
    if importlib.util.find_spec("hotcoco") is None:
        raise InputError("LVIS is evaluated by hotcoco, which is not installed: pip install hotcoco")
    return f"hotcoco {importlib.metadata.version('hotcoco')}"


class LVISEvaluator(Recording):
    """METRICS of the tasks "bbox" and "segm". With a ``folder`` the detections (store.py) stay there."""

    def __init__(self, dataset_name: str, tasks: Sequence[str], folder: Path | None = None) -> None:
        """``dataset_name`` needs json_file in its metadata."""
        super().__init__(folder)
        self.truth = Path(MetadataCatalog.get(dataset_name).json_file)
        self.tasks = tasks

    def evaluate(self) -> dict[str, dict[str, float]]:
        """{task: METRICS} in percent, NaN where undefined or where nothing was detected; {} on ranks other than 0."""
        detections = self.recorder.join()
        if detections is None:
            return {}
        if not len(detections):
            return {task: dict.fromkeys(METRICS, float("nan")) for task in self.tasks}
        truth = json.loads(self.truth.read_text(encoding="utf-8"))
        found = {}
        for task in self.tasks:
            values = evaluate(truth, detections, task).get_results()
            found[task] = {name: 100 * values[name] if values[name] >= 0 else float("nan") for name in METRICS}
        return found


def evaluate(truth: Mapping[str, Any], detections: Detections, task: str) -> Any:
    """hotcoco's COCOeval object after accumulate and summarize; ``truth`` is LVIS' content, ``task`` bbox or segm."""
    from hotcoco import StreamingEval

    categories = sorted(one["id"] for one in truth["categories"])
    images = {one["id"]: one for one in truth["images"]}
    objects: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for one in truth["annotations"]:
        objects[one["image_id"]].append(one)
    stream = StreamingEval(truth["categories"], task, lvis_style=True)
    ids = detections.ids.tolist()
    with contextlib.redirect_stdout(io.StringIO()), without_collection():
        for start in range(0, len(ids), IMAGES):
            some = ids[start : start + IMAGES]
            given = _given(_on_images(detections, start, start + len(some)), task, categories)
            stream.update([images[key] for key in some], [one for key in some for one in objects[key]], given)
        evaluated = stream.finalize()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def _on_images(detections: Detections, first: int, end: int) -> Detections:
    """The detections on the images ``first`` … ``end`` − 1, which keep their places."""
    own = slice(*np.searchsorted(detections.image, [first, end]).tolist())
    chosen = {name: getattr(detections, name)[own] for name in ("image", "category", "score", "box")}
    masks = None if detections.masks is None else detections.masks[own]
    return dataclasses.replace(detections, masks=masks, mask_area=None, **chosen)


def _given(detections: Detections, task: str, categories: Sequence[int]) -> Any:
    """Boxes as rows of image, x, y, width, height, score, category in float64; masks as COCO's list of results."""
    if task == "segm":
        return results(detections, task, categories)
    images = detections.ids.astype(np.float64)[detections.image]
    kinds = np.array(categories, dtype=np.float64)[detections.category]
    return np.column_stack([images, corner_and_size(detections), detections.score, kinds]).astype(np.float64)
