"""The user's PASCAL VOC data, with any class names, as the standard VOC layout: links to the images, cleaned XML.

    python -m benchmarks prepare voc SOURCE [--name NAME] [--val-fraction 0.2] [--seed 0]

SOURCE is a devkit (``VOCdevkit``, or a folder with VOC2007 and perhaps VOC2012) or one folder with ``Annotations`` and
``JPEGImages``, or ``annotations`` and ``images``. Its ImageSets are used where it has them, else a seeded split is
made that has every class in both halves if possible. Classes are sorted by name, which for VOC's 20 is VOC's order.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.datasets.checks import check_scale, clipped, fatal, look_at
from benchmarks.datasets.split import split_seeded
from benchmarks.datasets.vocxml import VocImage, VocObject, read_xml, write_xml
from pretrain.data import IMAGE_SUFFIXES
from pretrain.errors import InputError

SPLIT_FILES = (("trainval", "test"), ("train", "val"), ("train", "test"), ("trainval", "val"))


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One list of images of one year's folder, and which split of the standard view it belongs to."""

    split: str
    """ "train" or "test"; "all" for the images of a source without lists, until they are split."""
    folder: str
    """Of the standard view: VOC2007 or VOC2012."""
    name: str
    source: Path
    ids: list[str]


def build(source: Path, target: Path, val_fraction: float, seed: int, drop_unreadable: bool) -> dict[str, Any]:
    """Write ``target/VOCdevkit`` from ``source``; the section of data.json without its fingerprint."""
    sets = find_sets(source)
    folders = {one.folder: (xml_files(one.source), image_files(one.source)) for one in sets}
    wanted = [(one.folder, name) for one in sets for name in one.ids]
    fatal("image twice in the splits", [key for key, n in Counter(wanted).items() if n > 1], "list it once")
    absent = [f"{folder}/{name}.xml" for folder, name in wanted if name not in folders[folder][0]]
    fatal("missing annotation", absent, "add the file or take the image off its ImageSets list")
    read = {(folder, name): read_xml(folders[folder][0][name]) for folder, name in wanted}
    files = {key: choose(read[key], key[1], folders[key[0]][1]) for key in wanted}
    fatal(
        "missing image of annotation", [f"{a}/{b}.xml" for (a, b), file in files.items() if not file], "add the image"
    )
    found: Counter[str] = Counter()
    sizes = look_at((file for file in files.values() if file), drop_unreadable=drop_unreadable, found=found)
    files = {key: file for key, file in files.items() if file in sizes}
    sets = [replace(one, ids=[name for name in one.ids if (one.folder, name) in files]) for one in sets]
    check_scale({file: (read[key].width, read[key].height) for key, file in files.items() if file}, sizes)
    clean = {key: cleaned(read[key], sizes[file].size, found) for key, file in files.items() if file}
    if sets[0].split == "all":
        sets = split_set(sets[0], clean, val_fraction, seed)
    found["annotations in no split"] = sum(len(xml) for xml, _ in folders.values()) - len(wanted)
    write(target / "VOCdevkit", sets, clean, files)
    return section(source, sets, clean, found)


def find_sets(source: Path) -> list[ImageSet]:
    """The image sets of ``source``: VOC 2007 + 2012 as everyone trains on them, or the folder's own, or one of all."""
    devkit = source / "VOCdevkit" if (source / "VOCdevkit").is_dir() else source
    years = [devkit / year for year in ("VOC2007", "VOC2012") if (devkit / year).is_dir()]
    if len(years) == 2:
        return [*_pair("VOC2007", years[0], ("trainval", "test")), _pair("VOC2012", years[1], ("trainval",))[0]]
    folder = years[0] if years else devkit
    for files in SPLIT_FILES:
        if all(_list_of(folder, name).is_file() for name in files):
            return _pair("VOC2007", folder, files)
    return [ImageSet(split="all", folder="VOC2007", name="all", source=folder, ids=list(xml_files(folder)))]


def split_set(
    whole: ImageSet, clean: dict[tuple[str, str], VocImage], val_fraction: float, seed: int
) -> list[ImageSet]:
    """A train and a test set of the images in ``whole``, stratified by the classes of ``clean``.

    An image counts for a class by an object that is not difficult: the evaluator tests no other.
    """
    classes = {name: {one.name for one in clean[whole.folder, name].objects if not one.difficult} for name in whole.ids}
    train, test = split_seeded(classes, val_fraction, seed)
    if min(len(train), len(test)) < 2:
        raise InputError(f"{whole.source} has {len(train)} + {len(test)} annotated images: each split needs at least 2")
    return [
        replace(whole, split="train", name="trainval", ids=train),
        replace(whole, split="test", name="test", ids=test),
    ]


