"""Contact sheets of a detection run: crops of each class's best right and wrong detections, and its missed objects.

Only the images of the crops are read. A crop is the box with half its side around it; the box is outlined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.data.pictures import GAP, GROUND, WIDTH, Colour, fitting, heading, pixels_of
from benchmarks.report.detected import Tested
from benchmarks.report.detection_images import RIGHT, WRONG, shown_finder
from benchmarks.report.show_classification import BETWEEN, GREY, lettered, scored
from transfer.detection.evaluation.kinds import BACKGROUND, BOTH, CLASS, KINDS
from transfer.detection.evaluation.matches import FALSE, TRUE

BLOCK = (WIDTH - 2 * GAP - 4 * GAP) // 3
ACROSS = 5  # crops of a block, in a sheet of several classes
TILE = (BLOCK + BETWEEN) // ACROSS - BETWEEN
PAGE = 20  # classes of a sheet
LARGE, LARGE_ACROSS, LARGE_ROWS = 210, 8, 3  # of the sheet of one class
AROUND = 0.5  # of the box's longer side, in all
SMALLEST = 24  # pixels of the image that a crop has at least

SECTIONS = ("right, the highest scores", "wrong, the highest scores", "missed, the largest objects")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
    """A box of the image at ``place``, and two lines below it."""

    place: int
    box: tuple[float, float, float, float]
    colour: Colour
    lines: tuple[str, str]


def sheets(tested: Tested) -> list[list[Image.Image]]:
    """The bands of each sheet, PAGE classes on each, those with most objects first."""
    sizes = [len(tested.measures["bbox"].objects(number)) for number in range(len(tested.classes))]
    order = sorted(range(len(sizes)), key=lambda number: (-sizes[number], number))
    found = shown_finder(tested)
    bands: list[list[Image.Image]] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(order), PAGE):
            page = [_about(tested)]
            for number in order[start : start + PAGE]:
                crops = [crops_of(tested, number, section, ACROSS, found) for section in range(3)]
                tiles = list(pool.map(lambda one: _tile(tested, one, TILE), [one for some in crops for one in some]))
                page += [heading(_title(tested, number, found), 18), _columns([len(some) for some in crops], tiles)]
            bands.append(page)
    return bands


def sheet(tested: Tested, number: int) -> list[Image.Image]:
    """The bands of one class's own sheet, with more and larger crops."""
    found = shown_finder(tested)
    bands = [_about(tested), heading(_title(tested, number, found), 20)]
    for section, title in enumerate(SECTIONS):
        crops = crops_of(tested, number, section, LARGE_ACROSS * LARGE_ROWS, found)
        tiles = [_tile(tested, one, LARGE) for one in crops]
        bands.append(heading(title.capitalize() + ("" if tiles else ": none"), 17))
        for start in range(0, len(tiles), LARGE_ACROSS):
            bands.append(_row(tiles[start : start + LARGE_ACROSS], WIDTH - 2 * GAP))
    return bands


def _about(tested: Tested) -> Image.Image:
    kinds = "kinds of wrong ones at IoU 0.5: duplicate, location, class, both (class and location), background"
    score = f"found and missed at a score of {tested.measures['bbox'].score:.2f}, where F1 is highest"
    return heading(f"By boxes; {score}; {kinds}", 15)


def _title(tested: Tested, number: int, found: np.ndarray) -> str:
    measured = tested.measures["bbox"]
    objects, ranked = measured.objects(number), measured.ranked(number)
    shown = ranked[measured.matches.score[ranked] >= measured.score]
    wrong = int((measured.matches.outcome[0, shown, 0] == FALSE).sum())
    aps = measured.aps[number]
    ap = "no AP without an object" if np.isnan(aps[0]) else f"AP {aps.mean():.1f}, AP50 {aps[0]:.1f}"
    counts = f"{len(objects):,} objects, {found[objects].sum():,} found, {wrong:,} wrong detections"
    return f"{fitting(tested.classes[number], 18, WIDTH * 0.4)}: {counts}, {ap}"


def crops_of(tested: Tested, number: int, section: int, count: int, found: np.ndarray) -> list[Crop]:
    """At most ``count`` crops of class ``number`` for one of SECTIONS; ``found`` of ``shown_finder``."""
    measured = tested.measures["bbox"]
    if section == 2:
        missed = [one for one in measured.objects(number).tolist() if not found[one]]
        missed.sort(key=lambda one: -_area(tested.objects[one].box))
        return [_missed(tested, one) for one in missed[:count]]
    ranked = measured.ranked(number)
    some = ranked[measured.matches.outcome[0, ranked, 0] == (TRUE, FALSE)[section]][:count]
    return [_detected(tested, one) for one in some.tolist()]


