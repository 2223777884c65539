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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator as Detectron2Evaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pretrain.common.errors import InputError, RunError
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches
from transfer.detection.evaluation.store import Detections, Recorder

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


class COCOEvaluator(Detectron2Evaluator):
    """detectron2's results for the tasks "bbox", "segm" and "keypoints".

    detectron2 gathers all detections as pickled dicts in one process, copies them per task and uses pycocotools. Here
    each process writes its own (store.py). With a ``folder``, it keeps the detections and a matches-TASK.npz per task.
    """

    def __init__(
        self, dataset_name: str, tasks: Sequence[str], folder: Path | None = None, sigmas: Sequence[float] = ()
    ) -> None:
        """``dataset_name`` needs json_file in its metadata; ``sigmas`` of the keypoints, COCO's if empty."""
        # Not detectron2's own: it reads the annotations with pycocotools, which the fast engine does not need.
        self._logger = logging.getLogger("detectron2.evaluation.coco_evaluation")
        self.meta = MetadataCatalog.get(dataset_name)
        self.tasks, self.sigmas, self.folder = sorted(tasks), sigmas, folder
        self.engine = engine()
        self.recorder = Recorder(folder)

    def reset(self) -> None:
        """Discard the detections so far."""
        self.recorder.reset()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Record one batch of the detector's outputs."""
        self.recorder.add(inputs, outputs)

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
                        matches = matches_of(evaluated, detections, names)
                        matches.save(self.folder / f"matches-{task}.npz")
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
    if engine == "ultrafast":
        from ultrafast_pycocotools import COCOeval as FastCOCOeval

        load = {"bbox": _loaded_boxes, "segm": _loaded_masks}.get(task, _loaded)
        evaluated = FastCOCOeval(ground, load(ground, detections, task), task)
    else:
        evaluated = COCOeval(ground, _loaded(ground, detections, task), task)
    if max_dets:
        evaluated.params.maxDets = list(max_dets)
    if task == "keypoints" and len(sigmas):
        evaluated.params.kpt_oks_sigmas = np.array(sigmas)
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    return evaluated


def corner_and_size(detections: Detections) -> np.ndarray:
    """N×4 x, y, width, height in float32, in which detectron2 subtracts."""
    box = detections.box.copy()
    box[:, 2:] -= box[:, :2]
    return box


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
    found = results(detections, task, sorted(ground.getCatIds()))
    for number, (one, area) in enumerate(zip(found, detections.mask_area.tolist(), strict=True)):
        one |= {"id": number + 1, "area": area, "iscrowd": 0}
    known = {name: ground.dataset.get(name, []) for name in ("images", "categories")}
    return FastCOCO(known | {"annotations": found}, verbose=False)


def results(detections: Detections, task: str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """COCO's list of results, as detectron2 makes it: no box beside a mask, or its size would be the box's."""
    images = detections.ids[detections.image].tolist()
    classes = np.array(categories)[detections.category].tolist()
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


def matches_of(evaluated: Any, detections: Detections, classes: Sequence[str]) -> Matches:
    """The outcome of every detection by an engine's COCOeval object, whose last number of detections counts."""
    parameters, ground = evaluated.params, evaluated.cocoGt
    ids = np.array(parameters.imgIds)
    place = {int(image): number for number, image in enumerate(parameters.imgIds)}
    number_of = {int(category): number for number, category in enumerate(parameters.catIds)}
    areas = np.array(parameters.areaRng, dtype=np.float64)
    outcome = np.full((len(areas), len(detections), len(parameters.iouThrs)), UNCOUNTED, dtype=np.uint8)
    (_outcomes_fast if hasattr(evaluated, "_engine") else _outcomes)(evaluated, detections, outcome)
    objects = [one for one in ground.dataset["annotations"] if one["image_id"] in place]
    objects = [one for one in objects if one["category_id"] in number_of]
    counts = np.array(
        [
            not one.get("iscrowd") and (evaluated.params.iouType != "keypoints" or one["num_keypoints"] > 0)
            for one in objects
        ],
        dtype=bool,
    )
    size = np.array([one["area"] for one in objects], dtype=np.float64)[:, None]
    return Matches(
        ids=ids,
        image=np.array([place[one] for one in detections.ids.tolist()], dtype=np.int32)[detections.image],
        category=detections.category,
        score=detections.score,
        outcome=outcome,
        object_image=np.array([place[one["image_id"]] for one in objects], dtype=np.int32),
        object_category=np.array([number_of[one["category_id"]] for one in objects], dtype=np.int32),
        object_counts=counts[:, None] & (size >= areas[:, 0]) & (size <= areas[:, 1]),
        thresholds=np.array(parameters.iouThrs),
        areas=tuple(parameters.areaRngLbl),
        classes=tuple(classes),
        rule="coco",
    )


def _outcomes_fast(evaluated: Any, detections: Detections, outcome: np.ndarray) -> None:
    """Fill A×N×T ``outcome`` from ultrafast-pycocotools' engine, whose codes are 0 ignored, 1 true, 2 false.

    It lists the detections by class, image and descending score, the first ``most`` of each class and image.
    """
    most = evaluated.params.maxDets[-1]
    image = np.searchsorted(evaluated.params.imgIds, detections.ids)[detections.image]
    order = np.lexsort((-detections.score, image, detections.category))
    group = (detections.category.astype(np.int64) * len(evaluated.params.imgIds) + image)[order]
    order = order[np.arange(len(group)) - np.searchsorted(group, group) < most]
    for area in range(len(outcome)):
        found = evaluated._engine.outcomes(area, most)
        if not (
            np.array_equal(found["score"], detections.score[order])
            and np.array_equal(found["cat_slot"], detections.category[order])
        ):
            raise RunError("ultrafast-pycocotools lists the detections in another order: set COCO_EVAL=pycocotools")
        outcome[area][order] = found["outcome"]


def _outcomes(evaluated: Any, _: Detections, outcome: np.ndarray) -> None:
    """Fill A×N×T ``outcome`` from pycocotools' evalImgs."""
    areas = [list(area) for area in evaluated.params.areaRng]
    for one in evaluated.evalImgs:
        if one is not None and one["dtIds"]:
            found = np.where(one["dtIgnore"], UNCOUNTED, np.where(one["dtMatches"] > 0, TRUE, FALSE))
            outcome[areas.index(list(one["aRng"])), np.array(one["dtIds"]) - 1] = found.T
