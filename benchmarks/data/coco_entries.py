"""Normalise the entries of a COCO file to COCO's own form if they are unambiguous; else raise one clear error.

Ids may be texts or floats without a fraction, boxes objects or corners, polygons flat. Changes are counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as rle

from benchmarks.data.checks import AS_ANNOTATED, AWAY, REACHES_OUT, Box, Picture, Size, fatal, fits
from benchmarks.data.coco_files import Coco, is_text
from pretrain.common.errors import InputError

Entry = dict[str, Any]
IDS = {"images": ("id",), "categories": ("id",), "annotations": ("image_id", "category_id")}
NUMBER = "number the images and the categories, and name them by these numbers in the annotations"
LARGEST_ID = 2**53  # beyond it a float, which some evaluators make of an id, is no longer exact
BOX_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
BEYOND = 0.2  # fraction of boxes outside their images above which the four numbers must have another meaning


def number(value: Any) -> float | None:
    """``value`` as a finite float, also from a text; None if it is not a number."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """``value`` as an int, also from a text or a float without a fraction; None if it is not one or huge."""
    if type(value) is not int:
        found = number(value)
        value = int(found) if found is not None and found == int(found) else None
    return value if value is not None and abs(value) < LARGEST_ID else None


def tidy_ids(stored: Coco, where: str) -> Counter[str]:
    """Make every id an int, and number the annotations anew if their own ids are not usable; returns the changes.

    InputError for an id that is no number, and for repeated or unknown ones.
    """
    found: Counter[str] = Counter()
    for key, names in IDS.items():
        for place, one in enumerate(stored[key]):
            for name in names:
                if (value := whole(one.get(name))) is None:
                    what = f"{name} of entry {place} of {key}{where} is {shown(one, name)}"
                    raise InputError(f"{what}, not a whole number below 2^53: {NUMBER}")
                found["ids written as text or fraction"] += type(one[name]) is not int
                one[name] = value
    for place, one in enumerate(stored["categories"]):
        if not is_text(one.get("name")):
            raise InputError(f"name of entry {place} of categories{where} is {shown(one, 'name')}, not text")
    _number_annotations(stored["annotations"], found)
    unique = {(one["id"], one["file_name"]): one for one in stored["images"]}
    found["repeated image entries dropped"] += len(stored["images"]) - len(unique)
    stored["images"] = list(unique.values())
    for key, name, advice in (
        ("images", "image_id", "correct its image_id"),
        ("categories", "category_id", "add the category or drop the annotation"),
    ):
        kind, ids = name.removesuffix("_id"), Counter(one["id"] for one in stored[key])
        twice = [number for number, times in ids.items() if times > 1]
        fatal(f"duplicate {kind} id{where}", twice, f"give every {kind} its own id")
        strays = [f"{one['id']} ({name} {one[name]})" for one in stored["annotations"] if one[name] not in ids]
        fatal(f"annotation of an unknown {kind}{where}", strays, advice)
    return found


def shown(one: Entry, name: str) -> str:
    """A value of an entry, short enough for a message."""
    return json.dumps(one.get(name))[:60]


def _number_annotations(entries: list[Entry], found: Counter[str]) -> None:
    """Ids must be unique and above 0, which the evaluator takes for "no match"."""
    ids = [whole(one.get("id")) for one in entries]
    usable = [number for number in ids if number is not None and number > 0]
    if len(set(usable)) < len(entries):
        found["annotation ids numbered anew"] += len(entries)
        ids = list(range(1, len(entries) + 1))
    else:
        found["ids written as text or fraction"] += sum(type(one["id"]) is not int for one in entries)
    for one, identity in zip(entries, ids, strict=True):
        one["id"] = identity


def tidy_crowds(entries: list[Entry], where: str) -> Counter[str]:
    """Make iscrowd 0 or 1. If all objects are crowds, as brush tools write, none is; "ignore" makes a crowd.

    A crowd is neither trained on nor tested, as "ignore" asks; detectron2 rejects that key.
    """
    found: Counter[str] = Counter()
    for one in entries:
        crowd = one.get("iscrowd")
        value = int(crowd) if isinstance(crowd, bool) else 0 if crowd is None else whole(crowd)
        if value not in (0, 1):
            raise InputError(f"iscrowd of annotation {one['id']}{where} is {shown(one, 'iscrowd')}, neither 0 nor 1")
        one["iscrowd"] = value
    if entries and all(one["iscrowd"] for one in entries):
        found["crowds taken as objects, since there are no others"] = len(entries)
        for one in entries:
            one["iscrowd"] = 0
    for one in entries:
        if one.get("ignore") not in (0, None) and number(one["ignore"]) != 0:
            found["ignored objects taken as crowds"] += 1
            one["iscrowd"] = 1
        if one.get("ignore", 0) != 0:
            del one["ignore"]
    return found


def drop_keypoints(one: Entry) -> bool:
    """Take keypoints that are not all numbers from an annotation, which detectron2 reads though nothing here does."""
    points = one.get("keypoints") or []
    return not (isinstance(points, list) and all(map(_is_number, points))) and one.pop("keypoints") is not None


def tidy_masks(one: Entry) -> bool:
    """Make a flat list of numbers one polygon, and points [x, y] a flat list; whether there was any to make."""
    masks = one.get("segmentation")
    if not isinstance(masks, list) or not masks:
        return False
    if all(number(value) is not None for value in masks):
        one["segmentation"] = [masks]
    elif len(masks) > 2 and all(map(_is_point, masks)):
        one["segmentation"] = [[value for point in masks for value in point]]
    elif all(isinstance(part, list) and len(part) > 2 and all(map(_is_point, part)) for part in masks):
        one["segmentation"] = [[value for point in part for value in point] for part in masks]
    else:
        return False
    return True


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and not any(isinstance(one, list) for one in value)


def tidy_box(one: Entry, picture: Picture) -> str:
    """Make bbox a list of four numbers, of its mask where it has none; what it was, or "" where it was that already."""
    box = one.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        return ""
    kind = "boxes written as text"
    if isinstance(box, dict) and (keys := next((keys for keys in BOX_KEYS if set(keys) == set(box)), None)):
        box, kind = [box[key] for key in keys], "boxes written as objects"
    elif box in (None, [], {}) and (around := mask_bounds(one.get("segmentation"), picture)):
        left, top, right, bottom = around
        box, kind = [left, top, right - left, bottom - top], "boxes taken from masks"
    numbers = [number(value) for value in box] if isinstance(box, list) else []
    if box is None or len(numbers) != 4 or None in numbers:
        return "no box"
    one["bbox"] = box if all(map(_is_number, box)) else numbers
    return kind


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and number(value) is not None


def tidy_boxes(entries: list[Entry], pictures: Mapping[int, Picture], where: str) -> Counter[str]:
    """Make every bbox [x, y, width, height] in pixels; what was changed. ``pictures`` are the images by id.

    Corners x0 y0 x1 y1 are detected by the masks: if all unambiguous boxes are corners, all are converted. InputError,
    which names the first, for missing boxes, boxes in fractions of the image, and boxes away from their masks.
    """
    found: Counter[str] = Counter()
    boxless = []
    for one in entries:
        kind = tidy_box(one, pictures[one["image_id"]])
        if kind == "no box":
            boxless.append(f"{one['id']} (its bbox is {shown(one, 'bbox')})")
        elif kind:
            found[kind] += 1
    fatal("annotation without a box" + where, boxless, "give it a bbox [x, y, width, height] in pixels")
    boxes = [one for one in entries if one["bbox"][2] > 0 and one["bbox"][3] > 0]
    if 2 * len(boxes) < len(entries):
        flat = [_described(one, pictures) for one in entries if one["bbox"][2] <= 0 or one["bbox"][3] <= 0]
        fatal("box without a width or height" + where, flat, "write [x, y, width, height], the last two above 0")
    if boxes and all(max(one["bbox"]) <= 1 for one in boxes):
        parts = [_described(one, pictures) for one in boxes]
        fatal(
            "box in fractions of its image" + where, parts, "multiply x, width by its width and y, height by its height"
        )
    as_corners, by_masks, found[AWAY] = _check_masks(boxes, pictures, where)
    if as_corners:
        found["corner boxes given a width and height"] = len(entries)
        for one in entries:
            left, top, right, bottom = one["bbox"]
            one["bbox"] = [left, top, right - left, bottom - top]
    else:
        _check_inside(boxes, pictures, where, by_masks=by_masks)
    return found


def _described(one: Entry, pictures: Mapping[int, Picture]) -> str:
    """An annotation's id and box, with its image's size and the extent of its mask."""
    picture = pictures[one["image_id"]]
    around = mask_bounds(one.get("segmentation"), picture)
    mask = f", its mask from {_corner(around[:2])} to {_corner(around[2:])}" if around else ""
    return f"{one['id']} {shown(one, 'bbox')} on {' × '.join(map(str, picture.size))} pixels{mask}"


def _corner(point: tuple[float, ...]) -> str:
    return f"({point[0]:.6g}, {point[1]:.6g})"


def _check_masks(entries: list[Entry], pictures: Mapping[int, Picture], where: str) -> tuple[bool, bool, int]:
    """Whether the boxes are x0 y0 x1 y1 by their masks or areas, or x, y, width, height by a mask; how many are away.

    InputError if only some are corners, or most are not around their masks.
    """
    as_sizes, as_corners, away, masks, by_area = 0, [], [], 0, []
    for one in entries:
        if one["iscrowd"]:
            continue
        x, y, width, height = one["bbox"]
        if around := mask_bounds(one.get("segmentation"), pictures[one["image_id"]]):
            sized, cornered = overlap((x, y, x + width, y + height), around), overlap((x, y, width, height), around)
            as_sizes += sized > cornered + 0.01
            masks += 1
            if cornered >= 0.8 and sized < 0.5:
                as_corners.append(one)
            elif sized < 0.5:
                away.append(one)
        elif area := number(one.get("area")):
            sizes, corners = width * height / area, (width - x) * (height - y) / area
            by_area.append(abs(corners - 1) < 0.001 and abs(sizes - 1) > 0.1)
    if not as_sizes and not away and (as_corners or (len(by_area) > 2 and all(by_area))):
        return True, False, 0
    described = [_described(one, pictures) for one in as_corners]
    fatal("corner box x0 y0 x1 y1 among other boxes" + where, described, "write all as [x, y, width, height]")
    described = [_described(one, pictures) for one in away] if masks < 2 * len(away) else []
    fatal("box that does not enclose its mask" + where, described, "write [x, y, width, height], x and y left and top")
    return False, as_sizes > 0, len(away)


def _check_inside(entries: list[Entry], pictures: Mapping[int, Picture], where: str, *, by_masks: bool) -> None:
    """InputError where most boxes reach out of their images, or many as [x, y, width, height] and none otherwise.

    ``by_masks``: masks say that the boxes are [x, y, width, height].
    """
    meanings: dict[str, list[bool]] = {"size": [], "corners x0 y0 x1 y1": [], "a centre, width and height": []}
    for one in entries:
        picture = pictures[one["image_id"]]
        # For a turned image width and height are not yet known.
        frame = picture.size if picture.orientation < 5 else (max(picture.size), max(picture.size))
        x, y, width, height = one["bbox"]
        boxes = (
            (x, y, x + width, y + height),
            (x, y, width, height),
            (x - width / 2, y - height / 2, x + width / 2, y + height / 2),
        )
        for found, box in zip(meanings.values(), boxes, strict=True):
            found.append(box[2] > box[0] and box[3] > box[1] and fits(box, frame))
    inside = meanings.pop("size")
    if inside.count(False) < max(3, BEYOND * len(entries)):
        return
    beyond = [_described(one, pictures) for one, good in zip(entries, inside, strict=True) if not good]
    for name, found in meanings.items():
        if all(found) and not by_masks:
            fatal(
                f"box that fits its image only if it is read as {name}{where}",
                beyond,
                "write it as [x, y, width, height]",
            )
    fatal(REACHES_OUT + where, beyond if 2 * len(beyond) > len(entries) else [], AS_ANNOTATED)


def mask_bounds(segmentation: Any, picture: Picture) -> Box | None:
    """(left, top, right, bottom) around polygons or an RLE; None if there is no usable mask."""
    if isinstance(segmentation, list):
        polygons = [one for one in segmentation if is_polygon(one)]
        xs, ys = ([value for one in polygons for value in one[axis::2]] for axis in (0, 1))
        return (min(xs), min(ys), max(xs), max(ys)) if polygons else None
    if (code := compressed(segmentation, picture.size)) is None:
        return None
    left, top, width, height = map(float, rle.toBbox(code))
    return (left, top, left + width, top + height) if width and height else None


def overlap(box: Box, other: Box) -> float:
    """Intersection over union of two (left, top, right, bottom) boxes."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (box, other)]
    return width * height / (sum(areas) - width * height)


