"""Random objects and detections of the real test sets' size, for evaluators.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (480, 640)  # height, width
CORNERS = 12  # of a mask's outline


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


def as_json(truth: dict[str, np.ndarray], classes: int, masks: bool) -> dict[str, Any]:
    """The objects in COCO's format, with classes from 1 and outlines if ``masks``."""
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
    categories = [{"id": number + 1, "name": str(number)} for number in range(classes)]
    return {"info": {}, "images": about, "annotations": annotations, "categories": categories}


def as_detectron2(found: Any) -> dict[int, list[dict[str, Any]]]:
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


def write_voc(folder: Path, truth: dict[str, np.ndarray], names: list[str], images: int) -> None:
    """VOC's annotations of the objects, crowds being difficult, and a list "test" of the images."""
    from benchmarks.data.vocxml import VocImage, VocObject, write_xml

    boxes = np.rint(truth["box"]).astype(int)
    for number in range(images):
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
    (lists / "test.txt").write_text("".join(f"{number + 1:06d}\n" for number in range(images)))
