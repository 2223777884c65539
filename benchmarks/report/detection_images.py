"""The best and the worst test images of a detection run, truth beside predictions, for show_detection.py.

An image's score is the F1 of the predictions shown against its objects at IoU 0.5, as the evaluator matches them.
Crowds and difficult objects count neither as found nor as missed. Blue is right, orange wrong, in both panels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data.pictures import GAP, WIDTH, Colour, Marked, captioned, heading, legend, panel, rows
from benchmarks.report.detected import Tested
from transfer.detection.evaluation.kinds import BOTH, KINDS, NONE
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED

PAIRS = 2  # of truth and predictions, per row
RIGHT, WRONG, IGNORED = (0, 90, 181), (200, 70, 0), (110, 110, 110)  # told apart by every kind of colour vision
COLOURS: dict[str, Colour] = {
    "found, or right": RIGHT,
    "missed, or wrong": WRONG,
    "does not count (crowd, difficult)": IGNORED,
}


class Tally(NamedTuple):
    """Numbers of objects found, objects missed, and predictions that match no object."""

    hits: int
    missed: int
    wrong: int

    @property
    def f1(self) -> float:
        """2·hits / (objects + predictions); 1 if there are neither."""
        return 2 * self.hits / (2 * self.hits + self.missed + self.wrong) if any(self) else 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One test image: detectron2's dataset dict, its objects, the predictions shown, both coloured, and its tally."""

    image: dict[str, Any]
    truth: Sequence[Marked]
    found: Sequence[Marked]
    tally: Tally


def ranking(tallies: Sequence[Tally]) -> list[int]:
    """Their numbers, the best first: of equal F1 the one with more objects found, then with fewer mistakes."""
    return sorted(
        range(len(tallies)),
        key=lambda one: (-tallies[one].f1, -tallies[one].hits, tallies[one].missed + tallies[one].wrong),
    )


def tallies_of(tested: Tested) -> list[Tally]:
    """The tally of every test image by its boxes."""
    measured, images = tested.measures["bbox"], len(tested.images)
    matches, found = measured.matches, shown_finder(tested)
    shown, outcome = matches.score >= measured.score, matches.outcome[0, :, 0]
    counts = matches.object_counts[:, 0]
    columns = [
        np.bincount(tested.place[counts & found], minlength=images),
        np.bincount(tested.place[counts & ~found], minlength=images),
        np.bincount(matches.image[shown & (outcome == FALSE)], minlength=images),
    ]
    return [Tally(*row) for row in np.stack(columns, axis=1).tolist()]


def shown_finder(tested: Tested) -> np.ndarray:
    """(M,) whether a detection that is shown found the object."""
    measured = tested.measures["bbox"]
    if not len(measured.matches.score):
        return np.zeros(len(measured.finder), dtype=bool)
    return (measured.finder != NONE) & (measured.matches.score[measured.finder] >= measured.score)


def scene(tested: Tested, place: int, tally: Tally, found: np.ndarray) -> Scene:
    """The image at ``place``; ``found`` of ``shown_finder``."""
    measured = tested.measures["bbox"]
    matches = measured.matches
    truth = [
        dataclasses.replace(
            tested.objects[one],
            colour=RIGHT if found[one] else WRONG if matches.object_counts[one, 0] else IGNORED,
        )
        for one in np.flatnonzero(tested.place == place).tolist()
    ]
    own = np.flatnonzero((matches.image == place) & (matches.score >= measured.score))
    own = own[np.argsort(-matches.score[own], kind="stable")]
    predictions = [_prediction(tested, one) for one in own.tolist()]
    return Scene(image=tested.images[place], truth=truth, found=predictions, tally=tally)


def _prediction(tested: Tested, number: int) -> Marked:
    measured, detections = tested.measures["bbox"], tested.detections
    code = int(measured.kind[number])
    kind = "" if code == NONE else " both" if code == BOTH else f" {KINDS[code]}"
    colours = {TRUE: RIGHT, FALSE: WRONG, UNCOUNTED: IGNORED}
    return Marked(
        name=tested.classes[detections.category[number]],
        box=tested.box(number),
        segmentation=tested.mask(number),
        note=f" {detections.score[number]:.2f}{kind}",
        colour=colours[int(measured.matches.outcome[0, number, 0])],
    )


def draw(tested: Tested, count: int) -> list[Image.Image]:
    """The ``count`` best and worst images by their boxes."""
    tallies, found = tallies_of(tested), shown_finder(tested)
    order = ranking(tallies)

    def scenes(some: Sequence[int]) -> list[Scene]:
        return [scene(tested, one, tallies[one], found) for one in some]

    images, score = f"{len(order):,} test images", tested.measures["bbox"].score
    rule = f"predictions with a score of at least {score:.2f}, where F1 over all images is highest"
    if len(order) <= 2 * count:
        return drawn(rule, {f"All {images}, the best first": scenes(order)})
    best, worst = scenes(order[:count]), scenes(order[: -count - 1 : -1])
    return drawn(rule, {f"The {count} best of {images}": best, f"The {count} worst, the worst first": worst})


def drawn(rule: str, sections: dict[str, list[Scene]]) -> list[Image.Image]:
    """The sections below a legend."""
    about = f"Truth left; right {rule}. An image's score is F1 at IoU 0.5 of boxes; “both”: class and location wrong."
    found = [heading(about, 16), legend(COLOURS, COLOURS)]
    for title, some in sections.items():
        found += [heading(title, 20), *rows([pair(one) for one in some], PAIRS, gap=2 * GAP)]
    return found


def pair(one: Scene) -> Image.Image:
    """Truth and predictions of one image side by side, with the score below."""
    side = (WIDTH - 2 * GAP * PAIRS) // (2 * PAIRS) - GAP // 2
    (both,) = rows([panel(one.image, objects, {}, side) for objects in (one.truth, one.found)], 2, gap=4)
    score = f"F1 {one.tally.f1:.2f}: {one.tally.hits} found, {one.tally.missed} missed, {one.tally.wrong} wrong"
    return captioned(both, f"{score} · {Path(one.image['file_name']).name}", 15)
