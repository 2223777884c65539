"""Draw images with their objects as detectron2 reads them; sheet.py and show.py arrange the drawings.

    python -c "from benchmarks.data.root import DataRoot; from benchmarks.data.pictures import truths;
    print(truths(DataRoot.load('results/data/emoji-smoke'), 'voc')['test'][0])"

Boxes are (left, top, right, bottom) in pixels of the image, 0-based with exclusive ends. Neither library's drawing
serves: detectron2's needs OpenCV, torchvision's writes every name inside its box, where it hides a small object.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from detectron2.structures.masks import polygons_to_bitmask
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle
from skimage.color import lab2rgb

from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.registration import records_of, register
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError
from pretrain.common.files import replacing

WIDTH = 1800  # pixels of a whole picture
GAP = 12
EDGE = 3  # pixels around an image in its panel, so that an outline at its border is visible
GROUND = (236, 236, 236)
TINT = 0.45  # opacity of a mask
MANY = 60  # objects in an image; beyond it all outlines are thin
COVERED = 0.15  # fraction of an object that a name may hide
# DejaVu comes with matplotlib: pictures look the same on every machine, and it has more scripts than Pillow's own font.
FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))

Item = TypeVar("Item")
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One object to draw. ``ignored``: the evaluator counts it neither as found nor as missed (crowd, difficult)."""

    name: str
    """Of the class."""
    box: tuple[float, float, float, float]
    segmentation: Any = None
    """COCO's polygons or compressed RLE; None if there is no mask."""
    ignored: bool = False
    note: str = ""
    """Written after the name."""
    colour: Colour | None = None
    """Of outline, mask and name; None: its class's."""

    def colour_among(self, colours: Mapping[str, Colour]) -> Colour:
        """Its own colour, or its class's of ``colours``."""
        return self.colour or colours[self.name]


def truths(root: DataRoot, kind: str) -> dict[str, list[dict[str, Any]]]:
    """detectron2's dataset dicts of the detection layout ``kind`` by split, under the split's own name.

    InputError if the root is not as ``prepare`` wrote it.
    """
    root.check_unchanged()
    try:
        data = register(root, kind)
        return {"train": records_of(data.train), LAYOUTS[kind].test: records_of(data.test)}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the readers raise any error on an edited file
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise InputError(f"{root.folder(kind)} cannot be read ({reason:.200}): prepare it again") from None


def objects_of(image: Mapping[str, Any], classes: Sequence[str]) -> list[Marked]:
    """The true objects of one dataset dict, with T truncated, D difficult and crowd as notes."""
    return [
        Marked(
            name=classes[one["category_id"]],
            box=tuple(BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS)),
            segmentation=one.get("segmentation"),
            ignored=bool(one.get("iscrowd") or one.get("difficult")),
            note="".join(f" {word}" for key, word in NOTES.items() if one.get(key)),
        )
        for one in image["annotations"]
    ]


NOTES = {"truncated": "T", "difficult": "D", "iscrowd": "crowd"}


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of the items, or all if there are fewer, evenly spread: neighbours are often alike."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of every text; ``size`` in pixels."""
    return ImageFont.truetype(FONT, size)


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(FONT).get_charmap())


def fitting(text: str, size: int, width: float) -> str:
    """``text`` in one line of at most ``width`` pixels, cut with an ellipsis; missing glyphs become \\u…."""
    kept = " ".join(text[: int(width) + 1].split())
    line = "".join(
        letter if letter.isprintable() and ord(letter) in _glyphs() else letter.encode("unicode_escape").decode()
        for letter in kept
    )
    if font(size).getlength(line) <= width:
        return line
    longest = bisect.bisect_right(
        range(1, len(line)), width, key=lambda end: font(size).getlength(line[:end].rstrip() + "…")
    )
    return line[:longest].rstrip() + "…"


def colours_of(root: DataRoot) -> dict[str, Colour]:
    """A colour for each class name of the root, the same in every layout and picture, dark enough for white text."""
    names = dict.fromkeys(name for section in root.sections.values() for name in section["classes"])
    place = np.arange(len(names))
    hue = 2 * np.pi * (0.352 * place + 0.11)  # of the steps tried, the one that keeps 30 colours most distinct
    lab = np.stack([np.where(place % 2, 36, 50), 60 * np.cos(hue), 60 * np.sin(hue)], axis=-1)
    return {
        name: tuple(rgb) for name, rgb in zip(names, (lab2rgb(lab) * 255).round().astype(int).tolist(), strict=True)
    }


