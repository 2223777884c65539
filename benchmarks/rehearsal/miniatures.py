"""Raw data sets in the standard layouts with a few generated images each: of VOC, COCO and ImageNet all but the size.

    python -c "from pathlib import Path; from benchmarks.rehearsal.miniatures import MINIATURES;
    MINIATURES['voc'].write(Path('/tmp/VOCdevkit'))"

They go through the same `python -m benchmarks prepare` as the real ones. Folders, lists, numbers of classes,
category ids and kinds of annotation are the real ones': VOC2007 and VOC2012 with difficult objects, COCO's 80
categories with ids to 90, polygons and crowds as RLE, 1,000 class folders. Another layout is one more entry, by
``add``. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data.drawing import CLASSES, RECIPE, Placed, ground, paint, place, visible
from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.vocxml import VocImage, VocObject, write_xml
from benchmarks.rehearsal import raw_sets
from pretrain.common.errors import InputError

RAW = "RAW"
SIDE = 160  # pixels of a scene; the detectors' own resizing makes 800 of it
IMAGENET_CLASSES, FEW_CLASSES = 1000, 10
COCO_IDS = tuple(one for one in range(1, 91) if one not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""The 80 category ids of COCO 2017, which has no 12, 26, …"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Miniature:
    """A raw data set: ``write(folder)`` makes it, `prepare` with the words ``prepare`` and the folder reads it.

    ``layouts`` are the sections of the data root that it becomes; RAW in a word stands for the folder.
    """

    name: str
    title: str
    layouts: tuple[str, ...]
    prepare: tuple[str, ...]
    write: Callable[[Path], object]

    def words(self, raw: Path) -> list[str]:
        """The words after `python -m benchmarks prepare`."""
        return [*(word.replace(RAW, str(raw)) for word in self.prepare), str(raw), "--name", self.name]


MINIATURES: dict[str, Miniature] = {}
"""By name; a task runs on the first whose data root has its layout and passes its check."""


def add(miniature: Miniature) -> Miniature:
    """Add ``miniature`` to MINIATURES. InputError if its name is taken."""
    if MINIATURES.setdefault(miniature.name, miniature) is not miniature:
        raise InputError(f"two miniatures are named {miniature.name}: rename one of them")
    return miniature


def scene(names: list[str], rng: np.random.Generator) -> tuple[Image.Image, list[tuple[str, np.ndarray]]]:
    """A picture of SIDE × SIDE with a drawing of each of ``names``, and (name, its visible pixels), no empty ones."""
    _, backdrop = ground(RECIPE, SIDE, rng)
    centres = [(0.3, 0.3), (0.7, 0.7), (0.7, 0.3), (0.3, 0.7)]
    placed: list[Placed] = [
        place(name, RECIPE, SIDE, float(rng.uniform(0.3, 0.5)), centres[number % 4], rng)
        for number, name in enumerate(names)
    ]
    seen = zip(names, visible(placed), strict=True)
    return paint(backdrop, placed), [(name, pixels) for name, pixels in seen if pixels.any()]


def corners(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that are set; right and bottom exclusive."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def write_voc(folder: Path) -> None:
    """VOC2007 (trainval, test) and VOC2012 (trainval): 70 images, each class in every list, some objects difficult."""
    rng = np.random.default_rng(0)
    pairs = len(CLASSES) // 2
    for year, image_set, first, count in (
        ("2007", "trainval", 1, 4),
        ("2007", "test", 5001, 1),
        ("2012", "trainval", 1, 2),
    ):
        names = [f"{'2012_' if year == '2012' else ''}{first + number:06d}" for number in range(count * pairs)]
        for number, name in enumerate(names):
            pair = CLASSES[2 * (number % pairs) : 2 * (number % pairs) + 2]
            _voc_image(folder / f"VOC{year}", name, [*pair, str(rng.choice(CLASSES))], rng)
        lists = folder / f"VOC{year}" / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{image_set}.txt").write_text("".join(f"{one}\n" for one in names))


def _voc_image(folder: Path, name: str, shown: list[str], rng: np.random.Generator) -> None:
    picture, seen = scene(shown, rng)
    objects = []
    for number, (label, pixels) in enumerate(seen):
        left, top, right, bottom = corners(pixels)
        difficult = number == len(shown) - 1  # the third: its class has another object that is not
        objects.append(VocObject(name=label, box=(left + 1, top + 1, right, bottom), difficult=difficult))
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    picture.save(folder / "JPEGImages" / f"{name}.jpg", quality=90)
    about = VocImage(filename=f"{name}.jpg", width=SIDE, height=SIDE, objects=tuple(objects))
    write_xml(folder / "Annotations" / f"{name}.xml", about, folder.name)


def write_coco(folder: Path) -> None:
    """train2017 (40 images) and val2017 (20) of 80 categories, polygons, and a crowd as RLE in every fourth image."""
    for split, count, seed in (("train2017", 40, 1), ("val2017", 20, 2)):
        rng = np.random.default_rng(seed)
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [
            {"id": one, "name": f"category {one}", "supercategory": f"kind {one // 10}"} for one in COCO_IDS
        ]
        (folder / split).mkdir(parents=True)
        for number in range(count):
            picture, seen = scene([str(one) for one in rng.choice(CLASSES, 4)], rng)
            file = f"{1000 * seed + number:012d}.jpg"
            picture.save(folder / split / file, quality=90)
            about = {"id": 1000 * seed + number, "file_name": file, "width": SIDE, "height": SIDE}
            content["images"].append(about)
            shapes = [(pixels, False) for _, pixels in seen]
            if number % 4 == 0:
                shapes.append((np.logical_or.reduce([pixels for _, pixels in seen]), True))
            for place_, (pixels, crowd) in enumerate(shapes):
                category = COCO_IDS[(4 * number + place_) % len(COCO_IDS)]
                content["annotations"].append(
                    coco_annotation(len(content["annotations"]) + 1, about["id"], category, pixels, crowd)
                )
        (folder / "annotations").mkdir(exist_ok=True)
        file_text = json.dumps(content)
        (folder / "annotations" / f"instances_{split}.json").write_text(file_text, encoding="utf-8")


def coco_annotation(number: int, image: object, category: int, pixels: np.ndarray, crowd: bool) -> dict[str, Any]:
    """An object of COCO's: an octagon of its box as its polygon; a crowd has its pixels as uncompressed RLE."""
    left, top, right, bottom = corners(pixels)
    width, height = right - left, bottom - top
    x, y = width / 4, height / 4
    octagon = [left + x, top, right - x, top, right, top + y, right, bottom - y, right - x, bottom, left + x, bottom]
    octagon += [left, bottom - y, left, top + y]
    shape: object = {"size": list(pixels.shape), "counts": run_lengths(pixels)} if crowd else [octagon]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": float(pixels.sum() if crowd else 0.875 * width * height),
        "iscrowd": int(crowd),
        "segmentation": shape,
    }


