"""Puts a data root's VOC or COCO layout under its own names into detectron2's catalogues.

    python -c "from benchmarks.datasets.layout import DataRoot; from benchmarks.datasets.registration import register;
    print(register(DataRoot.load('results/data/emoji-smoke'), 'voc'))"

detectron2's own names (voc_2007_*, coco_2017_*) are taken, and its VOC reader has a fixed list of classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode

from benchmarks.datasets.layout import DataRoot
from benchmarks.datasets.vocxml import read_xml


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What the detection driver needs to know of registered data."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    num_classes: int
    classes: tuple[str, ...]
    mask_format: str
    """"polygon"; "bitmask" where the masks are RLE; "none" where there are none."""
    test_images: int


def register(root: DataRoot, kind: str) -> Registered:
    """Register the layout ``kind`` ("voc" or "coco") of ``root``; again is harmless. InputError where it is absent."""
    section = root.section(kind)
    prefix = f"{root.name}-{section['fingerprint'][:8]}"
    names = _register_voc(root, prefix) if kind == "voc" else _register_coco(root, prefix)
    split = "test" if kind == "voc" else "val"
    return Registered(
        train=names["train"],
        test=names["test"],
        num_classes=len(section["classes"]),
        classes=tuple(section["classes"]),
        mask_format={"polygon": "polygon", "rle": "bitmask"}.get(section.get("masks", ""), "none"),
        test_images=section["counts"][split]["images"],
    )


def _register_voc(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    section, classes = root.section("voc"), list(root.section("voc")["classes"])
    names: dict[str, tuple[str, ...]] = {}
    for split in ("train", "test"):
        for folder, image_set in section[split]:
            # The evaluator splits nothing off the name, but asks the metadata for a year to choose the metric.
            name = f"{prefix}_voc_{folder.removeprefix('VOC')}_{image_set}"
            names[split] = (*names.get(split, ()), name)
            if name in DatasetCatalog.list():
                continue
            path = root.folder("voc") / folder
            DatasetCatalog.register(name, partial(load_voc, path, image_set, classes))
            about = {"thing_classes": classes, "dirname": str(path), "split": image_set, "year": 2007}
            MetadataCatalog.get(name).set(evaluator_type="pascal_voc", **about)
    return names


def _register_coco(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for split, part in (("train", "train2017"), ("test", "val2017")):
        name = f"{prefix}_coco_{part}"
        names[split] = (name,)
        if name in DatasetCatalog.list():
            continue
        file, images = root.folder("coco") / "annotations" / f"instances_{part}.json", root.folder("coco") / part
        DatasetCatalog.register(name, partial(load_coco_json, str(file), str(images), name))
        # Loading sets these too, but only in the process and at the time that it happens.
        categories = sorted(json.loads(file.read_text(encoding="utf-8"))["categories"], key=lambda one: one["id"])
        ids = {one["id"]: index for index, one in enumerate(categories)}
        MetadataCatalog.get(name).set(
            evaluator_type="coco",
            json_file=str(file),
            image_root=str(images),
            thing_classes=[one["name"] for one in categories],
            thing_dataset_id_to_contiguous_id=ids,
        )
    return names


def load_voc(folder: Path, image_set: str, classes: list[str]) -> list[dict[str, Any]]:
    """detectron2's list of dicts for ``folder/ImageSets/Main/<image_set>.txt``.

    Boxes become 0-based with exclusive right and bottom edges: 1 is taken from xmin and ymin, as detectron2 does
    (detectron2:data/datasets/pascal_voc.py). Difficult objects are kept, as there; the flags are for pictures only.
    """
    records = []
    for name in (folder / "ImageSets" / "Main" / f"{image_set}.txt").read_text(encoding="utf-8").split():
        image = read_xml(folder / "Annotations" / f"{name}.xml")
        annotations = []
        for one in image.objects:
            left, top, right, bottom = one.box
            annotations.append(
                {
                    "category_id": classes.index(one.name),
                    "bbox": [left - 1.0, top - 1.0, right, bottom],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "truncated": one.truncated,
                    "difficult": one.difficult,
                }
            )
        file = str(folder / "JPEGImages" / f"{name}.jpg")
        about = {"file_name": file, "image_id": name, "height": image.height, "width": image.width}
        records.append(about | {"annotations": annotations})
    return records
