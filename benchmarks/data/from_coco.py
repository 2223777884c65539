"""The user's COCO data, with any categories, as the standard COCO layout: linked images, checked annotations.

    python -m benchmarks prepare coco SOURCE [--name NAME]
    python -m benchmarks prepare coco SOURCE --annotations FILE --images DIR [--val-fraction 0.2] [--seed 0]
    python -m benchmarks prepare coco SOURCE --annotations FILE --val-annotations FILE [--images DIR] [--val-images DIR]

SOURCE has a COCO file for each split, by its name (``instances_train2017.json``) or in the split's folder, or one file,
which is then split by image, with every category in both halves if possible.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data.checks import (
    IN_TRAIN,
    LACKING,
    TURNED,
    Box,
    Picture,
    also_in,
    check_scale,
    clipped,
    drawn_on_stored,
    fatal,
    images_under,
    look_at,
)
from benchmarks.data.coco_entries import (
    Entry,
    box_polygon,
    drop_keypoints,
    number,
    shown,
    tidy_boxes,
    tidy_crowds,
    tidy_ids,
    tidy_masks,
    turn,
    usable,
)
from benchmarks.data.coco_files import Coco, Part, find_parts, inside
from benchmarks.data.split import split_files
from pretrain.common.errors import InputError

MASKS_FROM_BOXES = 0.1  # at most, of the objects; if more have no mask, the set counts as boxes only


def build(
    source: Path, target: Path, val_fraction: float, seed: int, drop_unreadable: bool, named: dict[str, Path]
) -> tuple[dict[str, Any], dict[str, Part]]:
    """Write ``target/coco`` from ``source``; the section of data.json without its fingerprint, and the checked splits.

    ``named`` are the files and folders given by options, under the options' names.
    """
    parts, left = find_parts(source, named)
    whole: Counter[str] = Counter()
    found = {split: check(part, drop_unreadable, whole) for split, part in parts.items()}
    fill_masks([one for part in parts.values() for one in part.content["annotations"]], whole)
    unlisted = {path for part in parts.values() for path in images_under(part.images)}
    unlisted.difference_update(*(part.files() for part in parts.values()))
    whole["images in no annotation file"] = len(unlisted) - whole["unreadable images dropped"]
    if "all" in parts:
        halves = split_images(parts["all"], val_fraction, seed)
        parts = {split: replace(parts["all"], content=half) for split, half in halves.items()}
        found = dict.fromkeys(parts, found["all"])
    else:
        join_categories(parts)
    whole["unused categories of a used name dropped"] = one_of_each_name(list(parts.values()))
    whole[IN_TRAIN] = also_in(parts["train"].files(), parts["val"].files())
    about = section(source, {split: part.content for split, part in parts.items()}, found)
    unused = {"files not used": [path.relative_to(source).as_posix() for path in left]} if left else {}
    about["validation"] = {**+whole, **unused, **about["validation"]}
    (target / "coco" / "annotations").mkdir(parents=True)
    for split, part in parts.items():
        (target / "coco" / f"{split}2017").symlink_to(part.images.resolve(), target_is_directory=True)
        file = target / "coco" / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(part.content), encoding="utf-8")
    return about, parts


def split_images(part: Part, val_fraction: float, seed: int) -> dict[str, Coco]:
    """The checked content of one file as "train" and "val", stratified by category.

    An image counts for a category only by an annotation that is not a crowd: the evaluator ignores crowds.
    """
    content = part.content
    categories: dict[int, set[str]] = {image["id"]: set() for image in content["images"]}
    for one in content["annotations"]:
        if not one["iscrowd"]:
            categories[one["image_id"]].add(str(one["category_id"]))
    files = {image["id"]: part.images / image["file_name"] for image in content["images"]}
    train, val = split_files(categories, files, val_fraction, seed)
    if min(len(train), len(val)) < 2:
        raise InputError(f"{part.file} lists {len(train) + len(val)} images: each split needs at least 2")
    return {"train": subset(content, train), "val": subset(content, val)}


def subset(whole: Coco, ids: list[int]) -> Coco:
    """The part of a COCO file about the images ``ids``."""
    chosen = set(ids)
    return {
        "categories": whole["categories"],
        "images": [image for image in whole["images"] if image["id"] in chosen],
        "annotations": [one for one in whole["annotations"] if one["image_id"] in chosen],
    }


def join_categories(parts: dict[str, Part]) -> None:
    """Give both splits all categories; InputError if an id or a name means different ones."""
    lists = [part.content["categories"] for part in parts.values()]
    train, val = ({one["id"]: one["name"] for one in categories} for categories in lists)
    if train == val:
        return
    ids = {name: key for key, name in train.items()}
    other = [
        f"id {key} ({train.get(key)!r} and {name!r})"
        if train.get(key, name) != name
        else f"{name!r} (ids {ids[name]} and {key})"
        for key, name in val.items()
        if train.get(key, name) != name or ids.get(name, key) != key
    ]
    where = f"{parts['train'].file} and {parts['val'].file}"
    fatal(f"different categories in {where}", other, "give both files the same list")
    both = {one["id"]: one for categories in reversed(lists) for one in categories}
    for part in parts.values():
        part.content["categories"] = [both[key] for key in sorted(both)]


def one_of_each_name(parts: list[Part]) -> int:
    """Take unused categories of the same name as another from all parts; how many. InputError if both are used."""
    used = {one["category_id"] for part in parts for one in part.content["annotations"]}
    of_name: dict[str, list[int]] = {}
    for one in parts[0].content["categories"]:
        of_name.setdefault(one["name"], []).append(one["id"])
    twice = [f"{name!r} (ids {', '.join(map(str, ids))})" for name, ids in of_name.items() if len(used & set(ids)) > 1]
    fatal(f"category of several ids in {parts[0].file}", twice, "give its annotations one id, or rename the others")
    unused = {key for ids in of_name.values() if len(ids) > 1 for key in ids if key not in (used & set(ids) or ids[:1])}
    for part in parts:
        part.content["categories"] = [one for one in part.content["categories"] if one["id"] not in unused]
    return len(unused)


def check(part: Part, drop_unreadable: bool, overall: Counter[str]) -> dict[int, Counter[str]]:
    """Stop at fatal findings; correct the rest in the part's content itself.

    Corrections are counted for each image id (the answer) or, those of the whole file, in ``overall``.
    """
    stored, where = part.content, f" in {part.file}"
    overall += tidy_ids(stored, where)
    set_local_names(part, overall)
    pictures = read_images(part, drop_unreadable, overall)
    images = {image["id"]: image for image in stored["images"]}
    entries = [one for one in stored["annotations"] if one["image_id"] in images]
    overall += tidy_crowds(entries, where)
    overall["masks written as flat lists or points"] += sum(map(tidy_masks, entries))
    overall["unusable keypoints dropped"] += sum(map(drop_keypoints, entries))
    overall += tidy_boxes(entries, pictures, where)
    turn_stored(part, entries, pictures, overall)
    found: dict[int, Counter[str]] = {number: Counter() for number in images}
    for image in stored["images"]:
        true = pictures[image["id"]].size
        found[image["id"]]["sizes corrected"] += (image.get("width"), image.get("height")) != true
        image["width"], image["height"] = true
    stored["annotations"] = [one for one in entries if correct(one, images[one["image_id"]], found[one["image_id"]])]
    if entries and not stored["annotations"]:
        useless = [f"{one['id']} {shown(one, 'segmentation')}" for one in entries if one.get("segmentation")]
        advice = "give polygons of three points or more, or RLEs of the image's size"
        fatal(f"no annotation has a usable mask{where}", useless, advice)
    return found


def set_local_names(part: Part, overall: Counter[str]) -> None:
    """Make every file_name a path in the part's folder of images, and every file one image.

    InputError for names that lead out of the folder, and for a file under several ids with different annotations.
    """
    images, entries = part.content["images"], part.content["annotations"]
    local = [part.local(image["file_name"]) for image in images]
    out = [image["file_name"] for image, name in zip(images, local, strict=True) if not inside(name)]
    advice = f"only images in {part.images} are read"
    fatal(f"file_name in {part.file} that leads out of the images' folder", out, advice)
    for image, name in zip(images, local, strict=True):
        overall["file names corrected"] += image["file_name"] != name
        image["file_name"] = name
    first: dict[Any, int] = {}
    again: dict[int, int] = {}
    for image in images:
        keeper = first.setdefault(file_identity(part.images / image["file_name"]), image["id"])
        if keeper != image["id"]:
            again[image["id"]] = keeper
    if not again:
        return
    names = {image["id"]: image["file_name"] for image in images}
    of_image: dict[int, list[Entry]] = {key: [] for key in {*again, *again.values()}}
    for one in entries:
        if one["image_id"] in of_image:
            of_image[one["image_id"]].append(one)
    differing = []
    for later, keeper in again.items():
        marks = [sorted(f"{one['category_id']} {one.get('bbox')}" for one in of_image[key]) for key in (keeper, later)]
        if all(marks) and marks[0] != marks[1]:
            differing.append(f"{names[later]} (ids {keeper} and {later})")
        elif not marks[0]:
            of_image[keeper] = of_image[later]
    advice = "list each file once, and give its id to all its annotations as image_id"
    fatal(f"image file under several ids with different annotations in {part.file}", differing, advice)
    overall["repeated image entries dropped"] += len(again)
    part.content["images"] = [image for image in images if image["id"] not in again]
    part.content["annotations"] = [one for one in entries if one["image_id"] not in of_image] + [
        one | {"image_id": keeper} for keeper in sorted(set(again.values())) for one in of_image[keeper]
    ]


def file_identity(path: Path) -> Any:
    """The same for two paths of one file, links of both kinds included; the path itself where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino


