"""Draws a data root's contact sheet: classification images by class, scenes with boxes, class names and masks.

python -m benchmarks sheet results/data/emoji-smoke [-o sheet.png]
"""

from __future__ import annotations

import argparse
import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

from benchmarks.datasets.checks import images_under
from benchmarks.datasets.layout import DataRoot
from benchmarks.datasets.vocxml import read_xml
from pretrain.errors import run_cli
from pretrain.files import replacing, results_dir

WIDTH = 1800  # pixels of the whole sheet
GAP = 12
TILE = 84
SCENE = 286
MOST_CLASSES = 20
MOST_SCENES = 12

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One object to draw: class name, box (left, top, right, bottom) with exclusive ends, mask (H, W) bool or None."""

    name: str
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None
    note: str = ""


def main(argv: list[str]) -> int:
    """Draw the sheet and print its path."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sheet", description="contact sheet of a data root")
    parser.add_argument("root", type=Path, help="folder with a data.json")
    parser.add_argument("-o", "--output", type=Path, help="PNG to write (default: results/sheets/<name>.png)")
    arguments = parser.parse_args(argv)
    root = DataRoot.load(arguments.root)
    output = arguments.output or results_dir() / "sheets" / f"{root.name}.png"
    picture = draw_sheet(root)
    with replacing(output) as temporary:
        picture.save(temporary, "PNG")
    print(output)
    return 0


def draw_sheet(root: DataRoot) -> Image.Image:
    """The sheet: a heading, then one band for each layout that the root has."""
    bands = [heading(root.name, 26), heading(root.description, 17)]
    if "imagenet" in root.sections:
        bands += [heading(f"imagenet: classification images, {counts(root, 'imagenet')}", 19), classification(root)]
    if "voc" in root.sections:
        bands += [heading(f"voc: boxes, {counts(root, 'voc')} (T truncated, D difficult)", 19), *grid(voc_scenes(root))]
    if "coco" in root.sections:
        bands += [heading(f"coco: boxes and masks, {counts(root, 'coco')}", 19), *grid(coco_scenes(root))]
    sheet = Image.new("RGB", (WIDTH, sum(band.height for band in bands) + GAP * (len(bands) + 1)), "white")
    top = GAP
    for band in bands:
        sheet.paste(band, (GAP, top))
        top += band.height + GAP
    return sheet


def font(size: int) -> Font:
    """Pillow's own font: the sheet looks the same on every machine."""
    return ImageFont.load_default(size)


def fitting(text: str, size: int, width: float) -> str:
    """``text``, cut with an ellipsis where it is wider than ``width`` pixels."""
    while len(text) > 1 and font(size).getlength(text) > width:
        text = text.rstrip("…")[:-1] + "…"
    return text


def heading(text: str, size: int) -> Image.Image:
    """A line of text over the sheet's width."""
    band = Image.new("RGB", (WIDTH - 2 * GAP, size + 8), "white")
    ImageDraw.Draw(band).text((0, 2), fitting(text, size, band.width), fill="black", font=font(size))
    return band


def counts(root: DataRoot, kind: str) -> str:
    """The section's counts in words: "train 400, val 200"."""
    parts = []
    for split, value in root.section(kind)["counts"].items():
        several = value if isinstance(value, dict) else {"images": value}
        parts.append(f"{split} " + ", ".join(f"{number:,} {what}" for what, number in several.items()))
    return "; ".join(parts)


