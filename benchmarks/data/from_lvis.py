"""LVIS v1 as it is published, on the images of COCO 2017: checked and linked, nothing is changed.

    python -m benchmarks prepare lvis SOURCE [--images COCO] [--name NAME]

SOURCE has lvis_v1_train.json and lvis_v1_val.json, or its folder ``annotations`` or ``lvis`` has them; the images
are in ``train2017`` and ``val2017`` of COCO, SOURCE, SOURCE/coco or the ``coco`` beside SOURCE. An image's folder is
in its coco_url: LVIS' val has images of COCO's train.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.data.checks import fatal, is_file, look_at
from benchmarks.data.coco_entries import Entry, is_polygon, shown
from benchmarks.data.coco_files import LISTS, Coco, is_text, read_json
from benchmarks.data.found import contents
from pretrain.common.errors import InputError

FILES = {split: f"lvis_v1_{split}.json" for split in ("train", "val")}
FOLDERS = ("train2017", "val2017")
FREQUENCIES = ("r", "c", "f")
OWN = "give LVIS v1's own file"


def build(source: Path, target: Path, images: Path) -> dict[str, Any]:
    """Write ``target/lvis``; its section of data.json without the fingerprint. InputError for the first fault."""
    files = annotation_files(source)
    counts, found = {}, {}
    for split, path in files.items():
        content = read_json(path)
        check(content, path)
        check_images(content, path, images)
        found[split] = content["categories"]
        counts[split] = {"images": len(content["images"]), "annotations": len(content["annotations"])}
        seen = {one["category_id"] for one in content["annotations"]}
        counts[split]["classes with an object"] = len(seen)
    names = {split: [(one["id"], one["name"]) for one in _sorted(some)] for split, some in found.items()}
    if names["train"] != names["val"]:
        raise InputError(f"different categories in {files['train']} and {files['val']}: give the files of one release")
    folder = target / "lvis"
    (folder / "annotations").mkdir(parents=True)
    for path in files.values():
        (folder / "annotations" / path.name).symlink_to(path.resolve())
    for name in FOLDERS:
        if (images / name).is_dir():
            (folder / name).symlink_to((images / name).resolve(), target_is_directory=True)
    classes = [name for _, name in names["train"]]
    return {"classes": classes, "counts": counts, "masks": "polygon", "validation": {}}


def _sorted(categories: list[Entry]) -> list[Entry]:
    return sorted(categories, key=lambda one: one["id"])


def annotation_files(source: Path) -> dict[str, Path]:
    """The two files by split; InputError where they are not there."""
    for folder in (source, source / "annotations", source / "lvis"):
        if is_file(folder / FILES["train"]) or is_file(folder / FILES["val"]):
            if missing := [name for name in FILES.values() if not is_file(folder / name)]:
                raise InputError(f"{folder} has no {missing[0]}: add it")
            return {split: folder / name for split, name in FILES.items()}
    raise InputError(f"{source} has no {FILES['train']} (it has {contents(source)}): give the folder that has it")


def image_folder(source: Path, given: Path | None) -> Path:
    """The folder with COCO's train2017 and val2017; InputError where there is none."""
    places = [given] if given else [source, source / "coco", source.parent / "coco", source.parent]
    for place in places:
        if (place / FOLDERS[0]).is_dir():
            return place
    where = ", ".join(map(str, places))
    raise InputError(f"no {FOLDERS[0]} in {where}: give the folder of COCO's images with --images COCO")


def check(content: Any, path: Path) -> None:
    """InputError for a file that is not of LVIS v1's kind."""
    lists: list[Any] = [content.get(key) if isinstance(content, dict) else None for key in LISTS]
    if not all(isinstance(some, list) and some and all(isinstance(one, dict) for one in some) for some in lists):
        raise InputError(f"{path} has no lists {', '.join(LISTS)} of objects: {OWN}")
    images, entries, categories = lists
    for some in lists:
        ids = [one.get("id") for one in some]
        if not all(type(one) is int and one > 0 for one in ids) or len(set(ids)) < len(ids):
            raise InputError(f"{path} has ids that occur twice or are no numbers above 0: {OWN}")
    known, places = ({one["id"] for one in some} for some in (categories, images))
    rules: tuple[tuple[str, list[Entry], str, Callable[[Any], bool]], ...] = (
        ("category without a name", categories, "name", is_text),
        ("category without a frequency r, c or f", categories, "frequency", lambda value: value in FREQUENCIES),
        ("image whose coco_url is in neither train2017 nor val2017", images, "coco_url", lambda url: bool(_local(url))),
        ("image without a width", images, "width", _is_side),
        ("image without a height", images, "height", _is_side),
        ("image with other than known categories", images, "neg_category_ids", partial(_all_in, known)),
        ("image with other than known categories", images, "not_exhaustive_category_ids", partial(_all_in, known)),
        ("annotation of an unknown image", entries, "image_id", partial(_is_in, places)),
        ("annotation of an unknown category", entries, "category_id", partial(_is_in, known)),
        ("annotation without a box [x, y, width, height]", entries, "bbox", _is_box),
        ("annotation without polygons", entries, "segmentation", _is_mask),
        ("annotation without an area", entries, "area", _is_size),
    )
    for what, some, key, right in rules:
        wrong = [f"{one['id']} (its {key} is {shown(one, key)})" for one in some if not right(one.get(key))]
        fatal(f"{what} in {path}", wrong, OWN)


def check_images(content: Coco, path: Path, images: Path) -> None:
    """InputError for an image that is missing or unreadable."""
    files = [images / file_name(one) for one in content["images"]]
    missing = [one for one in tqdm(files, desc=f"images of {path.name}", unit="image") if not is_file(one)]
    fatal(f"missing image of {path}", missing, "add COCO 2017's images, or name their folder with --images")
    look_at(files, advice="replace it by COCO 2017's own")


def file_name(image: Entry) -> str:
    """``val2017/000000000139.jpg`` of a checked entry of images, by its coco_url."""
    return _local(image["coco_url"])


def _local(url: Any) -> str:
    """Folder and name of a coco_url; "" where it is none."""
    folder, name = url.split("/")[-2:] if isinstance(url, str) and "/" in url else ("", "")
    return f"{folder}/{name}" if folder in FOLDERS and is_text(name) else ""


def _is_in(ids: set[int], value: Any) -> bool:
    return type(value) is int and value in ids


def _all_in(ids: set[int], values: Any) -> bool:
    return isinstance(values, list) and all(_is_in(ids, one) for one in values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0


def _is_mask(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_polygon, value))
