"""A classifier's mistakes for show.py: confused classes, worst images, nearest neighbours; of several labels per image
the worst false positives and misses of each class.

Neighbours are those of the checkpoint's frozen features, also of a run that fine-tuned it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from benchmarks.data.pictures import (
    GAP,
    GROUND,
    WIDTH,
    Colour,
    fitting,
    font,
    heading,
    objects_of,
    rows,
    spread,
    truths,
)
from benchmarks.data.root import DataRoot
from benchmarks.predictions import FILE, Predictions, load_predictions
from benchmarks.records import RunRecord
from benchmarks.report import mistakes
from benchmarks.report.neighbours import Neighbours, neighbours_of
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute.features import labelled_images
from pretrain.common.errors import InputError
from pretrain.data import decode

BLOCK = (WIDTH - 3 * GAP) // 2  # pixels of a block's width; two beside each other
TILE, BETWEEN = 116, 6  # pixels of a small image, and between two
MISTAKEN, BESIDE = 4, 3  # images of a confused pair: mistakes, and training images of the class they were taken for
WORST_ACROSS, WORST_ROWS = 8, 2
NEIGHBOURS = 6
CLASSES = 20  # of several labels: at most, those with most mistakes
LINE = 17  # pixels of a line of 13
GREY, GREEN, RED = (90, 90, 90), (27, 120, 55), (190, 35, 35)

Line = tuple[str, Colour]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """The test images with a run's predictions on them, and the names of the classes."""

    images: Sequence[Path]
    classes: Sequence[str]
    found: Predictions

    def score(self, row: int) -> str:
        """`` 0.98``, the confidence of image ``row``; empty where the run kept none."""
        return f" {self.found.confidence[row]:.2f}" if self.found.confidence is not None else ""


def bands(record: RunRecord, root: DataRoot, folder: Path, count: int) -> list[Image.Image]:
    """The picture of the predictions in ``folder``, below its title. InputError if it cannot be drawn."""
    task = TASKS[record.spec.task]
    if not (folder / FILE).is_file():
        raise InputError(
            f"{folder} has no {FILE}: the task {task.name} keeps none, or the run is of an earlier version "
            "(run it again with --rerun always)"
        )
    root.check_unchanged()
    found, classes = load_predictions(folder), root.section(task.layout)["classes"]
    images, labels = labelled_images(root, "val") if task.layout == "imagenet" else scenes(root, task.layout, found)
    try:
        mistakes.check(found, labels, len(classes))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{folder / FILE} is damaged or of other images ({error}): run again with --rerun always"
        ) from None
    tested = Tested(images=images, classes=classes, found=found)
    if found.scores is not None:
        return several_labels(tested)
    wrong = int((~found.correct).sum())
    score = "; numbers are scores of the predicted class" if found.confidence is not None else ""
    tests = f"{len(images):,} test images of {len(classes):,} classes"
    counted = f"{tests}, {wrong:,} wrong ({wrong / len(images):.1%})"
    drawn = [heading(f"{counted}{score}", 15)]
    if wrong:
        training = labelled_images(root, "train")
        drawn += [*confused_classes(tested, training, count), *worst_images(tested)]
    return [*drawn, *nearest_images(tested, neighbours_of(record, root, found, count))]


def scenes(root: DataRoot, layout: str, found: Predictions) -> tuple[list[Path], np.ndarray]:
    """The test images of a detection layout and their labels N×C as ``mistakes.check`` wants them.

    Tasks order VOC's images as in its lists or by year and id, and some leave out all years but 2007: of these orders
    the first that agrees with the target of ``found``.
    """
    classes = root.section(layout)["classes"]
    *_, test = truths(root, layout).values()
    images, labels = [Path(image["file_name"]) for image in test], np.zeros((len(test), len(classes)), dtype=int)
    for row, image in enumerate(test):
        for one in objects_of(image, classes):
            column = classes.index(one.name)
            labels[row, column] = 1 if not one.ignored else labels[row, column] or -1
    listed = list(range(len(images)))
    by_id = sorted(listed, key=lambda row: (images[row].parts[-3:-2], images[row].stem))
    orders = [order for every in (listed, by_id) for order in (every, [row for row in every if _is_2007(images[row])])]
    for order in orders:
        try:
            mistakes.check(found, labels[order], len(classes))
        except (ValueError, AttributeError, TypeError):
            continue
        return [images[row] for row in order], labels[order]
    return images, labels