def _missed(tested: Tested, one: int) -> Crop:
    left, top, right, bottom = tested.objects[one].box
    measured = tested.measures["bbox"]
    finder = measured.finder[one]
    # A detection below the score may have found it.
    below = f"found at {measured.matches.score[finder]:.2f}" if finder >= 0 else "never found"
    return Crop(
        place=int(tested.place[one]),
        box=(left, top, right, bottom),
        colour=WRONG,
        lines=(f"{right - left:.0f} × {bottom - top:.0f} px", below),
    )


def _detected(tested: Tested, one: int) -> Crop:
    measured = tested.measures["bbox"]
    kind, meant, score = int(measured.kind[one]), int(measured.meant[one]), f"{tested.detections.score[one]:.2f}"
    right = kind < 0
    lines = (score, "")
    if not right:
        word = "both" if kind == BOTH else KINDS[kind]
        lines = (f"{word} {score}", f"is {tested.objects[meant].name}" if kind in (CLASS, BOTH) and meant >= 0 else "")
        lines = (lines[0], "no object" if kind == BACKGROUND else lines[1])
    place = int(measured.matches.image[one])
    return Crop(place=place, box=tested.box(one), colour=RIGHT if right else WRONG, lines=lines)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _tile(tested: Tested, crop: Crop, side: int) -> Image.Image:
    """The crop in a square of ``side`` pixels, its box outlined, its lines below. InputError as for ``pixels_of``."""
    pixels = Image.fromarray(pixels_of(tested.images[crop.place]))
    left, top, right, bottom = crop.box
    whole = max(SMALLEST, (1 + AROUND) * max(right - left, bottom - top))
    corner = ((left + right - whole) / 2, (top + bottom - whole) / 2)
    ratio = side / whole
    # Only the part that is in the image is scaled; the rest stays grey.
    part = [max(0, int(corner[0])), max(0, int(corner[1]))]
    ends = [min(pixels.width, int(corner[0] + whole) + 1), min(pixels.height, int(corner[1] + whole) + 1)]
    square = Image.new("RGB", (side, side), GROUND)
    if ends[0] > part[0] and ends[1] > part[1]:
        size = tuple(max(1, round((end - start) * ratio)) for start, end in zip(part, ends, strict=True))
        scaled = pixels.crop((*part, *ends)).resize(size, Image.Resampling.LANCZOS)  # type: ignore[arg-type]
        square.paste(scaled, tuple(round((start - at) * ratio) for start, at in zip(part, corner, strict=True)))  # type: ignore[arg-type]
    pen = ImageDraw.Draw(square)
    box = [round((value - corner[axis % 2]) * ratio) for axis, value in enumerate(crop.box)]
    low, high = (box[0], box[1]), (max(box[2], box[0] + 2), max(box[3], box[1] + 2))
    pen.rectangle((low[0] - 2, low[1] - 2, high[0] + 1, high[1] + 1), outline="white")
    pen.rectangle((low[0] - 1, low[1] - 1, *high), outline=crop.colour, width=2)
    name, _, number = crop.lines[0].rpartition(" ")
    first = scored(name, f" {number}", side) if name else number
    return lettered(square, [(first, crop.colour), (crop.lines[1], GREY)])


def _row(tiles: Sequence[Image.Image], width: int) -> Image.Image:
    band = Image.new("RGB", (width, max((one.height for one in tiles), default=1)), "white")
    for place, one in enumerate(tiles):
        band.paste(one, (place * (one.width + BETWEEN), 0))
    return band


def _columns(counts: Sequence[int], tiles: Sequence[Image.Image]) -> Image.Image:
    """The tiles in three blocks beside each other, each below its title."""
    parts, start = [], 0
    for count, title in zip(counts, SECTIONS, strict=True):
        some, start = tiles[start : start + count], start + count
        line = heading(title if count else f"{title}: none", 14, BLOCK)
        part = Image.new("RGB", (BLOCK, line.height + max((one.height for one in some), default=1)), "white")
        part.paste(line)
        part.paste(_row(some, BLOCK), (0, line.height))
        parts.append(part)
    whole = Image.new("RGB", (WIDTH - 2 * GAP, max(one.height for one in parts)), "white")
    for place, part in enumerate(parts):
        whole.paste(part, (place * (BLOCK + 2 * GAP), 0))
    return whole
