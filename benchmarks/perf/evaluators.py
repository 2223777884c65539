"""Time of the evaluators beside detectron2's own, on the same random detections of COCO val's and VOC2007 test's size.

Run: ``python -m benchmarks.perf evaluators`` (a quarter of an hour: pycocotools and detectron2 are the slow side).
Timed is ``evaluate()``, from what the detector gave to the AP; ours also with the matches written to disk; the
detections are written during the test.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.perf.timing import processor

COCO_CLASSES, VOC_CLASSES = 80, 20
SIZE = (480, 640)  # height, width
CORNERS = 12  # of a mask's outline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Both evaluators of boxes, masks and VOC on random detections: seconds, ratio, equality, and bytes on disk."""

    coco_images: int = 5000
    voc_images: int = 4952
    detections: int = 100
    """Per image."""
    parts: tuple[str, ...] = ("bbox", "segm", "voc")
    rounds: int = 1
    """The median counts; the slow side takes minutes each."""
    threads: int = 1
    """Of the fast COCO engine; detectron2 and pycocotools have one."""


def measure(arguments: Arguments) -> str:
    """Lines with each side of each part."""
    # Read when the engine starts its threads; detectron2 is imported late, after the help.
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    lines = [f"{arguments.threads} thread(s) of {processor()}; evaluate() alone, of {arguments.rounds} round(s)"]
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
    file.write_text(json.dumps(_as_json(truth, task == "segm")), encoding="utf-8")
    name = str(folder)
    ids = {number + 1: number for number in range(COCO_CLASSES)}
    names = [str(number) for number in range(COCO_CLASSES)]
    about = {"json_file": str(file), "thing_classes": names, "thing_dataset_id_to_contiguous_id": ids}
    MetadataCatalog.get(name).set(evaluator_type="coco", **about)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = Detectron2Evaluator(name, tasks=(task,), use_fast_impl=False)

    def reference() -> dict[str, Any]:
        per_image = _as_detectron2(found)
        theirs._predictions = [{"image_id": number, "instances": rows} for number, rows in per_image.items()]
        with contextlib.redirect_stdout(io.StringIO()):
            return _timed(theirs.evaluate)

    def ours() -> dict[str, Any]:
        return _ours(coco.COCOEvaluator(name, [task]), found)

    def kept() -> dict[str, Any]:
        return _ours(coco.COCOEvaluator(name, [task], folder), found)

    sides = {"detectron2 with pycocotools": reference, "ours": ours, "ours, matches kept": kept}
    title = f"COCO {task}: {len(truth['image']):,} objects, {len(found):,} detections, {arguments.coco_images:,} images"
    lines = [title, *_compared(sides, arguments.rounds)]
    MetadataCatalog.remove(name)
    return [*lines, _on_disk(folder, len(found))]


def _voc(arguments: Arguments, _: str, folder: Path) -> list[str]:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import PascalVOCDetectionEvaluator, pascal_voc_evaluation

    from benchmarks.data.vocxml import VocImage, VocObject, write_xml
    from transfer.detection.evaluation.voc import VOCEvaluator

    rng = np.random.default_rng(0)
    truth = random_truth(rng, arguments.voc_images, VOC_CLASSES, objects=2.5)
    found = random_detections(rng, truth, arguments.detections, VOC_CLASSES)
    found = dataclasses.replace(found, ids=np.array([f"{number:06d}" for number in found.ids]))
    names = [f"class{number}" for number in range(VOC_CLASSES)]
    boxes = np.rint(truth["box"]).astype(int)
    for number in range(arguments.voc_images):
        own = np.flatnonzero(truth["image"] == number)
        objects = tuple(
            VocObject(
                name=names[truth["category"][one]],
                box=tuple((boxes[one] + [1, 1, 0, 0]).tolist()),
                difficult=bool(truth["crowd"][one]),
            )
            for one in own
        )
        image = VocImage(filename=f"{number + 1:06d}.jpg", width=SIZE[1], height=SIZE[0], objects=objects)
        write_xml(folder / "Annotations" / f"{number + 1:06d}.xml", image, "VOC2007")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("".join(f"{number + 1:06d}\n" for number in range(arguments.voc_images)))
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
        began = time.perf_counter()
        evaluator = VOCEvaluator(str(folder), kept)  # reads the annotations, which detectron2 reads in evaluate()
        reading = time.perf_counter() - began
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
    began = time.perf_counter()
    results = work()
    return {"seconds": time.perf_counter() - began, "results": results}


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
    apart = max(_difference(results[first][key], results["ours"][key]) for key in results[first])
    lines = [f"    {name:32}{value:9.2f} s {middle[first] / value:8.1f}×" for name, value in middle.items()]
    return [
        *lines,
        f"    AP {results['ours']['AP']:.3f}; largest difference of {len(results[first])} numbers: {apart:g}",
    ]


def _difference(one: float, other: float) -> float:
    return 0.0 if one == other or (np.isnan(one) and np.isnan(other)) else abs(one - other)