def run_lengths(pixels: np.ndarray) -> list[int]:
    """COCO's RLE of a mask (height, width): lengths of runs, column by column, the first of pixels that are not set."""
    flat = np.concatenate([[False], pixels.ravel(order="F"), [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    lengths = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def write_folders(folder: Path, classes: int, train: int, val: int, side: int = 40) -> None:
    """``train/`` and ``val/`` with a folder per class, named as WordNet's; noise around a colour of the class's own."""
    rng = np.random.default_rng(3)
    colours = rng.uniform(40, 215, (classes, 3))
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            name = f"n{1440764 + 12289 * label:08d}"
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = colours[label] + rng.normal(0, 30, (side, side + number % 3, 3))
                file = folder / split / name / (f"{name}_{number}.JPEG" if split == "train" else f"{number:08d}.JPEG")
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def write_imagenet(folder: Path) -> None:
    """1,000 classes with two training images and one of val each."""
    write_folders(folder, IMAGENET_CLASSES, train=2, val=1)


def write_few_classes(folder: Path) -> None:
    """Ten classes with 16 training images and five of val each, for the tasks that need more of them; factors.csv."""
    write_folders(folder, FEW_CLASSES, train=16, val=5)
    lines = ["image,brightness,place"]
    for number, path in enumerate(sorted(folder.glob("*/*/*.JPEG"))):
        with Image.open(path) as picture:
            level = float(np.asarray(picture).mean())
        lines.append(f"{path.relative_to(folder).as_posix()},{level:.2f},{'indoors' if number % 2 else 'outdoors'}")
    (folder / "factors.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")


for _name, _title, _layouts, _write, _more in (
    ("imagenet", "ImageNet, 1,000 folders", ("imagenet",), write_imagenet, ()),
    ("folders", "ten folders of 16 images", ("imagenet",), write_few_classes, ("--factors", f"{RAW}/factors.csv")),
    ("voc", "VOC2007 and VOC2012, 20 classes", ("voc",), write_voc, ()),
    ("coco", "COCO 2017, 80 categories", ("coco",), write_coco, ()),
    ("keypoints", "COCO 2017 with its person keypoints", ("coco", "keypoints"), raw_sets.coco_with_keypoints, ()),
    ("cityscapes", "Cityscapes, fine annotations", ("cityscapes",), raw_sets.cityscapes, ()),
    ("lvis", "LVIS v1 on COCO's images", ("lvis",), raw_sets.lvis, ()),
):
    _words = (LAYOUTS[_layouts[0]].prepare, *_more)
    add(Miniature(name=_name, title=_title, layouts=_layouts, prepare=_words, write=_write))