def heading(text: str, size: int, width: int = WIDTH - 2 * GAP) -> Image.Image:
    """A line of text, ``width`` pixels wide, letters of ``size`` pixels."""
    band = Image.new("RGB", (width, round(size * 1.8)), "white")
    ImageDraw.Draw(band).text((0, size * 0.5), fitting(text, size, width), fill="black", font=font(size))
    return band


def legend(colours: Mapping[str, Colour], used: Iterable[str], width: int = WIDTH - 2 * GAP) -> Image.Image:
    """The colours and names of the classes ``used``, as many as fit three lines."""
    size, line, lines = 15, 24, 3
    band = Image.new("RGB", (width, lines * line), "white")
    wanted = set(used)
    pen, left, top, shown = ImageDraw.Draw(band), 0.0, 0, [name for name in colours if name in wanted]
    for place, name in enumerate(shown):
        text, rest = fitting(name, size, 300), f"and {len(shown) - place:,} more"
        needed, reserve = 40 + font(size).getlength(text), font(size).getlength(rest)
        last = top + line == band.height
        if left + needed + reserve * (last and place + 1 < len(shown)) > width:
            if last:
                pen.text((left, top), rest, fill="black", font=font(size))
                break
            left, top = 0.0, top + line
        pen.rectangle((left, top + 2, left + 15, top + 17), fill=colours[name])
        pen.text((left + 21, top), text, fill="black", font=font(size))
        left += needed
    return band.crop((0, 0, width, top + line))


def stack(bands: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """The bands below each other on white, with a margin of GAP pixels."""
    width, height = max(band.width for band in bands), sum(band.height + gap for band in bands) - gap
    picture = Image.new("RGB", (width + 2 * GAP, height + 2 * GAP), "white")
    top = GAP
    for band in bands:
        picture.paste(band, (GAP, top))
        top += band.height + gap
    return picture


def rows(panels: Sequence[Image.Image], across: int, gap: int = GAP) -> list[Image.Image]:
    """The panels, all of one size, in bands of ``across``."""
    bands = []
    for start in range(0, len(panels), across):
        some = panels[start : start + across]
        band = Image.new("RGB", (sum(one.width + gap for one in some) - gap, some[0].height), "white")
        for place, one in enumerate(some):
            band.paste(one, (place * (one.width + gap), 0))
        bands.append(band)
    return bands


def captioned(panel: Image.Image, text: str, size: int = 13) -> Image.Image:
    """The panel with a line of text below it, letters of ``size`` pixels."""
    line = heading(text, size, panel.width)
    whole = Image.new("RGB", (panel.width, panel.height + line.height), "white")
    whole.paste(line, (0, panel.height - 4))
    whole.paste(panel)
    return whole


def panel(image: Mapping[str, Any], objects: Sequence[Marked], colours: Mapping[str, Colour], side: int) -> Image.Image:
    """One image in a square of ``side`` pixels: masks tinted, boxes outlined, names where they hide nothing.

    ``image`` is a dataset dict. It is read as in training, turned as its EXIF orientation says. InputError if it
    cannot be read or has another size than its annotation says.
    """
    pixels = pixels_of(image)
    ratio = (side - 2 * EDGE) / max(pixels.shape[:2])
    height, width = (max(1, round(length * ratio)) for length in pixels.shape[:2])
    picture = np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    for one in objects:
        if one.segmentation is not None:
            mask = mask_of(one.segmentation, image, height, width)
            picture[mask] = (1 - TINT) * picture[mask] + TINT * np.array(one.colour_among(colours))
    square = Image.new("RGB", (side, side), GROUND)
    corner = ((side - width) // 2, (side - height) // 2)
    square.paste(Image.fromarray(picture), corner)
    pen = ImageDraw.Draw(square)
    boxes = np.array([one.box for one in objects]).reshape(-1, 4) * ratio + np.tile(corner, 2)
    for one, box in zip(objects, boxes.round().astype(int).tolist(), strict=True):
        # Around the object's pixels, not on them; a white line parts the outline from a ground of its own colour.
        left, top, right, bottom = box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)
        thin = one.ignored or len(objects) > MANY
        if not thin:
            pen.rectangle((left - 3, top - 3, right + 2, bottom + 2), outline="white")
            pen.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=one.colour_among(colours))
        pen.rectangle((left - 1, top - 1, right, bottom), outline=one.colour_among(colours))
    texts = [fitting(one.name, 13, side * 0.4) + one.note for one in objects]
    for one, text, plate in zip(objects, texts, plates(boxes, texts, side), strict=True):
        if plate:
            pen.rectangle(plate, fill=one.colour_among(colours))
            pen.text((plate[0] + 3, plate[1]), text, fill="white", font=font(13))
    return square


