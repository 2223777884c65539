"""The user's folders of classes (ImageNet's layout) as the standard classification layout: links, nothing copied.

    python -m benchmarks prepare imagenet SOURCE [--name NAME] [--val-fraction 0.2] [--seed 0] [--drop-unreadable]

SOURCE has ``train/`` and ``val/`` (or validation, valid, test) with one folder per class; or the class folders
themselves, which are then split with the seed. It may be the only folder in SOURCE. Of Tiny ImageNet's layout the
validation images are sorted by their ``val_annotations.txt``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data.checks import fatal, images_under, look_at
from benchmarks.data.found import (
    check_spellings,
    command,
    contents,
    entries,
    in_train,
    other_kind,
    passed_over,
    split_folders,
    suffixes,
    utf8,
)
from benchmarks.data.root import visible_files
from benchmarks.data.split import split_seeded
from benchmarks.data.vocxml import decoded
from pretrain.common.errors import InputError
from pretrain.data import by_suffix, is_image

Classes = dict[str, dict[str, Path]]
"""For each class its images by their paths within it."""

DEPTH = 3  # levels of folders
MOST_FOLDERS = 2000  # searched for the advice of an error
VAL_LIST = "val_annotations.txt"
SORT = "sort them into one folder per class, called as in train"


def build(source: Path, target: Path, val_fraction: float, seed: int, drop_unreadable: bool) -> dict[str, Any]:
    """Write ``target/imagenet`` from ``source``; the section of data.json without its fingerprint."""
    found, others = Counter[str](), Counter[str]()
    files = {split: class_files(folder, found, others) for split, folder in find_folders(source, others).items()}
    if "val" in files:
        files["val"] = spelt_alike(files["val"], files["train"])
        for one, other in (("val", "train"), ("train", "val")):
            absent = sorted(set(files[one]) - set(files[other]))
            fatal(f"class of {one} absent in {other}", absent, "give both all classes")
    every = [path for classes in files.values() for paths in classes.values() for path in paths.values()]
    fatal("name that is not UTF-8", [ascii(str(path)) for path in every if not utf8(str(path))], "rename it")
    pictures = look_at(every, drop_unreadable=drop_unreadable, found=found)
    for classes in files.values():
        for name, paths in classes.items():
            classes[name] = {inside: path for inside, path in paths.items() if path in pictures}
            fatal("class without a readable image", [] if classes[name] else [name], "add images of it")
    if "all" in files:
        files = split_classes(files["all"], val_fraction, seed)
    for split, classes in files.items():
        # File by file: a linked folder would include non-images (macOS's ._1.jpg) and files added later.
        for name, paths in classes.items():
            for inside, path in paths.items():
                link = target / "imagenet" / split / name / inside
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
    train, val = ([path for paths in files[split].values() for path in paths.values()] for split in ("train", "val"))
    checked = {"images checked": len(pictures), **found, **passed_over(others), **in_train(train, val)}
    return {"classes": sorted(files["train"]), "counts": {"train": len(train), "val": len(val)}, "validation": checked}


def find_folders(source: Path, others: Counter[str]) -> dict[str, Path]:
    """The folders of classes of "train" and "val"; of "all" if ``source`` has no splits. InputError if it has neither.

    Files beside the folders on the way are counted by suffix in ``others``.
    """
    folder = source
    for _ in range(DEPTH):
        folders, files = entries(folder)
        if splits := split_folders(folders):
            others.update(suffixes(path.name for path in files))
            held_out = splits.get("val") or splits["test"]
            return {"train": class_level(splits["train"]), "val": class_level(held_out)}
        if len(folders) > 1:
            return {"all": folder}
        if not folders or any(map(is_image, files)):
            break
        others.update(suffixes(path.name for path in files))
        folder = folders[0]
    advice = other_kind(source, "imagenet") or "give a folder of images per class, of two classes or more"
    raise InputError(f"{source} has fewer than two class folders; it has {contents(source)}: {advice}")


def class_level(split: Path) -> Path:
    """A split's folder, or the only folder in it if that has the class folders (seg_train/seg_train)."""
    folders, _ = entries(split)
    return folders[0] if len(folders) == 1 and len(entries(folders[0])[0]) > 1 else split


