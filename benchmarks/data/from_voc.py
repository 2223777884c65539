"""The user's PASCAL VOC data, with any class names, as the standard VOC layout: links to the images, cleaned XML.

    python -m benchmarks prepare voc SOURCE [--name NAME] [--val-fraction 0.2] [--seed 0] [--drop-unreadable]

SOURCE is a devkit (``VOCdevkit``, or a folder with VOC2007 and perhaps VOC2012), one folder with annotations and one
with images (Annotations and JPEGImages, annots and images, …), XML files beside the images, or a folder of either kind
for each split (train, valid, test); it may also be the only such set in SOURCE. Its lists of images are used if it
has them, else a seeded split is made that has every class in both halves if possible. Where there is a test split,
val is trained on, as in VOC's trainval. Classes are sorted by name, which for VOC's 20 is VOC's order.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data.checks import (
    AS_ANNOTATED,
    REACHES_OUT,
    TURNED,
    Box,
    Picture,
    Size,
    check_scale,
    clipped,
    drawn_on_stored,
    fatal,
    fits,
    look_at,
)
from benchmarks.data.found import Stems, check_spellings, in_train, passed_over, suffixes
from benchmarks.data.split import split_seeded
from benchmarks.data.voc_sets import LONGEST, ImageSet, Place, check_ids, find_sets, list_of, view_id
from benchmarks.data.vocxml import VocImage, VocObject, read_xml, write_xml
from pretrain.common.errors import InputError
from pretrain.data import by_suffix, is_image

SPLITS = ("train", "test")
Key = tuple[str, str]
"""An image: its folder of the standard view (VOC2007 or VOC2012) and its id there."""


def build(source: Path, target: Path, val_fraction: float, seed: int, drop_unreadable: bool) -> dict[str, Any]:
    """Write ``target/VOCdevkit`` from ``source``; the section of data.json without its fingerprint."""
    sets, found = find_sets(source), Counter[str]()
    check_ids(sets)
    read = {(one.folder, name): read_xml(path) for one in sets for name, path in one.files.items()}
    check_boxes(sets, read)
    spelling = spellings(sets, read, found)
    files = images_of(sets, read, drop_unreadable, found)
    pictures = look_at(files.values(), drop_unreadable=drop_unreadable, found=found)
    files = {key: file for key, file in files.items() if file in pictures}
    straight = turned(read, files, pictures, found)
    check_inside(sets, straight, files, pictures)
    clean = {key: cleaned(image, pictures[files[key]].size, spelling, found) for key, image in straight.items()}
    places = {one.place for one in sets}
    xml = {path for one in places for path in one.xml.paths}
    found["annotations in no split"] = len(xml.difference(*(one.files.values() for one in sets)))
    also = {
        "images in no split": len({path for one in places for path in one.pictures.paths}.difference(files.values())),
        "empty annotation files": sum(read[key].empty_file for key in files),
    }
    found.update({what: number for what, number in also.items() if number})
    sets = [one.only({name for folder, name in files if folder == one.folder}) for one in sets]
    if sets[0].split == "all":
        sets = split_set(source, sets[0], clean, val_fraction, seed)
    about = section(source, sets, clean, found)
    about["validation"] |= passed_over(others_in(places))
    write(target / "VOCdevkit", sets, clean, files)
    train, test = (
        [files[one.folder, name] for one in sets if one.split == split for name in one.files] for split in SPLITS
    )
    about["validation"] |= in_train(train, test)
    return about


def others_in(places: Collection[Place]) -> Counter[str]:
    """The numbers of files by suffix that are neither annotations nor images."""
    return suffixes(path.name for path in set[Path]().union(*(place.others for place in places)))


def images_of(
    sets: list[ImageSet], read: Mapping[Key, VocImage], drop_unreadable: bool, found: Counter[str]
) -> dict[Key, Path]:
    """The image file of each annotation; those without one are dropped and counted in ``found`` by the flag."""
    files, missing = {}, []
    for one in sets:
        for name, path in one.files.items():
            if image := choose(read[one.folder, name], path.stem, one.place.pictures):
                files[one.folder, name] = image
            else:
                missing.append(path)
    others = by_suffix(others_in({one.place for one in sets}))
    if not drop_unreadable or not files:
        beside = f" (not read as images: {others})" if others else ""
        fatal("missing image of annotation", missing, f"add the image{beside}, or leave it out with --drop-unreadable")
    if missing:
        found["missing images dropped"] += len(missing)
    shared = [file for file, times in Counter(files.values()).items() if times > 1]
    fatal("image of two annotation files", shared, "keep one of them")
    return files


def choose(image: VocImage, stem: str, pictures: Stems) -> Path | None:
    """The image of an annotation: of the same stem, else the one that its <filename> names; None if there is none."""
    named = Path(image.filename.replace("\\", "/"))
    candidates = pictures.get(stem) or pictures.get(named.stem if is_image(named) else named.name)
    return next((path for path in candidates if path.name == named.name), candidates[0] if candidates else None)


def check_boxes(sets: list[ImageSet], read: Mapping[Key, VocImage]) -> None:
    """InputError if most boxes are in fractions of the image, or end before they begin; a few such are degenerate."""
    parts = [
        _described(path, item)
        for one in sets
        for name, path in one.files.items()
        for item in read[one.folder, name].objects
        if max(item.box) <= 1 and any(corner % 1 for corner in item.box)
    ]
    flat = [
        _described(path, item)
        for one in sets
        for name, path in one.files.items()
        for item in read[one.folder, name].objects
        if item.box[2] <= item.box[0] or item.box[3] <= item.box[1]
    ]
    advice = "multiply its corners by the image's width and height"
    objects = sum(len(image.objects) for image in read.values())
    fatal("box in parts of the image, not in pixels", parts if 2 * len(parts) > objects else [], advice)
    advice = "write the left top corner as xmin and ymin, the right bottom one as xmax and ymax"
    fatal("box that ends before it begins, as most do", flat if 2 * len(flat) > objects else [], advice)


def _described(path: Path, item: VocObject) -> str:
    return f"{path} (object {item.name}: {', '.join(f'{corner:g}' for corner in item.box)})"


def spellings(sets: list[ImageSet], read: Mapping[Key, VocImage], found: Counter[str]) -> dict[str, str]:
    """The class of each name: names that differ in blanks or the composition of letters are one class, and counted.

    InputError for names that differ in case, hyphens and the like alone, and for names that are too long for the files
    that the evaluator writes, one per class.
    """
    times, first = Counter[str](), dict[str, Path]()
    for one in sets:
        for name, path in one.files.items():
            for item in read[one.folder, name].objects:
                times[item.name] += 1
                first.setdefault(item.name, path)
    long = [f"{name[:40]}… in {first[name]}" for name in times if len(name.encode()) > LONGEST]
    fatal(f"class name longer than {LONGEST} bytes", long, "shorten it")
    spelled: dict[str, str] = {}
    classes: dict[str, str] = {}
    for name, _ in sorted(times.items(), key=lambda item: (-item[1], item[0])):
        same = " ".join(unicodedata.normalize("NFC", name).split())
        spelled[name] = classes.setdefault(same, name)
        if spelled[name] != name:
            found["objects of a class spelt otherwise"] += times[name]
    check_spellings({name: f"{times[name]:,} objects, {first[name]}" for name in classes.values()})
    # The evaluator names a file after each class.
    return {name: spelling.replace("/", "_") for name, spelling in spelled.items()}


def turned(
    read: Mapping[Key, VocImage], files: Mapping[Key, Path], pictures: Mapping[Path, Picture], found: Counter[str]
) -> dict[Key, VocImage]:
    """``read`` with the boxes that were drawn on the stored pixels of EXIF-turned images turned with them; counted.

    InputError if a stated size differs from the image's, or how the boxes were drawn is ambiguous.
    """
    stated = {file: (read[key].width, read[key].height) for key, file in files.items()}
    check_scale(stated, pictures)
    boxes = {file: [_zero_based(one.box) for one in read[key].objects] for key, file in files.items()}
    stored = drawn_on_stored(stated, pictures, boxes)
    if stored:
        found[TURNED] = len(stored)
    return {key: _turned(read[key], pictures[file]) if file in stored else read[key] for key, file in files.items()}


def check_inside(
    sets: list[ImageSet], images: Mapping[Key, VocImage], files: Mapping[Key, Path], pictures: Mapping[Path, Picture]
) -> None:
    """InputError if most boxes reach out of their images: these have another size than was annotated."""
    beyond = []
    for one in sets:
        for name, path in one.files.items():
            if file := files.get((one.folder, name)):
                size = pictures[file].size
                beyond += [
                    f"{_described(path, item)} on {size[0]} × {size[1]} pixels"
                    for item in images[one.folder, name].objects
                    if not fits(_zero_based(item.box), size)
                ]
    objects = sum(len(image.objects) for image in images.values())
    fatal(REACHES_OUT, beyond if 2 * len(beyond) > objects else [], AS_ANNOTATED)


def _turned(image: VocImage, picture: Picture) -> VocImage:
    boxes = [picture.turned_box(_zero_based(one.box)) for one in image.objects]
    objects = [
        replace(one, box=(left + 1, top + 1, right, bottom))
        for one, (left, top, right, bottom) in zip(image.objects, boxes, strict=True)
    ]
    return replace(image, objects=tuple(objects))


def _zero_based(box: Box) -> Box:
    """A box from VOC's 1-based corners with inclusive ends to 0-based ones with exclusive ends."""
    return box[0] - 1, box[1] - 1, box[2], box[3]


