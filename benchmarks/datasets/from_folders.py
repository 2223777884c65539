"""The user's folders of classes (ImageNet's layout) as the standard classification layout: links, nothing copied.

    python -m benchmarks prepare imagenet SOURCE [--name NAME] [--val-fraction 0.2] [--seed 0]

SOURCE has ``train/`` and ``val/`` (or validation, valid, test) with one folder per class; or the class folders
themselves, which are then split with the seed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.datasets.checks import IN_TRAIN, also_in, fatal, images_under, look_at
from benchmarks.datasets.split import split_seeded
from pretrain.errors import InputError

HELD_OUT = ("val", "validation", "valid", "test")


def build(source: Path, target: Path, val_fraction: float, seed: int, drop_unreadable: bool) -> dict[str, Any]:
    """Write ``target/imagenet`` from ``source``; the section of data.json without its fingerprint."""
    held = next((source / name for name in HELD_OUT if (source / name).is_dir()), None)
    if held and (source / "train").is_dir():
        folders = {"train": source / "train", "val": held}
        files = {split: class_files(folder) for split, folder in folders.items()}
    else:
        folders = {"train": source, "val": source}
        files = split_classes(source, val_fraction, seed)
    for one, other in (("val", "train"), ("train", "val")):
        fatal(f"class of {one} absent in {other}", sorted(set(files[one]) - set(files[other])), "give both all classes")
    dropped: Counter[str] = Counter()
    every = [path for classes in files.values() for paths in classes.values() for path in paths]
    sizes = look_at(every, drop_unreadable=drop_unreadable, found=dropped)
    for split, classes in files.items():
        for name, paths in classes.items():
            classes[name] = [path for path in paths if path in sizes]
            fatal("class without a readable image", [] if classes[name] else [folders[split] / name], "add images")
    for split, classes in files.items():
        # File by file: a linked folder would show what is no image (._1.jpg of macOS), and what is added later.
        for path in (path for paths in classes.values() for path in paths):
            link = target / "imagenet" / split / path.relative_to(folders[split])
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    both = also_in(*([path for paths in files[split].values() for path in paths] for split in ("train", "val")))
    counts = {split: sum(map(len, classes.values())) for split, classes in files.items()}
    return {
        "classes": sorted(files["train"]),
        "counts": counts,
        "validation": {"images checked": len(sizes), **dropped, **({IN_TRAIN: both} if both else {})},
    }


def class_files(folder: Path) -> dict[str, list[Path]]:
    """The images of each class folder under ``folder``; InputError where there is no class or one is empty."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise InputError(f"{folder} has {len(names)} class folders: give folders of images, one a class")
    files = {name: images_under(folder / name) for name in names}
    fatal("class folder without an image", [folder / name for name in names if not files[name]], "fill or remove it")
    return files


def split_classes(source: Path, val_fraction: float, seed: int) -> dict[str, dict[str, list[Path]]]:
    """A seeded split in which both halves have every class."""
    whole = class_files(source)
    fatal("class with one image", [name for name, paths in whole.items() if len(paths) < 2], "a split needs two")
    classes = {path.relative_to(source).as_posix(): [name] for name, paths in whole.items() for path in paths}
    files: dict[str, dict[str, list[Path]]] = {split: {name: [] for name in whole} for split in ("train", "val")}
    for split, part in zip(files, split_seeded(classes, val_fraction, seed), strict=True):
        for path in part:
            files[split][classes[path][0]].append(source / path)
    return files