def _is_2007(image: Path) -> bool:
    return "VOC2007" in image.parts


def tile(path: Path, side: int, colour: Colour | None = None) -> Image.Image:
    """The image in a square of ``side`` pixels, with a border of ``colour``. InputError if it cannot be read."""
    edge = 4 if colour else 0
    inner = ImageOps.pad(decode(path), (side - 2 * edge,) * 2, Image.Resampling.LANCZOS, color=GROUND)
    return ImageOps.expand(inner, edge, colour) if colour else inner


def lettered(panel: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """The panel with lines of text below it, each cut to its width."""
    whole = Image.new("RGB", (panel.width, panel.height + LINE * len(lines) + 3), "white")
    whole.paste(panel)
    pen = ImageDraw.Draw(whole)
    for place, (text, colour) in enumerate(lines):
        pen.text((0, panel.height + 1 + LINE * place), fitting(text, 13, panel.width), fill=colour, font=font(13))
    return whole


def scored(name: str, score: str, width: int) -> str:
    """``name score`` in ``width`` pixels, the name cut and not the score."""
    return fitting(name, 13, max(10, width - font(13).getlength(score))) + score


def block(title: str, parts: Sequence[tuple[int, Image.Image]]) -> Image.Image:
    """A block of two beside each other: a title over panels, each at its distance from the left."""
    line = heading(title, 16, BLOCK)
    whole = Image.new("RGB", (BLOCK, line.height + max((part.height for _, part in parts), default=LINE)), "white")
    whole.paste(line)
    for left, part in parts:
        whole.paste(part, (left, line.height))
    return whole


def padded(blocks: Sequence[Image.Image]) -> list[Image.Image]:
    """Bands of two blocks, all of the height of the highest."""
    height = max((one.height for one in blocks), default=0)
    same = []
    for one in blocks:
        whole = Image.new("RGB", (one.width, height), "white")
        whole.paste(one)
        same.append(whole)
    return rows(same, 2)


def confused_classes(tested: Tested, training: tuple[Sequence[Path], np.ndarray], count: int) -> list[Image.Image]:
    """A block for each of the pairs of classes that are confused most."""
    pairs, (images, labels) = mistakes.confused(tested.found, count), training
    blocks = []
    for pair in pairs:
        truth, predicted = (tested.classes[label] for label in (pair.truth, pair.predicted))
        names = " → ".join(fitting(name, 16, BLOCK * 0.34) for name in (truth, predicted))
        wrong = [
            lettered(tile(tested.images[row], TILE, RED), [(tested.score(row).strip(), RED)])
            for row in pair.rows[:MISTAKEN].tolist()
        ]
        same = spread(np.flatnonzero(labels == pair.predicted).tolist(), BESIDE)
        parts = [(0, band) for band in rows(wrong, MISTAKEN, BETWEEN)]
        for band in rows([tile(images[row], TILE) for row in same], BESIDE, BETWEEN):
            at = MISTAKEN * (TILE + BETWEEN) + 2 * GAP
            parts.append((at, lettered(band, [(f"training images of {predicted}", GREY)])))
        title = f"{names}: {len(pair.rows):,} of {pair.of:,} ({len(pair.rows) / pair.of:.1%})"
        blocks.append(block(title, parts))
    told = "true class → prediction: images of the true class taken for the other, the most confident first"
    return [
        heading("Most confused classes", 20),
        heading(f"{told}; beside them training images of the other", 14),
        *padded(blocks),
    ]


def worst_images(tested: Tested) -> list[Image.Image]:
    """The wrong images with the highest confidence."""
    side = (WIDTH - 2 * GAP - (WORST_ACROSS - 1) * GAP) // WORST_ACROSS
    panels = []
    for row in mistakes.worst(tested.found, WORST_ACROSS * WORST_ROWS).tolist():
        assert tested.found.predicted is not None
        truth, predicted = (
            tested.classes[int(labels[row])] for labels in (tested.found.target, tested.found.predicted)
        )
        lines = [(f"is {truth}", GREEN), (scored(f"called {predicted}", tested.score(row), side), RED)]
        panels.append(lettered(tile(tested.images[row], side), lines))
    kept = tested.found.confidence is not None
    return [
        heading("Worst images: wrong with the highest score" if kept else "Wrong images", 20),
        *rows(panels, WORST_ACROSS),
    ]


def nearest_images(tested: Tested, found: Neighbours | str) -> list[Image.Image]:
    """Some right and some wrong test images with their nearest training images; or why there are none."""
    if isinstance(found, str):
        return [heading(f"No nearest neighbours: {found}", 15)]
    columns: dict[bool, list[Image.Image]] = {True: [], False: []}
    for place, row in enumerate(found.rows):
        columns[bool(tested.found.correct[row])].append(_neighbours(tested, found, place))
    height = max(map(len, columns.values()))
    empty = Image.new("RGB", (BLOCK, 1), "white")
    order = [(some + [empty] * height)[place] for place in range(height) for some in columns.values()]
    told = "green border: a training image of the test image's true class, red: of another; the number is the cosine"
    heads = rows([heading("Classified right", 17, BLOCK), heading("Classified wrong", 17, BLOCK)], 2)
    title = f"Nearest training images, by the cosine of the frozen features ({found.view})"
    return [heading(title, 20), heading(told, 14), *heads, *padded(order)]


def _neighbours(tested: Tested, found: Neighbours, place: int) -> Image.Image:
    row = found.rows[place]
    truth = int(tested.found.target[row])
    lines: list[Line] = [(f"is {tested.classes[truth]}", GREEN)]
    if not tested.found.correct[row] and tested.found.predicted is not None:
        lines.append((f"called {tested.classes[int(tested.found.predicted[row])]}", RED))
    panels = []
    for other, cosine in zip(found.nearest[place].tolist(), found.cosines[place].tolist(), strict=True):
        label = int(found.labels[other])
        colour = GREEN if label == truth else RED
        text = scored(tested.classes[label], f" {cosine:.2f}", TILE)
        panels.append(lettered(tile(found.images[other], TILE, colour), [(text, colour)]))
    asked = lettered(tile(tested.images[row], TILE), lines)
    (band,) = rows(panels, NEIGHBOURS, BETWEEN)
    whole = Image.new("RGB", (BLOCK, max(asked.height, band.height)), "white")
    whole.paste(asked)
    whole.paste(band, (TILE + 2 * GAP, 0))
    return whole


def several_labels(tested: Tested) -> list[Image.Image]:
    """For each class the images without it that have the highest scores, and those with it that have the lowest."""
    wrong = {
        label: mistakes.wrong(tested.found, label)
        for label in range(len(tested.classes))
        if mistakes.is_scored(tested.found, label)
    }
    order = sorted(wrong, key=lambda label: (-wrong[label].sum(), label))[:CLASSES]
    shown = f"{len(order)} of {len(tested.classes):,} classes" if len(order) < len(tested.classes) else "all classes"
    told = f"{len(tested.images):,} test images; {shown}, those with most mistakes first"
    drawn = [heading(f"{told}; the number is the score, a positive one predicts the class; red: a mistake", 15)]
    for label in order:
        name, blocks = fitting(tested.classes[label], 16, BLOCK * 0.4), []
        for rows_of, words, mistake in (
            (mistakes.highest_without, "absent, the highest scores", "predicted"),
            (mistakes.lowest_with, "present, the lowest scores", "missed"),
        ):
            found = rows_of(tested.found, label)
            title = f"{name} {words} ({wrong[label][found].sum():,} of {len(found):,} {mistake})"
            blocks.append(block(title, [(0, band) for band in _scored_row(tested, label, found, wrong[label])]))
        drawn += padded(blocks)
    return drawn


def _scored_row(tested: Tested, label: int, some: np.ndarray, wrong: np.ndarray) -> list[Image.Image]:
    """At most one band: as many of the images ``some`` as fit it, their scores below."""
    assert tested.found.scores is not None
    across, panels = (BLOCK + BETWEEN) // (TILE + BETWEEN), []
    for row in some[:across].tolist():
        colour = RED if wrong[row] else None
        score = f"{tested.found.scores[row, label]:+.2f}"
        panels.append(lettered(tile(tested.images[row], TILE, colour), [(score, colour or GREY)]))
    return rows(panels, across, BETWEEN)