def split_set(
    source: Path, whole: ImageSet, clean: Mapping[Key, VocImage], val_fraction: float, seed: int
) -> list[ImageSet]:
    """A train and a test set of the images in ``whole``, stratified by the classes of ``clean``.

    An image counts for a class only by an object that is not difficult: the evaluator ignores difficult ones.
    """
    shown = {name: clean[whole.folder, name].objects for name in whole.files}
    classes = {name: {one.name for one in objects if not one.difficult} for name, objects in shown.items()}
    train, test = split_seeded(classes, val_fraction, seed)
    if min(len(train), len(test)) < 2:
        raise InputError(f"{source} has {len(train)} + {len(test)} annotated images: each split needs at least 2")
    return [
        replace(whole.only(train), split="train", name="trainval"),
        replace(whole.only(test), split="test", name="test"),
    ]


def cleaned(image: VocImage, size: Size, spelling: Mapping[str, str], found: Counter[str]) -> VocImage:
    """``image`` with its true size and whole boxes inside it; changes are counted in ``found``."""
    found["sizes corrected"] += (image.width, image.height) != size
    objects = []
    for one in image.objects:
        left, top, right, bottom = one.box
        inside = clipped(_zero_based(one.box), size)
        if right <= left or bottom <= top or inside is None:
            found["degenerate boxes dropped"] += 1
            continue
        found["boxes outside clipped"] += inside != _zero_based(one.box)
        x, y, x_end, y_end = (round(value) for value in inside)  # the evaluator reads corners with int()
        box = (x + 1, y + 1, max(x_end, x + 1), max(y_end, y + 1))
        objects.append(replace(one, name=spelling[one.name], box=box))
    return VocImage(filename=image.filename, width=size[0], height=size[1], objects=tuple(objects))


