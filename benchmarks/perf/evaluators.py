"""Time of the evaluators beside detectron2's own, on the same random detections of COCO val's and VOC2007 test's size.

Run: ``python -m benchmarks.perf evaluators`` (a quarter of an hour: pycocotools and detectron2 are the slow side).
Timed is ``evaluate()``, from what the detector gave to the AP; ours also with the matches written to disk; the
detections are written during the test. Seconds are the processor's, which other work on the machine moves less.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np

from benchmarks.perf.random_detections import as_detectron2, as_json, random_detections, random_truth, write_voc
from benchmarks.perf.timing import processor
from pretrain.common.errors import InputError

COCO_CLASSES, VOC_CLASSES = 80, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Both evaluators of boxes, masks and VOC on random detections: seconds, ratio, equality, and bytes on disk."""

    coco_images: int = 5000
    voc_images: int = 4952
    detections: int = 100
    """Per image."""
    parts: tuple[Literal["bbox", "segm", "voc"], ...] = ("bbox", "segm", "voc")
    rounds: int = 1
    """The median counts; the slow side takes minutes each."""
    threads: int = 1
    """Of the fast COCO engine; detectron2 and pycocotools have one."""


def measure(arguments: Arguments) -> str:
    """Lines with each side of each part."""
    if min(arguments.coco_images, arguments.voc_images, arguments.detections, arguments.rounds) < 1:
        raise InputError("--coco-images, --voc-images, --detections and --rounds are 1 or more")
    # Read when the engine starts its threads; detectron2 is imported late, after the help.
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    about = f"processor seconds of evaluate() alone, of {arguments.rounds} round(s)"
    lines = [f"{arguments.threads} thread(s) of {processor()}; {about}"]
    sides = {"bbox": _coco, "segm": _coco, "voc": _voc}
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            lines += sides[part](arguments, part, Path(folder))
    return "\n".join(lines)


def _coco(arguments: Arguments, task: str, folder: Path) -> list[str]:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOEvaluator as Detectron2Evaluator

    from transfer.detection.evaluation import coco

    rng = np.random.default_rng(0)
    truth = random_truth(rng, arguments.coco_images, COCO_CLASSES)
    found = random_detections(rng, truth, arguments.detections, COCO_CLASSES, masks=task == "segm")
    file = folder / "truth.json"
    file.write_text(json.dumps(as_json(truth, COCO_CLASSES, task == "segm")), encoding="utf-8")
    name = str(folder)
    ids = {number + 1: number for number in range(COCO_CLASSES)}
    names = [str(number) for number in range(COCO_CLASSES)]
    about = {"json_file": str(file), "thing_classes": names, "thing_dataset_id_to_contiguous_id": ids}
    MetadataCatalog.get(name).set(evaluator_type="coco", **about)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = Detectron2Evaluator(name, tasks=(task,), use_fast_impl=False)

    def reference() -> dict[str, Any]:
        per_image = as_detectron2(found)
        theirs._predictions = [{"image_id": number, "instances": rows} for number, rows in per_image.items()]
        with contextlib.redirect_stdout(io.StringIO()):
            return _timed(theirs.evaluate)

    def ours() -> dict[str, Any]:
        return _ours(coco.COCOEvaluator(name, [task]), found)

    def kept() -> dict[str, Any]:
        return _ours(coco.COCOEvaluator(name, [task], folder), found)

    sides = {"detectron2 with pycocotools": reference, "ours": ours, "ours, matches kept": kept}
    counts = f"{len(truth['image']):,} objects, {len(found):,} detections, {arguments.coco_images:,} images"
    title = f"COCO {task}, {coco.engine_and_version()}: {counts}"
    lines = [title, *_compared(sides, arguments.rounds)]
    MetadataCatalog.remove(name)
    return [*lines, _on_disk(folder, len(found))]


