"""Miniatures of published data sets as they are downloaded: generated images under the real names, with all fields.

``coco_with_keypoints(folder)``, ``lvis(folder)``, ``cityscapes(folder)``; each returns the folder to give to `prepare`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
COCO_CLASSES = {1: "person", 2: "bicycle", 3: "car", 18: "dog", 90: "toothbrush"}


Size = tuple[int, int]  # width and height in pixels
Box = list[int]  # left, top, width, height


def scene(path: Path, rng: np.random.Generator, boxes: list[Box], size: Size) -> None:
    """A noisy picture with a bright rectangle per box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 90, (size[1], size[0], 3), np.uint8)
    for left, top, width, height in boxes:
        pixels[top : top + height, left : left + width] = rng.integers(120, 255, 3)
    Image.fromarray(pixels).save(path)


def random_box(rng: np.random.Generator, size: Size, smallest: int = 16) -> Box:
    """Inside the image, sides from ``smallest`` to half of the image's."""
    width, height = (int(rng.integers(smallest, side // 2)) for side in size)
    return [int(rng.integers(0, size[0] - width)), int(rng.integers(0, size[1] - height)), width, height]


def outline(box: Box) -> list[list[int]]:
    """The box as COCO's polygon."""
    left, top, width, height = box
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def crowd_mask(box: Box, size: Size) -> dict[str, list[int]]:
    """COCO's uncompressed RLE of a crowd."""
    mask = np.zeros(size[::-1], np.uint8, order="F")
    left, top, width, height = box
    mask[top : top + height, left : left + width] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.ravel("F"), [2]]))))
    counts = runs.tolist() if not mask.ravel("F")[0] else [0, *runs.tolist()]
    assert rle.area(rle.frPyObjects({"size": list(mask.shape), "counts": counts}, *mask.shape)) == width * height
    return {"size": list(mask.shape), "counts": counts}


def pose(rng: np.random.Generator, box: Box) -> list[int]:
    """51 numbers x, y, visibility of points in the box; points that are not labelled are zeros."""
    left, top, width, height = box
    seen = rng.integers(0, 3, len(POINTS))
    seen[0] = 2
    x, y = left + rng.integers(0, width, len(POINTS)), top + rng.integers(0, height, len(POINTS))
    points: list[int] = (np.column_stack([x, y, seen]) * (seen > 0)[:, None]).ravel().tolist()
    return points


def coco_with_keypoints(folder: Path, train: int = 8, val: int = 4, size: Size = (120, 90), seed: int = 0) -> Path:
    """COCO 2017 with both kinds of annotations; some images show nobody, some people no point, one is a crowd."""
    rng = np.random.default_rng(seed)
    for split, count, first in (("train2017", train, 9), ("val2017", val, 139)):
        images, entries, people = [], [], []
        for number in range(count):
            key, name = first + 7 * number, f"{first + 7 * number:012d}.jpg"
            boxes = [random_box(rng, size) for _ in range(3)]
            scene(folder / split / name, rng, boxes, size)
            images.append({"id": key, "file_name": name, "width": size[0], "height": size[1], "license": 3})
            for place, box in enumerate(boxes):
                crowd = number == 1 and place == 2
                kind = 1 if (place < 2 or crowd) and number % 4 != 3 else int(rng.choice([2, 3, 18, 90]))
                one: dict[str, Any] = {
                    "id": 100 * key + place,
                    "image_id": key,
                    "category_id": kind,
                    "iscrowd": int(crowd),
                }
                one |= {"bbox": box, "area": float(box[2] * box[3])}
                one["segmentation"] = crowd_mask(box, size) if crowd else outline(box)
                entries.append(one)
                if kind == 1:
                    hidden = crowd or (number == 2 and place == 1)
                    points = [0] * 51 if hidden else pose(rng, box)
                    people.append(one | {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])})
        person = {"supercategory": "person", "id": 1, "name": "person", "keypoints": POINTS, "skeleton": [[16, 14]]}
        categories = [{"id": key, "name": name} for key, name in COCO_CLASSES.items()]
        for stem, what in (
            ("instances", {"images": images, "annotations": entries, "categories": categories}),
            ("person_keypoints", {"images": images, "annotations": people, "categories": [person]}),
        ):
            write(folder / "annotations" / f"{stem}_{split}.json", what)
    return folder


