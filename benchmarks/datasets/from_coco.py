"""The user's COCO data, with any categories, as the standard COCO layout: linked images, checked annotations.

    python -m benchmarks prepare coco SOURCE [--name NAME]
    python -m benchmarks prepare coco SOURCE --annotations FILE --images DIR [--val-fraction 0.2] [--seed 0]

SOURCE has ``annotations/instances_{train,val}2017.json`` with ``train2017/`` and ``val2017/``; or one JSON file and one
folder of images, which are found or named, and split by image so that every category is in both halves if possible.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from benchmarks.datasets.checks import check_scale, clipped, fatal, look_at
from benchmarks.datasets.split import split_seeded
from pretrain.errors import InputError

Coco = dict[str, Any]
FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}


def build(
    source: Path,
    target: Path,
    val_fraction: float,
    seed: int,
    drop_unreadable: bool,
    annotations: Path | None,
    images: Path | None,
) -> dict[str, Any]:
    """Write ``target/coco`` from ``source``; the section of data.json without its fingerprint."""
    files = find_files(source, annotations, images)
    stored = {split: load(file) for split, (file, _) in files.items()}
    found = {split: check(stored[split], folder, file, drop_unreadable) for split, (file, folder) in files.items()}
    if "all" in files:
        stored = split_images(stored["all"], files["all"][0], val_fraction, seed)
        files, found = dict.fromkeys(stored, files["all"]), dict.fromkeys(stored, found["all"])
    train, val = (stored[split]["categories"] for split in ("train", "val"))
    if sorted((one["id"], one["name"]) for one in train) != sorted((one["id"], one["name"]) for one in val):
        raise InputError(f"{source}: train and val list different categories: give both files the same list")
    about = section(source, stored, found)
    (target / "coco" / "annotations").mkdir(parents=True)
    for split, (_, folder) in files.items():
        (target / "coco" / f"{split}2017").symlink_to(folder.resolve(), target_is_directory=True)
        file = target / "coco" / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(stored[split]), encoding="utf-8")
    return about


def find_files(source: Path, annotations: Path | None, images: Path | None) -> dict[str, tuple[Path, Path]]:
    """The JSON file and the folder of its images, for "train" and "val"; for "all" where there is one file."""
    standard = {split: source / "annotations" / f"instances_{split}2017.json" for split in ("train", "val")}
    if not annotations and not images and all(path.is_file() for path in standard.values()):
        for split in standard:
            if not (source / f"{split}2017").is_dir():
                raise InputError(f"{source} has no folder {split}2017: the images of {standard[split].name}")
        return {split: (path, source / f"{split}2017") for split, path in standard.items()}
    return {"all": (annotations or only_json(source), images or image_folder(source))}


def split_images(whole: Coco, file: Path, val_fraction: float, seed: int) -> dict[str, Coco]:
    """``whole``, the checked content of ``file``, as "train" and "val", stratified by category.

    An image counts for a category by an annotation that is no crowd: the evaluator tests no other.
    """
    categories: dict[int, set[str]] = {image["id"]: set() for image in whole["images"]}
    for one in whole["annotations"]:
        if not one["iscrowd"]:
            categories[one["image_id"]].add(str(one["category_id"]))
    train, val = split_seeded(categories, val_fraction, seed)
    if min(len(train), len(val)) < 2:
        raise InputError(f"{file} lists {len(train) + len(val)} images: each split needs at least 2")
    return {"train": subset(whole, train), "val": subset(whole, val)}


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


def subset(whole: Coco, ids: list[int]) -> Coco:
    """The part of a COCO file about the images ``ids``."""
    chosen = set(ids)
    return {
        "categories": whole["categories"],
        "images": [image for image in whole["images"] if image["id"] in chosen],
        "annotations": [one for one in whole["annotations"] if one["image_id"] in chosen],
    }


def repeated(items: list[dict[str, Any]]) -> list[Any]:
    """Ids that more than one item has."""
    return [number for number, times in Counter(one["id"] for one in items).items() if times > 1]


def check(stored: Coco, folder: Path, file: Path, drop_unreadable: bool) -> dict[int, Counter[str]]:
    """Stop at fatal findings; correct the rest in ``stored`` itself and count it for each image id."""
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
    dropped: Counter[str] = Counter()
    files = [folder / image["file_name"] for image in stored["images"]]
    sizes = look_at(files, drop_unreadable=drop_unreadable, found=dropped)
    stored["images"] = [image for image, file in zip(stored["images"], files, strict=True) if file in sizes]
    images = {image["id"]: image for image in stored["images"]}
    entries = [one for one in entries if one["image_id"] in images]
    check_scale(
        {folder / image["file_name"]: (image.get("width"), image.get("height")) for image in stored["images"]},
        sizes,
    )
    found: dict[int, Counter[str]] = {number: Counter() for number in images}
    for image in stored["images"]:
        true = sizes[folder / image["file_name"]].size
        found[image["id"]]["sizes corrected"] += (image.get("width"), image.get("height")) != true
        image["width"], image["height"] = true
    stored["annotations"] = [one for one in entries if correct(one, images[one["image_id"]], found[one["image_id"]])]
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


def section(source: Path, splits: dict[str, Coco], found: dict[str, dict[int, Counter[str]]]) -> dict[str, Any]:
    """The COCO section of data.json; InputError where a split has nothing to learn from or to test on.

    Classes stand in the order of their category ids, as detectron2 has them.
    """
    names = {one["id"]: one["name"] for one in sorted(splits["train"]["categories"], key=lambda one: one["id"])}
    counts, validation = {}, {}
    for split, stored in splits.items():
        entries = stored["annotations"]
        crowds, annotated = sum(one["iscrowd"] for one in entries), {one["image_id"] for one in entries}
        counts[split] = {"images": len(stored["images"]), "annotations": len(entries), "crowds": crowds}
        present = {one["category_id"] for one in entries if not one["iscrowd"]}
        if not present:
            raise InputError(
                f"{source}: no annotation has a usable box and mask and is no crowd in the {split} split: add objects"
            )
        corrected: Counter[str] = Counter()
        for image in stored["images"]:
            corrected.update(found[split][image["id"]])
        validation[split] = {
            **corrected,
            "images without an annotation": len(stored["images"]) - len(annotated),
            "classes absent": [name for number, name in names.items() if number not in present],
        }
    every = [one for stored in splits.values() for one in stored["annotations"]]
    return {"classes": list(names.values()), "counts": counts, "masks": masks(every), "validation": validation}