def class_files(folder: Path, found: Counter[str], others: Counter[str]) -> Classes:
    """The images of each class folder under ``folder``.

    Those beside the class folders are counted in ``found``, and files that are none, by suffix, in ``others``.
    InputError if there is no class, one is empty, or two differ only in upper and lower case.
    """
    folders, files = entries(folder)
    if (folder / VAL_LIST).is_file() and [one.name for one in folders] in ([], ["images"]):
        return listed(folder)
    others.update(suffixes(path.name for path in files if not is_image(path)))
    if strays := sum(map(is_image, files)):
        found["images beside the class folders"] += strays
    if len(folders) < 2:
        if any(path.name.startswith("ILSVRC2012_val") for path in files):
            raise InputError(f"{folder} has ImageNet's validation images as they come, without class folders: {SORT}")
        raise InputError(f"{folder} has {len(folders)} class folders; it has {contents(folder)}: {SORT}")
    check_spellings({one.name: str(one) for one in folders})
    classes: Classes = {}
    for one in folders:
        there = [Path(path) for path in visible_files(one)]
        images = [path for path in there if is_image(path)]
        rest = suffixes(path.name for path in there if not is_image(path))
        what = f"class folder without an image ({by_suffix(rest) or 'no file at all'})"
        if not images:
            converted = f"save them as JPEG or PNG, or remove {one.name} from every split" if rest else ""
            advice = splits_below(folder) or other_kind(folder, "imagenet") or converted
            advice = advice or "add images, or remove the class from every split"
            raise InputError(f"{what}: {one}: {advice}")
        others.update(rest)
        classes[one.name] = {path.relative_to(one).as_posix(): path for path in images}
    return classes


def splits_below(folder: Path) -> str:
    """The advice if only one folder at most DEPTH levels down has splits, as in ILSVRC/Data/CLS-LOC; "" else."""
    below = [folder]
    for _ in range(DEPTH):
        below = [inside for one in below for inside in entries(one)[0]][:MOST_FOLDERS]
        holders = [one for one in below if split_folders(entries(one)[0])]
        if holders:
            return f"its splits are in {holders[0]}: {command('imagenet', holders[0])}" if len(holders) == 1 else ""
    return ""


def listed(folder: Path) -> Classes:
    """The images of Tiny ImageNet's ``val``, whose list has a line "name class …" for each."""
    path = folder / VAL_LIST
    try:
        rows = [line.split() for line in decoded(path.read_bytes()).splitlines() if line.strip()]
        class_of = {row[0]: row[1] for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} is not a readable list of images and their classes ({error})") from None
    images = {path.name: path for path in images_under(folder)}
    fatal(f"image without a class in {path}", sorted(set(images) - set(class_of)), "add its line")
    fatal(f"absent image of {path}", sorted(set(class_of) - set(images)), "add the image")
    classes: Classes = {}
    for name, image in sorted(images.items()):
        classes.setdefault(class_of[name], {})[name] = image
    return classes


def spelt_alike(classes: Classes, others: Mapping[str, Any]) -> Classes:
    """``classes`` under the names in ``others``, where the two differ in the composition of letters alone.

    InputError for two that differ only in upper and lower case.
    """
    names = {unicodedata.normalize("NFC", name): name for name in others}
    same = {names.get(unicodedata.normalize("NFC", name), name): paths for name, paths in classes.items()}
    check_spellings(dict.fromkeys(others, "in train") | {name: "in val" for name in same if name not in others})
    return same


def split_classes(whole: Classes, val_fraction: float, seed: int) -> dict[str, Classes]:
    """A seeded split in which both halves have every class."""
    fatal("class with one image", [name for name, paths in whole.items() if len(paths) < 2], "a split needs two")
    classes = {f"{name}/{inside}": [name] for name, paths in whole.items() for inside in paths}
    files: dict[str, Classes] = {split: {name: {} for name in whole} for split in ("train", "val")}
    for split, part in zip(files, split_seeded(classes, val_fraction, seed), strict=True):
        for path in part:
            name, _, inside = path.partition("/")
            files[split][name][inside] = whole[name][inside]
    return files