def write(path: Path, content: dict[str, Any]) -> None:
    """``content`` as COCO's JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "licenses": []} | content), encoding="utf-8")


LVIS_CLASSES = {1: ("aerosol_can", "c"), 3: ("airplane", "f"), 4: ("alarm_clock", "f"), 8: ("amplifier", "r")}


def lvis(folder: Path, train: int = 8, val: int = 4, size: Size = (120, 90), seed: int = 0) -> Path:
    """LVIS v1 beside COCO's images, as detectron2's datasets folder has them; val also has an image of train2017."""
    rng = np.random.default_rng(seed)
    for split, count, first in (("train", train, 9), ("val", val, 139)):
        images: list[dict[str, Any]] = []
        entries: list[dict[str, Any]] = []
        for number in range(count):
            key = first + 7 * number
            part = "val2017" if split == "val" and number else "train2017"
            boxes = [random_box(rng, size) for _ in range(3)]
            scene(folder / "coco" / part / f"{key:012d}.jpg", rng, boxes, size)
            kinds = [int(one) for one in rng.choice(list(LVIS_CLASSES)[: 4 if number % 4 == 0 else 3], 3)]
            absent = [kind for kind in LVIS_CLASSES if kind not in kinds]
            images.append({
                "id": key, "width": size[0], "height": size[1], "license": 3, "date_captured": "2013-11-15",
                "coco_url": f"http://images.cocodataset.org/{part}/{key:012d}.jpg",
                "neg_category_ids": absent[:2], "not_exhaustive_category_ids": kinds[:1] if number % 3 == 0 else [],
            })  # fmt: skip
            for box, kind in zip(boxes, kinds, strict=True):
                one = {"id": len(entries) + 1, "image_id": key, "category_id": kind, "bbox": [float(v) for v in box]}
                entries.append(one | {"area": float(box[2] * box[3]), "segmentation": outline(box)})
        categories = [
            {"id": key, "name": name, "frequency": frequency, "synonyms": [name], "synset": f"{name}.n.01"}
            for key, (name, frequency) in LVIS_CLASSES.items()
        ]
        what = {"images": images, "annotations": entries, "categories": categories}
        write(folder / "lvis" / f"lvis_v1_{split}.json", what)
    return folder


CITIES = {"train": ("aachen", "zurich"), "val": ("frankfurt",)}
ROAD, STATIC, CARAVAN = 7, 4, 29  # label ids: stuff, void, things that are not evaluated
THINGS = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}


def cityscapes(folder: Path, each: int = 3, size: Size = (128, 64), seed: int = 0) -> Path:
    """Cityscapes' fine annotations; later objects hide earlier ones, some are groups, some small."""
    rng = np.random.default_rng(seed)
    for split, cities in CITIES.items():
        for city in cities:
            for number in range(each):
                stem = f"{city}_{number:06d}_000019"
                ids = np.full(size[::-1], ROAD, np.int32)
                ids[-6:] = STATIC
                counted: dict[int, int] = {}
                boxes: list[Box] = []
                polygons: list[dict[str, object]] = []
                for kind in [*rng.choice(list(THINGS), 5), CARAVAN]:
                    kind, box = int(kind), random_box(rng, size, smallest=9)
                    group = number == 1 and len(boxes) % 3 == 2
                    counted[kind] = counted.get(kind, -1) + 1
                    left, top, width, height = box
                    ids[top : top + height, left : left + width] = kind if group else 1000 * kind + counted[kind]
                    boxes.append(box)
                    label = THINGS.get(kind, "caravan") + ("group" if group else "")
                    points = np.array(outline(box)[0]).reshape(4, 2).tolist()
                    polygons.append({"label": label, "polygon": points})
                scene(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", rng, boxes, size)
                truth = folder / "gtFine" / split / city
                truth.mkdir(parents=True, exist_ok=True)
                Image.fromarray(ids.astype(np.uint16)).save(truth / f"{stem}_gtFine_instanceIds.png")
                labels = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
                Image.fromarray(labels).save(truth / f"{stem}_gtFine_labelIds.png")
                about = {"imgWidth": size[0], "imgHeight": size[1], "objects": polygons}
                (truth / f"{stem}_gtFine_polygons.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