def read_images(part: Part, drop_unreadable: bool, overall: Counter[str]) -> dict[int, Picture]:
    """Each image of the part by its id; dropped ones are removed from the part. InputError for wrong sizes."""
    for image in part.content["images"]:
        for key in ("width", "height"):
            if image.get(key) is not None and number(image[key]) is None:
                raise InputError(f"{key} of image {image['id']} in {part.file} is {shown(image, key)}, not a number")
    seen = look_at(part.files(), drop_unreadable=drop_unreadable, found=overall)
    part.content["images"] = [one for one in part.content["images"] if part.images / one["file_name"] in seen]
    check_scale(stated_sizes(part), seen)
    return {one["id"]: seen[part.images / one["file_name"]] for one in part.content["images"]}


def stated_sizes(part: Part) -> dict[Path, tuple[Any, Any]]:
    """(width, height) as the COCO file states them; None where it does not."""
    return {
        part.images / image["file_name"]: (number(image.get("width")), number(image.get("height")))
        for image in part.content["images"]
    }


def turn_stored(part: Part, entries: list[Entry], pictures: dict[int, Picture], overall: Counter[str]) -> None:
    """Turn the annotations of EXIF-turned images that were drawn on the stored pixels."""
    files = {one["id"]: part.images / one["file_name"] for one in part.content["images"]}
    turned = {key: one for key, one in pictures.items() if one.orientation > 1}
    boxes: dict[Path, list[Box]] = {path: [] for path in files.values()}
    for one in entries:
        x, y, width, height = one["bbox"]
        boxes[files[one["image_id"]]].append((x, y, x + width, y + height))
    stored = drawn_on_stored(stated_sizes(part), {files[key]: one for key, one in pictures.items()}, boxes)
    for one in entries:
        if files[one["image_id"]] in stored:
            turn(one, turned[one["image_id"]])
    overall[TURNED] += len(stored)


