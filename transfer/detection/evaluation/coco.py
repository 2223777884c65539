"""COCO's AP of boxes, masks and keypoints behind detectron2's interface, by a fast engine that equals pycocotools.

``ultrafast`` (ultrafast-pycocotools) gives the same bits as ``pycocotools``, tens of times faster: the tests assert it.
COCO_EVAL=pycocotools in the environment takes pycocotools' own evaluator instead. As their results are equal, the
choice identifies no run; the record names it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator as Detectron2Evaluator
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pretrain.common.errors import InputError
from transfer.detection.evaluation.coco_matches import matches_of
from transfer.detection.evaluation.store import Detections, Recording

VARIABLE = "COCO_EVAL"
ENGINES = {"ultrafast": "ultrafast-pycocotools", "pycocotools": "pycocotools"}  # and their distributions


def engine() -> str:
    """The engine of COCO_EVAL, else ultrafast if it is installed. InputError if it is unknown or not installed."""
    fast = importlib.util.find_spec("ultrafast_pycocotools") is not None
    chosen = os.environ.get(VARIABLE) or ("ultrafast" if fast else "pycocotools")
    if chosen not in ENGINES:
        raise InputError(f"{VARIABLE}={chosen}: choose {' or '.join(ENGINES)}")
    if chosen == "ultrafast" and not fast:
        raise InputError(f"{VARIABLE}={chosen}: it is not installed (pip install {ENGINES[chosen]})")
    return chosen


def engine_and_version() -> str:
    """The engine's distribution and version, for the record."""
    name = ENGINES[engine()]
    return f"{name} {importlib.metadata.version(name)}"


class COCOEvaluator(Recording, Detectron2Evaluator):
    """detectron2's results for the tasks "bbox", "segm" and "keypoints".

    detectron2 gathers all detections as pickled dicts in one process, copies them per task and uses pycocotools. Here
    each process writes its own (store.py). With a ``folder``, it keeps the detections and a matches-TASK.npz per task.
    """

    def __init__(
        self, dataset_name: str, tasks: Sequence[str], folder: Path | None = None, sigmas: Sequence[float] = ()
    ) -> None:
        """``dataset_name`` needs json_file in its metadata; ``sigmas`` of the keypoints, COCO's if empty."""
        # Not detectron2's own: it reads the annotations with pycocotools, which the fast engine does not need.
        Recording.__init__(self, folder)
        self._logger = logging.getLogger("detectron2.evaluation.coco_evaluation")
        self.meta = MetadataCatalog.get(dataset_name)
        self.tasks, self.sigmas = sorted(tasks), sigmas
        self.engine = engine()

    def evaluate(self) -> dict[str, dict[str, float]]:
        """{task: {"AP", "AP50", …, "AP-" + class}} in percent, NaN where undefined; {} on ranks other than 0."""
        detections = self.recorder.join()
        if detections is None:
            return {}
        names, found = tuple(self.meta.thing_classes), {}
        with contextlib.redirect_stdout(io.StringIO()) as said, without_collection():
            ground = read_truth(self.meta.json_file, self.engine)
            for task in self.tasks:
                evaluated = None  # pycocotools cannot do without any detection
                if len(detections):
                    evaluated = evaluate(ground, detections, task, self.engine, self.sigmas)
                if self.folder:
                    judged = evaluated or evaluation(ground, None, task, self.engine)
                    matches_of(judged, detections, names, loaded).save(self.folder / f"matches-{task}.npz")
                found[task] = self._derive_coco_results(evaluated, task, class_names=names)
        self._logger.info(f"Evaluated with {ENGINES[self.engine]}:\n{said.getvalue()}")
        return found


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Without Python's search for cycles, which takes most of the time while a million dicts are made."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_truth(json_file: str | Path, engine: str) -> Any:
    """The annotations as the engine's COCO object."""
    content = json.loads(Path(json_file).read_text(encoding="utf-8"))
    if engine == "ultrafast":
        from ultrafast_pycocotools import COCO as FastCOCO

        return FastCOCO(content, verbose=False)
    ground = COCO()
    ground.dataset = content
    ground.createIndex()
    return ground


def evaluate(
    ground: Any,
    detections: Detections,
    task: str,
    engine: str,
    sigmas: Sequence[float] = (),
    max_dets: Sequence[int] | None = None,
) -> Any:
    """The engine's COCOeval object after evaluate, accumulate and summarize, of at least one detection.

    ``max_dets``: numbers of detections per image and class that count, COCO's 1, 10, 100 if None.
    """
    found = (loaded if engine == "ultrafast" else _loaded)(ground, detections, task)
    evaluated = evaluation(ground, found, task, engine)
    if max_dets:
        evaluated.params.maxDets = list(max_dets)
    if task == "keypoints" and len(sigmas):
        evaluated.params.kpt_oks_sigmas = np.array(sigmas)
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    return evaluated