def is_polygon(points: Any) -> bool:
    """Whether ``points`` is [x0, y0, x1, y1, x2, y2, …] in finite numbers."""
    several = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return several and all(isinstance(value, int | float) and math.isfinite(value) for value in points)


def compressed(segmentation: Any, size: Size) -> Entry | None:
    """An RLE of the (width, height) ``size``, or of that turned, as pycocotools compresses it; else None."""
    if not isinstance(segmentation, dict) or segmentation.get("size") not in (list(size), list(size[::-1])):
        return None
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        right = all(type(count) is int and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
        return rle.frPyObjects(segmentation, *segmentation["size"]) if right else None
    return segmentation if isinstance(counts, str) and pixels(counts) == size[0] * size[1] else None


def pixels(counts: str) -> int | None:
    """The pixels that a compressed RLE covers, object or not; None where it is damaged.

    pycocotools leaves the pixels that a too short one does not cover as they happen to be in memory. The format is that
    of rleToString (cocoapi:common/maskApi.c): 5 bits per character, and from the fourth run on the difference from
    the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) and 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift or min(runs, default=-1) < 0 else sum(runs)


def decoded(code: Entry) -> np.ndarray | None:
    """A compressed RLE as (height, width) uint8; None where pycocotools cannot read it."""
    try:
        return np.asarray(rle.decode(code))
    except ValueError:
        return None


def turn(one: Entry, picture: Picture) -> None:
    """Turn the box and the masks of an annotation, drawn on the stored pixels, with the picture."""
    x, y, width, height = one["bbox"]
    if width > 0 and height > 0:  # a degenerate box is dropped, not repaired
        left, top, right, bottom = picture.turned_box((x, y, x + width, y + height))
        one["bbox"] = [left, top, right - left, bottom - top]
    if isinstance(one.get("segmentation"), list):
        polygons = one["segmentation"]
        one["segmentation"] = [picture.turned_polygon(part) if is_polygon(part) else part for part in polygons]
    elif (code := compressed(one.get("segmentation"), picture.size)) and (mask := decoded(code)) is not None:
        turned = rle.encode(np.asfortranarray(picture.turned_mask(mask)))
        one["segmentation"] = {"size": [int(side) for side in turned["size"]], "counts": turned["counts"].decode()}
    for key in ("keypoints", "num_keypoints"):  # nothing here reads them, and they would be wrong now
        one.pop(key, None)


def usable(segmentation: Any, size: Size) -> Any:
    """The polygons with 3 points or more, or the RLE where it is of ``size``; None where neither is left."""
    if isinstance(segmentation, list):
        return [one for one in segmentation if is_polygon(one)] or None
    code = compressed(segmentation, size)
    whole = code and segmentation["size"] == list(size[::-1]) and decoded(code) is not None
    return segmentation if whole else None


def box_polygon(box: Iterable[float]) -> list[list[float]]:
    """A bbox [x, y, width, height] as one polygon."""
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