def write(
    devkit: Path,
    sets: list[ImageSet],
    clean: Mapping[Key, VocImage],
    files: Mapping[Key, Path],
) -> None:
    """The standard view: links to the images, an XML file each, and the lists of ids."""
    for (folder, name), image in clean.items():
        # In any format: readers look for <id>.jpg and detect the format from the content.
        link = devkit / folder / "JPEGImages" / f"{view_id(name)}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(str(files[folder, name]))
        xml = devkit / folder / "Annotations" / f"{view_id(name)}.xml"
        write_xml(xml, replace(image, filename=link.name), folder)
    for one in sets:
        path = list_of(devkit / one.folder, one.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{view_id(name)}\n" for name in one.files), encoding="utf-8")


def section(source: Path, sets: list[ImageSet], clean: Mapping[Key, VocImage], found: Counter[str]) -> dict[str, Any]:
    """The VOC section of data.json; InputError if a split has no object to train or test on."""
    names = sorted({one.name for image in clean.values() for one in image.objects})
    about: dict[str, Any] = {"classes": names, "train": [], "test": [], "counts": {}}
    absent: dict[str, list[str]] = {}
    for one in sets:
        about[one.split].append([one.folder, one.name])
    for split in SPLITS:
        held = [clean[one.folder, name] for one in sets if one.split == split for name in one.files]
        objects: list[VocObject] = [item for image in held for item in image.objects]
        usable = {item.name for item in objects if not item.difficult}
        if not usable:
            if objects:
                raise InputError(
                    f"{source}: every object of the {split} split is difficult, and the evaluator leaves such out: "
                    "write <difficult>0</difficult>"
                )
            raise InputError(f"{source}: the {split} split has no object with a usable box: check its annotations")
        absent[split] = [name for name in names if name not in usable]
        difficult = sum(item.difficult for item in objects)
        about["counts"][split] = {"images": len(held), "objects": len(objects), "difficult": difficult}
        found[f"{split} images without an object"] = sum(not image.objects for image in held)
    return about | {"validation": {**found, "classes absent": absent}}