def evaluation(ground: Any, found: Any, task: str, engine: str) -> Any:
    """The engine's COCOeval object of its COCO objects, before it evaluates."""
    if engine == "ultrafast":
        from ultrafast_pycocotools import COCOeval as FastCOCOeval

        return FastCOCOeval(ground, found, task)
    return COCOeval(ground, found, task)


def corner_and_size(detections: Detections) -> np.ndarray:
    """N×4 x, y, width, height in float32, in which detectron2 subtracts."""
    box = detections.box.copy()
    box[:, 2:] -= box[:, :2]
    return box


def loaded(ground: Any, detections: Detections, task: str) -> Any:
    """The detections as the fast engine's COCO object."""
    return {"bbox": _loaded_boxes, "segm": _loaded_masks}.get(task, _loaded)(ground, detections, task)


def _loaded(ground: Any, detections: Detections, task: str) -> Any:
    return ground.loadRes(results(detections, task, sorted(ground.getCatIds())))


def _loaded_boxes(ground: Any, detections: Detections, _: str) -> Any:
    """As ``_loaded``, but from rows of image, x, y, width, height, score, category in float64."""
    categories = np.array(sorted(ground.getCatIds()), dtype=np.float64)
    images = detections.ids.astype(np.float64)[detections.image]
    columns = [images, corner_and_size(detections), detections.score, categories[detections.category]]
    return ground.loadRes(np.column_stack(columns).astype(np.float64))


def _loaded_masks(ground: Any, detections: Detections, task: str) -> Any:
    """As ``_loaded``, but the areas are known and the engine needs no boxes."""
    from ultrafast_pycocotools import COCO as FastCOCO

    assert detections.mask_area is not None
    images, categories = _ids(detections, sorted(ground.getCatIds()))
    rows = zip(
        range(1, len(detections) + 1),
        images,
        categories,
        detections.score.tolist(),
        detections.mask_area.tolist(),
        _masks(ground, detections, images, categories),
        strict=True,
    )
    found = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "score": score,
            "area": area,
            "segmentation": mask,
            "iscrowd": 0,
        }
        for number, image, category, score, area, mask in rows
    ]
    known = {name: ground.dataset.get(name, []) for name in ("images", "categories")}
    return FastCOCO(known | {"annotations": found}, verbose=False)


def _masks(
    ground: Any, detections: Detections, images: Sequence[int], categories: Sequence[int]
) -> list[dict[str, Any]]:
    """COCO's RLE of every mask; an empty one where the image has no object of the class, as no overlap is computed."""
    assert detections.masks is not None
    present = {(one["image_id"], one["category_id"]) for one in ground.dataset["annotations"]}
    sizes = detections.sizes.tolist()
    empty = {size: rle.encode(np.zeros(size, np.uint8, order="F")) for size in set(map(tuple, sizes))}
    nothing = [empty[tuple(size)] for size in sizes]
    rows = zip(detections.image.tolist(), images, categories, detections.masks, strict=True)
    return [
        {"size": sizes[place], "counts": counts} if (image, category) in present else nothing[place]
        for place, image, category, counts in rows
    ]


def _ids(detections: Detections, categories: Sequence[int]) -> tuple[list[int], list[int]]:
    """The data set's ids of each detection's image and category."""
    return detections.ids[detections.image].tolist(), np.array(categories)[detections.category].tolist()


def results(detections: Detections, task: str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """COCO's list of results, as detectron2 makes it: no box beside a mask, or its size would be the box's."""
    images, classes = _ids(detections, categories)
    found: list[dict[str, Any]] = [
        {"image_id": image, "category_id": category, "score": score}
        for image, category, score in zip(images, classes, detections.score.tolist(), strict=True)
    ]
    if task == "segm":
        for one, mask in zip(found, detections.rles(), strict=True):
            one["segmentation"] = mask
        return found
    for one, box in zip(found, corner_and_size(detections).tolist(), strict=True):
        one["bbox"] = box
    if task == "keypoints":
        assert detections.keypoints is not None
        # COCO's keypoints are numbers of pixels, detectron2's are positions in the image.
        points = detections.keypoints - np.array([0.5, 0.5, 0], np.float32)
        for one, row in zip(found, points.reshape(len(found), -1).tolist(), strict=True):
            one["keypoints"] = row
    return found