def _list_of(folder: Path, name: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{name}.txt"


def _pair(view: str, folder: Path, names: tuple[str, ...]) -> list[ImageSet]:
    sets = []
    for split, name, view_name in zip(("train", "test"), names, ("trainval", "test"), strict=False):
        path = _list_of(folder, name)
        if not path.is_file():
            raise InputError(f"missing image set {path}: VOC 2007 + 2012 needs trainval of both and test of 2007")
        try:
            ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a readable list of image ids ({error})") from None
        if len(ids) < 2:
            raise InputError(f"{path} lists {len(ids)} images: each split needs at least 2")
        sets.append(ImageSet(split=split, folder=view, name=view_name, source=folder, ids=ids))
    return sets


def _subfolder(folder: Path, *names: str) -> Path:
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if child.is_dir() and child.name.lower() in names:
            return child
    raise InputError(f"{folder} has no folder {' or '.join(names)}: give a VOC devkit or a folder in VOC's layout")


def xml_files(folder: Path) -> dict[str, Path]:
    """XML files of a VOC-style folder by stem; InputError where there are none."""
    place = _subfolder(folder, "annotations")
    found = {path.stem: path for path in sorted(place.iterdir()) if path.match("[!.]*.[xX][mM][lL]")}
    if not found:
        raise InputError(f"{place} holds no XML file")
    return found


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Image files of a VOC-style folder by stem: several where a.jpg and a.png both exist."""
    found: dict[str, list[Path]] = {}
    for path in sorted(_subfolder(folder, "jpegimages", "images").iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def choose(image: VocImage, stem: str, files: dict[str, list[Path]]) -> Path | None:
    """The image of an annotation: of the same stem, else the one that its <filename> names; None if there is none."""
    candidates = files.get(stem) or files.get(Path(image.filename).stem, [])
    named = [path for path in candidates if path.name == image.filename]
    return next(iter(named or candidates), None)


def cleaned(image: VocImage, size: tuple[int, int], found: Counter[str]) -> VocImage:
    """``image`` with its true size and whole boxes inside it; what had to be changed is counted in ``found``."""
    found["sizes corrected"] += (image.width, image.height) != size
    objects = []
    for one in image.objects:
        left, top, right, bottom = one.box
        inside = clipped((left - 1, top - 1, right, bottom), size)
        if right <= left or bottom <= top or inside is None:
            found["degenerate boxes dropped"] += 1
            continue
        found["boxes outside clipped"] += inside != (left - 1, top - 1, right, bottom)
        x, y, x_end, y_end = (round(value) for value in inside)  # the evaluator reads corners with int()
        # The evaluator names a file after each class.
        name = one.name.replace("/", "_")
        objects.append(replace(one, name=name, box=(x + 1, y + 1, max(x_end, x + 1), max(y_end, y + 1))))
    return VocImage(filename=image.filename, width=size[0], height=size[1], objects=tuple(objects))


def view_id(name: str) -> str:
    """The id in the standard view: the evaluator splits its lines at blanks, so an id must not have any."""
    return re.sub(r"\s+", "_", name)


def write(
    devkit: Path,
    sets: list[ImageSet],
    clean: dict[tuple[str, str], VocImage],
    files: dict[tuple[str, str], Path | None],
) -> None:
    """The standard view: links to the images, an XML file each, and the lists of ids."""
    repeated = Counter((folder, view_id(name)) for folder, name in clean)
    fatal("duplicate image id", [key[1] for key, n in repeated.items() if n > 1], "rename one of the files")
    for (folder, name), image in clean.items():
        # Whatever the format is: readers look for <id>.jpg and recognise the content.
        link = devkit / folder / "JPEGImages" / f"{view_id(name)}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(str(files[folder, name]))
        xml = devkit / folder / "Annotations" / f"{view_id(name)}.xml"
        write_xml(xml, replace(image, filename=link.name), folder)
    for one in sets:
        path = _list_of(devkit / one.folder, one.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{view_id(name)}\n" for name in one.ids), encoding="utf-8")


def section(
    source: Path, sets: list[ImageSet], clean: dict[tuple[str, str], VocImage], found: Counter[str]
) -> dict[str, Any]:
    """The VOC section of data.json; InputError where a split has nothing to learn from or to test on."""
    names = sorted({one.name for image in clean.values() for one in image.objects})
    about: dict[str, Any] = {"classes": names, "train": [], "test": [], "counts": {}}
    absent: dict[str, list[str]] = {}
    for one in sets:
        about[one.split].append([one.folder, one.name])
    for split in ("train", "test"):
        held = [clean[one.folder, name] for one in sets if one.split == split for name in one.ids]
        objects: list[VocObject] = [item for image in held for item in image.objects]
        usable = {item.name for item in objects if not item.difficult}
        if not usable:
            raise InputError(f"{source}: the {split} split has no object with a usable box: check its annotations")
        absent[split] = [name for name in names if name not in usable]
        difficult = sum(item.difficult for item in objects)
        about["counts"][split] = {"images": len(held), "objects": len(objects), "difficult": difficult}
        found[f"{split} images without an object"] = sum(not image.objects for image in held)
    return about | {"validation": {**found, "classes absent": absent}}
