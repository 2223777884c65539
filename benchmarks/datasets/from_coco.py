"""The user's COCO data, with any categories, as the standard COCO layout: linked images, checked annotations.

    python -m benchmarks prepare coco SOURCE [--name NAME]
    python -m benchmarks prepare coco SOURCE --annotations FILE --images DIR [--val-fraction 0.2] [--seed 0]

SOURCE has ``annotations/instances_{train,val}2017.json`` with ``train2017/`` and ``val2017/``; or one JSON file and one
folder of images, which are found or named, and split by image.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from benchmarks.datasets.checks import check_scale, clipped, fatal, image_sizes, split_seeded
from pretrain.errors import InputError

Coco = dict[str, Any]
FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}


def build(
    source: Path, target: Path, val_fraction: float, seed: int, annotations: Path | None, images: Path | None
) -> dict[str, Any]:
    """Write ``target/coco`` from ``source``; the section of data.json without its fingerprint."""
    splits = find_splits(source, val_fraction, seed, annotations, images)
    found: dict[str, Counter[str]] = {}
    for split, (stored, folder, origin) in splits.items():
        found[split] = check(stored, folder, origin)
    train, val = (splits[split][0]["categories"] for split in ("train", "val"))
    if sorted((one["id"], one["name"]) for one in train) != sorted((one["id"], one["name"]) for one in val):
        raise InputError(f"{source}: train and val list different categories: give both files the same list")
    (target / "coco" / "annotations").mkdir(parents=True)
    for split, (stored, folder, _) in splits.items():
        (target / "coco" / f"{split}2017").symlink_to(folder.resolve(), target_is_directory=True)
        file = target / "coco" / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(stored), encoding="utf-8")
    return section({split: stored for split, (stored, _, _) in splits.items()}, found)


def find_splits(
    source: Path, val_fraction: float, seed: int, annotations: Path | None, images: Path | None
) -> dict[str, tuple[Coco, Path, Path]]:
    """For "train" and "val": the content of the JSON file, the folder of its images, and the file's path."""
    standard = {split: source / "annotations" / f"instances_{split}2017.json" for split in ("train", "val")}
    if not annotations and not images and all(path.is_file() for path in standard.values()):
        for split in standard:
            if not (source / f"{split}2017").is_dir():
                raise InputError(f"{source} has no folder {split}2017: the images of {standard[split].name}")
        return {split: (load(path), source / f"{split}2017", path) for split, path in standard.items()}
    file, folder = annotations or only_json(source), images or image_folder(source)
    whole = load(file)
    fatal("duplicate image id in " + str(file), repeated(whole["images"]), "give every image its own id")
    train, val = split_seeded((str(image["id"]) for image in whole["images"]), val_fraction, seed)
    if min(len(train), len(val)) < 2:
        raise InputError(f"{file} lists {len(train) + len(val)} images: each split needs at least 2")
    known = {image["id"] for image in whole["images"]}
    strays = [one.get("id") for one in whole["annotations"] if one.get("image_id") not in known]
    fatal(f"annotation of an unknown image in {file}", strays, "correct its image_id")
    return {"train": (subset(whole, train), folder, file), "val": (subset(whole, val), folder, file)}


def only_json(source: Path) -> Path:
    """The one JSON file in ``source`` or its ``annotations`` folder."""
    found = [*sorted(source.glob("[!.]*.json")), *sorted(source.glob("annotations/[!.]*.json"))]
    if len(found) != 1:
        raise InputError(f"{source} has {len(found)} JSON files where one is wanted: name it with --annotations FILE")
    return found[0]


def image_folder(source: Path) -> Path:
    """``source``'s only folder beside ``annotations``, or itself where there is none."""
    found = [path for path in sorted(source.glob("[!.]*")) if path.is_dir() and path.name != "annotations"]
    if len(found) > 1:
        raise InputError(f"{source} has {len(found)} folders that may hold the images: name one with --images DIR")
    return found[0] if found else source