def tile(path: Path, side: int) -> Image.Image:
    """The image at ``path``, fitted into a white square of ``side`` pixels."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((side, side))
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def classification(root: DataRoot) -> Image.Image:
    """A row of training images for each of the first classes, in two columns, the class name before each row."""
    classes = root.section("imagenet")["classes"][:MOST_CLASSES]
    label, column = 130, (WIDTH - 2 * GAP) // 2
    each, rows = (column - label) // (TILE + 4), -(-len(classes) // 2)
    band = Image.new("RGB", (WIDTH - 2 * GAP, rows * (TILE + 4)), "white")
    pen = ImageDraw.Draw(band)
    for place, name in enumerate(classes):
        left, top = place // rows * column, place % rows * (TILE + 4)
        pen.text((left, top + TILE // 2 - 9), fitting(name, 16, label - 8), fill="black", font=font(16))
        files = images_under(root.folder("imagenet") / "train" / name)
        for number, path in enumerate(files[:each]):
            band.paste(tile(path, TILE), (left + label + number * (TILE + 4), top))
    return band


def voc_scenes(root: DataRoot) -> list[tuple[Path, list[Marked]]]:
    """Pictures and objects of the first test images of the VOC layout."""
    folder, image_set = root.section("voc")["test"][0]
    devkit = root.folder("voc") / folder
    scenes = []
    for name in (devkit / "ImageSets" / "Main" / f"{image_set}.txt").read_text(encoding="utf-8").split()[:MOST_SCENES]:
        objects = []
        for one in read_xml(devkit / "Annotations" / f"{name}.xml").objects:
            left, top, right, bottom = one.box
            note = " T" * one.truncated + " D" * one.difficult
            objects.append(Marked(name=one.name, box=(left - 1, top - 1, right, bottom), note=note))
        scenes.append((devkit / "JPEGImages" / f"{name}.jpg", objects))
    return scenes


def coco_scenes(root: DataRoot) -> list[tuple[Path, list[Marked]]]:
    """Pictures and objects of the first validation images of the COCO layout, those with a crowd first."""
    folder = root.folder("coco")
    stored = json.loads((folder / "annotations" / "instances_val2017.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in stored["categories"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for one in stored["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    crowded = {one["image_id"] for one in stored["annotations"] if one.get("iscrowd")}
    images = sorted(stored["images"], key=lambda image: image["id"] not in crowded)[:MOST_SCENES]
    scenes = []
    for image in images:
        objects = []
        for one in by_image.get(image["id"], []):
            x, y, width, height = one["bbox"]
            mask = decoded(one.get("segmentation"), image["height"], image["width"])
            note = " (crowd)" if one.get("iscrowd") else ""
            objects.append(
                Marked(name=names[one["category_id"]], box=(x, y, x + width, y + height), mask=mask, note=note)
            )
        scenes.append((folder / "val2017" / image["file_name"], objects))
    return scenes


def decoded(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """COCO's polygons or RLE as (height, width) bool; None where there is no mask."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return np.asarray(rle.decode(segmentation)) > 0
    codes = rle.frPyObjects(segmentation, height, width)
    return np.asarray(rle.decode(rle.merge(codes) if isinstance(codes, list) else codes)) > 0


def grid(scenes: Sequence[tuple[Path, list[Marked]]]) -> list[Image.Image]:
    """The marked scenes in rows of six."""
    across = WIDTH // (SCENE + GAP)
    rows = []
    for start in range(0, len(scenes), across):
        row = Image.new("RGB", (WIDTH - 2 * GAP, SCENE), "white")
        for place, (path, objects) in enumerate(scenes[start : start + across]):
            row.paste(marked(path, objects), (place * (SCENE + GAP), 0))
        rows.append(row)
    return rows


def marked(path: Path, objects: list[Marked]) -> Image.Image:
    """One scene, enlarged to SCENE pixels: masks tinted, boxes outlined, names on plates that do not overlap."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    ratio = SCENE / max(picture.size)
    size = (round(picture.width * ratio), round(picture.height * ratio))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    colours = [colour(place) for place in range(len(objects))]
    for one, tint in zip(objects, colours, strict=True):
        if one.mask is not None:
            mask = Image.fromarray(one.mask.astype(np.uint8) * 110).resize(size, Image.Resampling.BILINEAR)
            picture.paste(Image.new("RGB", size, tint), (0, 0), mask)
    pen = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for one, tint in zip(objects, colours, strict=True):
        pen.rectangle([value * ratio for value in one.box], outline=tint, width=2)
    for one, tint in zip(objects, colours, strict=True):
        plate = free_plate(one, ratio, size, taken)
        taken.append(plate)
        pen.rectangle(plate, fill=tint)
        pen.text((plate[0] + 3, plate[1]), one.name + one.note, fill="white", font=font(13))
    return picture


def colour(place: int) -> tuple[int, int, int]:
    """A dark, saturated colour, far from those of the neighbouring numbers; white text reads on it."""
    red, green, blue = colorsys.hsv_to_rgb(place * 0.382 % 1, 0.85, 0.68)
    return round(red * 255), round(green * 255), round(blue * 255)


def free_plate(
    one: Marked, ratio: float, size: tuple[int, int], taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """Where the name of ``one`` goes: at its box's top left corner, moved down until it covers no other name."""
    width, height = font(13).getlength(one.name + one.note) + 6, 17.0
    left = max(0.0, min(one.box[0] * ratio, size[0] - width))
    start = max(0.0, min(one.box[1] * ratio, size[1] - height))
    tops = [start + step * height / 2 for step in range(40)] + [start - step * height / 2 for step in range(40)]
    for top in tops:
        plate = (left, top, left + width, top + height)
        clear = all(plate[2] < a or c < plate[0] or plate[3] < b or d < plate[1] for a, b, c, d in taken)
        if 0 <= top <= size[1] - height and clear:
            return plate
    return (left, start, left + width, start + height)


if __name__ == "__main__":
    run_cli(main)