def pixels_of(image: Mapping[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a dataset dict's file, by detectron2's reader. InputError as for ``panel``."""
    try:
        if not Path(image["file_name"]).is_file():  # opening a pipe would block
            raise OSError("no such file")
        pixels = np.asarray(read_image(image["file_name"], "RGB"))
    except MemoryError:
        raise
    except Exception as error:  # PIL's plugins raise any error on a broken file
        reason = str(error).replace("\n", " ")
        raise InputError(f"cannot read image {image['file_name']} ({reason}): repair it or prepare again") from None
    stated, true = (image["width"], image["height"]), pixels.shape[1::-1]
    if stated != true:
        sizes = f"{true[0]} × {true[1]} pixels where its annotation says {stated[0]} × {stated[1]}"
        raise InputError(f"image {image['file_name']} has {sizes}: prepare it again")
    return pixels


def mask_of(segmentation: Any, image: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """A mask of ``image``, scaled to (height, width) bool. InputError if it cannot be decoded."""
    if isinstance(segmentation, list):
        scale = (width / image["width"], height / image["height"])
        scaled = [(np.reshape(one, (-1, 2)) * scale).ravel() for one in segmentation]
        return np.asarray(polygons_to_bitmask(scaled, height, width))
    try:
        whole = np.asarray(rle.decode(segmentation)) > 0
    except (ValueError, TypeError) as error:
        raise InputError(f"a mask of {image['file_name']} cannot be decoded ({error}): prepare or run again") from None
    down, right = (np.arange(new) * old // new for new, old in zip((height, width), whole.shape, strict=True))
    return whole[np.ix_(down, right)]


def plates(boxes: np.ndarray, texts: Sequence[str], side: int) -> list[tuple[float, float, float, float] | None]:
    """The place of each text beside or in its box; None if it would cover another or too much of an object."""
    areas = np.maximum(1, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    height, taken, chosen = 16, np.empty((0, 4)), []
    for (left, top, right, bottom), text in zip(boxes, texts, strict=True):
        width = font(13).getlength(text) + 6
        above, below = top - height - 2, bottom + 2
        lefts = np.array([left - 2, left - 2, right + 2, left - width - 2, right - width, right - width, left, left])
        tops = np.array([above, below, top, top, above, below, top, bottom - height])
        lefts = lefts.clip(0, max(0, side - width))
        corners = np.stack([lefts, tops, lefts + width, tops + height], axis=1)
        share = (shared(corners, boxes) / areas).max(axis=1)
        outside = (tops < 0) | (tops > side - height) | (width > side)
        share[outside | (shared(corners, taken) > 0).any(axis=1)] = np.inf
        best = share.argmin()
        chosen.append(tuple(corners[best].tolist()) if share[best] <= COVERED else None)
        if chosen[-1]:
            taken = np.vstack([taken, corners[best]])
    return chosen


def shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels that boxes ``a`` (N, 4) share with boxes ``b`` (M, 4), as (N, M)."""
    ends = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return ends.clip(0).prod(axis=2)


def save(picture: Image.Image, output: Path) -> None:
    """Write a PNG atomically. InputError where ``output`` is a folder."""
    if output.is_dir():
        raise InputError(f"{output} is a folder: name the PNG to write")
    with replacing(output) as temporary:
        picture.save(temporary, "PNG")