def random_truth(rng: np.random.Generator, images: int, classes: int, objects: float = 7.3) -> dict[str, np.ndarray]:
    """Objects of an image (``objects`` on average, as in COCO), with boxes of many sizes; one in 50 is a crowd."""
    image = np.repeat(np.arange(images), rng.poisson(objects, images))
    side = np.minimum(np.exp(rng.normal(4.2, 1.0, (len(image), 2))) + 4, np.array([SIZE[1], SIZE[0]]) - 2)
    corner = rng.random((len(image), 2)) * (np.array([SIZE[1], SIZE[0]]) - 1 - side)
    category = np.minimum(rng.geometric(0.05, len(image)) - 1, classes - 1)
    crowd = rng.random(len(image)) < 0.02
    return {"image": image, "box": np.hstack([corner, corner + side]), "category": category, "crowd": crowd}


def random_detections(
    rng: np.random.Generator, truth: dict[str, np.ndarray], count: int, classes: int, masks: bool = False
) -> Any:
    """``count`` detections an image: on its objects, moved, three of four of the right class, and anywhere."""
    from pycocotools import mask as rle

    from transfer.detection.evaluation.store import Detections

    images = int(truth["image"].max(initial=0)) + 1
    image = np.repeat(np.arange(images), count)
    starts = np.searchsorted(truth["image"], np.arange(images + 1))
    objects = np.diff(starts)
    one = np.minimum(starts[image] + (rng.random(len(image)) * objects[image]).astype(int), len(truth["image"]) - 1)
    onto = (rng.random(len(image)) < 0.5) & (objects[image] > 0)
    side = np.minimum(np.exp(rng.normal(4.2, 1.0, (len(image), 2))) + 4, np.array([SIZE[1], SIZE[0]]) - 2)
    corner = rng.random((len(image), 2)) * (np.array([SIZE[1], SIZE[0]]) - 1 - side)
    moved = truth["box"][one] + rng.normal(0, 0.08, (len(image), 4)) * np.tile(
        np.ptp(truth["box"][one].reshape(-1, 2, 2), axis=1), 2
    )
    box = np.where(onto[:, None], moved, np.hstack([corner, corner + side]))
    box = np.clip(box, 0, [SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    box = np.hstack([np.minimum(box[:, :2], box[:, 2:]), np.maximum(box[:, :2], box[:, 2:])]).astype(np.float32)
    right = onto & (rng.random(len(image)) < 0.75)
    category = np.where(right, truth["category"][one], rng.integers(0, classes, len(image)))
    score = np.where(right, rng.beta(2, 2, len(image)), rng.beta(1, 8, len(image))).astype(np.float32)
    order = np.lexsort((-score, image))  # as detectors give them
    outlines = list(_outlines(rng, box[order])) if masks else []
    return Detections(
        ids=np.arange(1, images + 1),
        sizes=np.tile(np.array(SIZE, np.int32), (images, 1)),
        image=image.astype(np.int32),
        category=category[order].astype(np.int32),
        score=score[order],
        box=box[order],
        masks=[one["counts"] for one in outlines] if masks else None,
        mask_area=np.array([rle.area(one) for one in outlines], np.uint32) if masks else None,
    )


def _outlines(rng: np.random.Generator, box: np.ndarray) -> Iterator[dict[str, Any]]:
    """COCO RLE of an uneven blob in each box."""
    from pycocotools import mask as rle

    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for start in range(0, len(box), 10_000):
        part = box[start : start + 10_000].astype(float).reshape(-1, 2, 2)
        radius = rng.uniform(0.6, 1.0, (len(part), CORNERS, 1)) * (part[:, 1] - part[:, 0])[:, None] / 2
        points = part.mean(1)[:, None] + circle * radius
        for one in points.reshape(len(part), -1).tolist():
            yield rle.frPyObjects([one], *SIZE)[0]


def _as_json(truth: dict[str, np.ndarray], masks: bool) -> dict[str, Any]:
    images = int(truth["image"].max(initial=0)) + 1
    size = np.hstack([truth["box"][:, :2], truth["box"][:, 2:] - truth["box"][:, :2]])
    rng = np.random.default_rng(1)
    outlines = list(_outlines(rng, truth["box"])) if masks else []
    annotations = []
    for number, (x, y, width, height) in enumerate(size.tolist()):
        one = {
            "id": number + 1,
            "image_id": int(truth["image"][number]) + 1,
            "category_id": int(truth["category"][number]) + 1,
            "bbox": [x, y, width, height],
            "area": 0.7 * width * height,
            "iscrowd": int(truth["crowd"][number]),
        }
        if masks:
            one["segmentation"] = outlines[number] | {"counts": outlines[number]["counts"].decode()}
        annotations.append(one)
    about = [
        {"id": number + 1, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for number in range(images)
    ]
    categories = [{"id": number + 1, "name": str(number)} for number in range(COCO_CLASSES)]
    return {"info": {}, "images": about, "annotations": annotations, "categories": categories}


def _as_detectron2(found: Any) -> dict[int, list[dict[str, Any]]]:
    """image → detectron2's list of results, with contiguous classes, as its evaluator holds them."""
    size = found.box.copy()
    size[:, 2:] -= size[:, :2]
    boxes, scores, classes = size.tolist(), found.score.tolist(), found.category.tolist()
    images, masks = found.ids[found.image].tolist(), found.rles() if found.masks is not None else []
    rows: dict[int, list[dict[str, Any]]] = {int(one): [] for one in found.ids}
    for number, image in enumerate(images):
        one = {"image_id": image, "category_id": classes[number], "bbox": boxes[number], "score": scores[number]}
        if masks:
            one["segmentation"] = masks[number] | {"counts": masks[number]["counts"].decode()}
        rows[image].append(one)
    return rows