def correct(one: Entry, image: dict[str, Any], found: Counter[str]) -> bool:
    """Clip the box of one annotation to its image, drop polygons that are none, fill in the area.

    False if no box is left of it, or its mask is unusable.
    """
    x, y, width, height = (float(value) for value in one["bbox"])
    box = (x, y, x + width, y + height)
    inside = clipped(box, (image["width"], image["height"]))
    if inside is None:
        found["degenerate boxes dropped"] += 1
        return False
    if one.get("segmentation"):
        mask = usable(one["segmentation"], (image["width"], image["height"]))
        if not mask:
            found["unusable masks dropped"] += 1
            return False
        one["segmentation"] = mask
    # Half a pixel of rounding is common in COCO's own files and harmless.
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 0.5:
        found["boxes outside clipped"] += 1
        left, top, right, bottom = inside
        one["bbox"] = [left, top, right - left, bottom - top]
    if not (isinstance(one.get("area"), int | float) and one["area"] > 0):  # the evaluator uses it
        one["area"] = one["bbox"][2] * one["bbox"][3]
    return True


def fill_masks(entries: list[Entry], overall: Counter[str]) -> None:
    """Use the box as mask of objects without one if they are few: detectron2 needs masks for all or none."""
    objects = [one for one in entries if not one["iscrowd"]]
    lacking = sum(not one.get("segmentation") for one in objects)
    if lacking > max(1, MASKS_FROM_BOXES * len(objects)) or lacking == len(objects):
        overall[LACKING] = lacking if lacking < len(objects) else 0
        return
    for one in entries:
        if not one.get("segmentation"):
            overall["boxes taken as masks"] += 1
            one["segmentation"] = box_polygon(one["bbox"])


def masks(entries: list[Entry]) -> str:
    """ "polygon", "rle" (any of them) or "none" (any is missing), of the annotations that are no crowds."""
    kinds = {type(one.get("segmentation") or None) for one in entries if not one["iscrowd"]}
    return "none" if type(None) in kinds or not kinds else "rle" if dict in kinds else "polygon"


def section(source: Path, splits: dict[str, Coco], found: dict[str, dict[int, Counter[str]]]) -> dict[str, Any]:
    """The COCO section of data.json; InputError if a split has no object to train or test on.

    Classes are in the order of their category ids, as in detectron2.
    """
    names = {one["id"]: one["name"] for one in sorted(splits["train"]["categories"], key=lambda one: one["id"])}
    counts, validation = {}, {}
    for split, stored in splits.items():
        entries = stored["annotations"]
        crowds, annotated = sum(one["iscrowd"] for one in entries), {one["image_id"] for one in entries}
        counts[split] = {"images": len(stored["images"]), "annotations": len(entries), "crowds": crowds}
        present = {one["category_id"] for one in entries if not one["iscrowd"]}
        corrected: Counter[str] = Counter()
        for image in stored["images"]:
            corrected.update(found[split][image["id"]])
        if not present:
            losses = "".join(f"; {what}: {times:,}" for what, times in corrected.items() if times and "dropped" in what)
            raise InputError(
                f"{source}: no annotation has a usable box and mask and is no crowd in the {split} split{losses}: "
                "add objects"
            )
        validation[split] = {
            **corrected,
            "images without an annotation": len(stored["images"]) - len(annotated),
            "classes absent": [name for number, name in names.items() if number not in present],
        }
    every = [one for stored in splits.values() for one in stored["annotations"]]
    return {"classes": list(names.values()), "counts": counts, "masks": masks(every), "validation": validation}
