"""detectron2's records of a prepared LVIS file, without the lvis package, which needs OpenCV and an old NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from benchmarks.data.from_lvis import file_name


def load_lvis(file: Path, images: Path) -> list[dict[str, Any]]:
    """A dict per image of ``file``, by id, as detectron2 makes it (detectron2:data/datasets/lvis.py).

    Categories are numbered by their ids; LVIS v1's are 1 … 1203.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    number = {key: place for place, key in enumerate(sorted(one["id"] for one in content["categories"]))}
    objects: dict[int, list[dict[str, Any]]] = {one["id"]: [] for one in content["images"]}
    for one in content["annotations"]:
        about = {"bbox": one["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
        about |= {"category_id": number[one["category_id"]], "segmentation": one["segmentation"]}
        objects[one["image_id"]].append(about)
    return [
        {
            "file_name": str(images / file_name(one)),
            "image_id": one["id"],
            "height": one["height"],
            "width": one["width"],
            "annotations": objects[one["id"]],
        }
        for one in sorted(content["images"], key=lambda one: one["id"])
    ]