def _voc(arguments: Arguments, _: str, folder: Path) -> list[str]:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import PascalVOCDetectionEvaluator, pascal_voc_evaluation

    from transfer.detection.evaluation.voc import VOCEvaluator

    rng = np.random.default_rng(0)
    truth = random_truth(rng, arguments.voc_images, VOC_CLASSES, objects=2.5)
    found = random_detections(rng, truth, arguments.detections, VOC_CLASSES)
    found = dataclasses.replace(found, ids=np.array([f"{number:06d}" for number in found.ids]))
    names = [f"class{number}" for number in range(VOC_CLASSES)]
    write_voc(folder, truth, names, arguments.voc_images)
    about = {"dirname": str(folder), "split": "test", "year": 2007, "thing_classes": names}
    MetadataCatalog.get(str(folder)).set(evaluator_type="pascal_voc", **about)

    def reference() -> dict[str, Any]:
        theirs = PascalVOCDetectionEvaluator(str(folder))
        theirs.reset()
        corners = found.box + np.array([1, 1, 0, 0], np.float32)
        for number in range(len(found)):
            left, top, right, bottom = corners[number]
            line = f"{found.ids[found.image[number]]} {found.score[number]:.3f}"
            theirs._predictions[int(found.category[number])].append(
                f"{line} {left:.1f} {top:.1f} {right:.1f} {bottom:.1f}"
            )
        pascal_voc_evaluation.parse_rec.cache_clear()
        with mock.patch.object(np, "argsort", functools.partial(np.argsort, kind="stable")):
            return _timed(theirs.evaluate)

    def ours(kept: Path | None = None) -> dict[str, Any]:
        pascal_voc_evaluation.parse_rec.cache_clear()
        began = time.process_time()
        evaluator = VOCEvaluator(str(folder), kept)  # reads the annotations, which detectron2 reads in evaluate()
        reading = time.process_time() - began
        timed = _ours(evaluator, found)
        return timed | {"seconds": timed["seconds"] + reading}

    title = "detectron2, its sort made stable"
    sides = {title: reference, "ours": ours, "ours, matches kept": lambda: ours(folder)}
    lines = _compared(sides, arguments.rounds)
    MetadataCatalog.remove(str(folder))
    title = f"VOC: {len(truth['image']):,} objects, {len(found):,} detections, {arguments.voc_images:,} images"
    return [title, *lines, _on_disk(folder, len(found))]


def _ours(evaluator: Any, found: Any) -> dict[str, Any]:
    """evaluate() of detections recorded before, as they are during the test."""
    evaluator.reset()
    evaluator.recorder.keep(found)
    return _timed(evaluator.evaluate)


def _on_disk(folder: Path, detections: int) -> str:
    sizes = {
        "detections": sum(path.stat().st_size for path in folder.glob("detections/*.npz")),
        "matches": sum(path.stat().st_size for path in folder.glob("matches-*.npz")),
    }
    parts = (f"{name} {size / 1e6:.1f} MB ({size / max(1, detections):.1f} bytes each)" for name, size in sizes.items())
    return f"    on disk: {', '.join(parts)}"


def _timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    gc.collect()
    began = time.process_time()
    results = work()
    return {"seconds": time.process_time() - began, "results": results}


def _compared(sides: dict[str, Callable[[], dict[str, Any]]], rounds: int) -> list[str]:
    """Lines with the median seconds of each side, the ratio to the first, and the largest difference of a metric."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, dict[str, float]] = {}
    for turn in range(rounds):
        for name, side in sides.items():
            done = side()
            seconds[name].append(done["seconds"])
            ((_, results[name]),) = done["results"].items()
            print(f"{name}: {done['seconds']:.1f} s, round {turn + 1} of {rounds}", file=sys.stderr)
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    first = next(iter(middle))
    apart = max(_difference(results[first][key], one[key]) for one in results.values() for key in results[first])
    lines = [f"    {name:32}{value:9.2f} s {middle[first] / value:8.1f}×" for name, value in middle.items()]
    numbers = len(results[first])
    return [*lines, f"    AP {results[first]['AP']:.3f}; largest difference of {numbers} numbers: {apart:g}"]


def _difference(one: float, other: float) -> float:
    return 0.0 if one == other or (np.isnan(one) and np.isnan(other)) else abs(one - other)