def load(path: Path) -> Coco:
    """The content of a COCO instances file; InputError where it is not one."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: list(stored[key]) for key in FIELDS}
        for key, fields in FIELDS.items():
            for place, one in enumerate(lists[key]):
                check_entry(one, fields, f"entry {place} of {key}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a COCO instances file ({type(error).__name__}: {error})") from None
    return {**stored, **lists}


def check_entry(one: Any, fields: dict[str, type], where: str) -> None:
    """TypeError where an entry lacks a field or has it as another type; iscrowd may be 0, 1, null or absent."""
    if not isinstance(one, dict):
        raise TypeError(f"{where} is no object")
    for name, kind in fields.items():
        if type(one.get(name)) is not kind:
            wanted = "a text" if kind is str else "a whole number"
            raise TypeError(f"{name} of {where} is {json.dumps(one.get(name))[:40]}, not {wanted}")
    if one.get("iscrowd") not in (0, 1, None):
        raise TypeError(f"iscrowd of {where} is {json.dumps(one['iscrowd'])[:40]}, neither 0 nor 1")


def subset(whole: Coco, ids: list[str]) -> Coco:
    """The part of a COCO file about the images ``ids`` (as text)."""
    chosen = set(ids)
    return {
        "categories": whole["categories"],
        "images": [image for image in whole["images"] if str(image["id"]) in chosen],
        "annotations": [dict(one) for one in whole["annotations"] if str(one["image_id"]) in chosen],
    }


def repeated(items: list[dict[str, Any]]) -> list[Any]:
    """Ids that more than one item has."""
    return [number for number, times in Counter(one["id"] for one in items).items() if times > 1]


def check(stored: Coco, folder: Path, file: Path) -> Counter[str]:
    """Stop at fatal findings; correct and count the rest, in ``stored`` itself."""
    where, entries = f" in {file}", stored["annotations"]
    if not stored["images"]:
        raise InputError(f"{file} lists no image")
    boxless = [one["id"] for one in entries if not has_box(one)]
    fatal("annotation without a box" + where, boxless, "give it a bbox of four numbers")
    fatal("annotation id 0" + where, [0 for one in entries if one["id"] == 0], "number from 1: 0 counts as unmatched")
    fatal("duplicate annotation id" + where, repeated(entries), "give every annotation its own id")
    fatal("duplicate image id" + where, repeated(stored["images"]), "give every image its own id")
    fatal("duplicate category id" + where, repeated(stored["categories"]), "give every category its own id")
    categories = {one["id"] for one in stored["categories"]}
    images = {image["id"]: image for image in stored["images"]}
    strays = [one["id"] for one in entries if one["category_id"] not in categories]
    fatal("annotation of an unknown category" + where, strays, "add the category or drop the annotation")
    strays = [one["id"] for one in entries if one["image_id"] not in images]
    fatal("annotation of an unknown image" + where, strays, "correct its image_id")
    sizes = image_sizes(folder / image["file_name"] for image in stored["images"])
    check_scale(
        {folder / image["file_name"]: (image.get("width"), image.get("height")) for image in stored["images"]},
        sizes,
    )
    found: Counter[str] = Counter()
    for image in stored["images"]:
        true = sizes[folder / image["file_name"]]
        found["sizes corrected"] += (image.get("width"), image.get("height")) != true
        image["width"], image["height"] = true
    stored["annotations"] = [one for one in entries if correct(one, images[one["image_id"]], found)]
    if not stored["annotations"]:
        raise InputError(f"{file}: no annotation has a usable box and mask")
    return found


def has_box(one: dict[str, Any]) -> bool:
    """Whether an annotation has a box of four numbers."""
    box = one.get("bbox")
    return isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)


def correct(one: dict[str, Any], image: dict[str, Any], found: Counter[str]) -> bool:
    """Clip the box of one annotation to its image, drop polygons that are none, fill in area and iscrowd.

    False where no box is left of it, or no mask of the one that it has.
    """
    x, y, width, height = (float(value) for value in one["bbox"])
    box = (x, y, x + width, y + height)
    inside = clipped(box, (image["width"], image["height"]))
    if inside is None:
        found["degenerate boxes dropped"] += 1
        return False
    if one.get("segmentation"):
        one["segmentation"] = usable(one["segmentation"], image["height"], image["width"])
        if not one["segmentation"]:
            found["unusable masks dropped"] += 1
            return False
    # Half a pixel of rounding is common in COCO's own files and harmless.
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 0.5:
        found["boxes outside clipped"] += 1
        left, top, right, bottom = inside
        one["bbox"] = [left, top, right - left, bottom - top]
    one["iscrowd"] = int(one.get("iscrowd") or 0)
    if not isinstance(one.get("area"), int | float):
        one["area"] = one["bbox"][2] * one["bbox"][3]
    return True


def usable(segmentation: Any, height: int, width: int) -> Any:
    """The polygons with 3 points or more, or the RLE where it is one of (height, width); None where neither is left."""
    if isinstance(segmentation, list):
        return [one for one in segmentation if is_polygon(one)] or None
    size, counts = (segmentation.get(key) for key in ("size", "counts")) if isinstance(segmentation, dict) else (0, 0)
    if size != [height, width]:
        return None
    if isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts) and sum(counts) == height * width
    else:
        whole = isinstance(counts, str) and decodes(segmentation)
    return segmentation if whole else None


def is_polygon(points: Any) -> bool:
    """Whether ``points`` is [x0, y0, x1, y1, x2, y2, …] in finite numbers."""
    several = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return several and all(isinstance(value, int | float) and math.isfinite(value) for value in points)


def decodes(segmentation: dict[str, Any]) -> bool:
    """Whether pycocotools can read a compressed RLE."""
    try:
        rle.decode(segmentation)
    except ValueError:
        return False
    return True


def masks(entries: list[dict[str, Any]]) -> str:
    """ "polygon", "rle" (any of them) or "none" (any is missing), of the annotations that are no crowds."""
    kinds = {type(one.get("segmentation") or None) for one in entries if not one["iscrowd"]}
    return "none" if type(None) in kinds or not kinds else "rle" if dict in kinds else "polygon"


def section(splits: dict[str, Coco], found: dict[str, Counter[str]]) -> dict[str, Any]:
    """The COCO section of data.json. Classes stand in the order of their category ids, as detectron2 has them."""
    names = {one["id"]: one["name"] for one in sorted(splits["train"]["categories"], key=lambda one: one["id"])}
    counts, validation = {}, {}
    for split, stored in splits.items():
        entries = stored["annotations"]
        crowds, annotated = sum(one["iscrowd"] for one in entries), {one["image_id"] for one in entries}
        counts[split] = {"images": len(stored["images"]), "annotations": len(entries), "crowds": crowds}
        present = {one["category_id"] for one in entries if not one["iscrowd"]}
        validation[split] = {
            **found[split],
            "images without an annotation": len(stored["images"]) - len(annotated),
            "classes absent": [name for number, name in names.items() if number not in present],
        }
    every = [one for stored in splits.values() for one in stored["annotations"]]
    return {"classes": list(names.values()), "counts": counts, "masks": masks(every), "validation": validation}
