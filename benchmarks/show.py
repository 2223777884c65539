"""Predictions of a detection run beside the truth, the best and the worst images.

    python -m benchmarks show results/runs/<spec>/<attempt>.json [-o PNG] [--count 6]

An image's score is the F1 of its predictions (score ≥ 0.5) against its objects at IoU ≥ 0.5, class by class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from benchmarks.datasets.layout import DataRoot
from benchmarks.datasets.sheet import GAP, SCENE, WIDTH, Marked, heading, marked
from benchmarks.records import ResultsStore, RunRecord, files_of
from pretrain.errors import InputError
from pretrain.files import data_dir, replacing

SHOWN_SCORE, IOU = 0.5, 0.5


def show(record_path: Path, output: Path | None, count: int) -> Path:
    """Draw the ``count`` best and worst images of the record's test set; the PNG's path. InputError if it cannot."""
    record = ResultsStore().load(record_path)
    folder = files_of(record_path)
    if not (folder / "predictions.json").is_file():
        raise InputError(f"{folder} holds no predictions.json: only detection runs that ended well keep predictions")
    predictions = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    root = DataRoot.load(data_dir() / record.spec.data_name)
    truths, classes = _truth(root, "voc" if record.spec.task == "voc-det" else "coco")
    scenes = [_scene(image, truths[str(image["image_id"])], classes) for image in predictions]
    scenes.sort(key=lambda scene: -scene["f1"])
    few = [*scenes[:count], *scenes[-count:]] if len(scenes) > 2 * count else scenes
    output = output or record_path.with_suffix(".png")
    with replacing(output) as temporary:
        _draw(record, few).save(temporary, "PNG")
    return output


def _truth(root: DataRoot, kind: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    from detectron2.data import DatasetCatalog

    from benchmarks.datasets.registration import register

    data = register(root, kind)
    return {str(one["image_id"]): one for name in data.test for one in DatasetCatalog.get(name)}, list(data.classes)


def _scene(image: dict[str, Any], truth: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    from detectron2.structures import BoxMode

    objects = [
        Marked(
            name=classes[one["category_id"]],
            box=tuple(BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS)),
        )
        for one in truth["annotations"]
        if not one.get("iscrowd")
    ]
    found = [
        Marked(
            name=classes[one["class"]],
            box=tuple(one["box"]),
            mask=None if one["mask"] is None else rle.decode(one["mask"]) > 0,
            note=f" {one['score']:.2f}",
        )
        for one in image["instances"]
        if one["score"] >= SHOWN_SCORE
    ]
    return {"file": Path(image["file_name"]), "truth": objects, "found": found, "f1": f1(objects, found)}


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def f1(truth: list[Marked], found: list[Marked]) -> float:
    """2·hits / (objects + predictions), a prediction hitting at most one object of its class; 1 without any of both."""
    free, hits = list(truth), 0
    for one in found:
        best = max((t for t in free if t.name == one.name), key=lambda t: overlap(t.box, one.box), default=None)
        if best is not None and overlap(best.box, one.box) >= IOU:
            free.remove(best)
            hits += 1
    return 2 * hits / (len(truth) + len(found)) if truth or found else 1.0


def _draw(record: RunRecord, scenes: list[dict[str, Any]]) -> Image.Image:
    spec, primary = record.spec, next(iter(record.metrics.items()))
    run = f"{spec.task} {spec.protocol}, {spec.profile}, seed {spec.seed}"
    title = f"{record.label}: {run}, {primary[0]} {primary[1] or 0:.1f}"
    legend = f"best first; truth left, predictions with a score of at least {SHOWN_SCORE} right"
    bands = [heading(title, 24), heading(legend, 16)]
    pairs = WIDTH // (2 * SCENE + 2 * GAP)
    for start in range(0, len(scenes), pairs):
        row = Image.new("RGB", (WIDTH - 2 * GAP, SCENE + GAP), "white")
        for place, scene in enumerate(scenes[start : start + pairs]):
            left = place * (2 * SCENE + 2 * GAP)
            row.paste(marked(scene["file"], scene["truth"]), (left, 0))
            row.paste(marked(scene["file"], scene["found"]), (left + SCENE + GAP // 2, 0))
        bands.append(row)
    picture = Image.new("RGB", (WIDTH, sum(band.height for band in bands) + 2 * GAP), "white")
    tops = np.cumsum([GAP, *(band.height for band in bands)])
    for band, top in zip(bands, tops, strict=False):
        picture.paste(band, (GAP, int(top)))
    return picture
