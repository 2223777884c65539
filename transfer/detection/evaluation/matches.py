"""The outcome of every detection at every IoU threshold, kept so that curves and intervals need no further run.

    matches = load_matches(Path("results/runs/…/matches-bbox.npz"))
    recall, precision = matches.curve(category=14, threshold=0)     # of person in VOC, at IoU 0.5
    matches.ap(category=14)                                         # per threshold
    matches.mean_ap(weights=np.bincount(draw, minlength=len(matches.ids)))     # of a bootstrap draw of the images

Precision at each recall, and VOC's AP, are those of the evaluators to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pretrain.common.errors import InputError
from pretrain.common.files import require_arrays, write_arrays

UNCOUNTED, TRUE, FALSE = (
    0,
    1,
    2,
)  # outcomes; uncounted: on a crowd or a difficult object, of another size, beyond maxDets
RULES = ("coco", "voc2007", "voc2012")  # AP: 101 recalls, 11 recalls, area under the curve


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """N detections against M objects on I images, at T IoU thresholds and for A ranges of object size.

    ``ids`` (I,) of all images tested, in the evaluator's order; ``image``, ``category``, ``score`` (N,) of the
    detections, in the order of detections.npz, ``image`` being places in ``ids``; ``outcome`` A×N×T of UNCOUNTED, TRUE,
    FALSE; ``object_image``, ``object_category`` (M,); ``object_counts`` M×A, False for crowds, difficult objects and
    those of another size; ``thresholds`` (T,); ``areas`` and ``classes``, names; ``rule``, one of RULES.
    """

    ids: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    object_image: np.ndarray
    object_category: np.ndarray
    object_counts: np.ndarray
    thresholds: np.ndarray
    areas: tuple[str, ...]
    classes: tuple[str, ...]
    rule: str

    def curve(
        self, category: int, threshold: int = 0, area: int = 0, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(recall, precision) after each counted detection of a class, by descending score; ties stay in order.

        ``threshold`` and ``area`` are numbers. ``weights`` (I,): how often each image counts. Recall is NaN without an
        object.
        """
        return self._curves(category, area, weights, [threshold])[0]

    def objects(self, category: int, area: int = 0, weights: np.ndarray | None = None) -> float:
        """Number of a class's objects that count."""
        counted = self.object_counts[:, area] & (self.object_category == category)
        return float(counted.sum() if weights is None else weights[self.object_image[counted]].sum())

    def interpolated(self, category: int, area: int = 0, weights: np.ndarray | None = None) -> np.ndarray:
        """T×101 precisions at recalls 0, 0.01, …, 1: COCO's ``precision`` of a class; T×11 of VOC."""
        points = np.linspace(0, 1, 101) if self.rule == "coco" else np.arange(0.0, 1.1, 0.1)
        return np.array([_at(points, *each) for each in self._curves(category, area, weights)])

    def ap(self, category: int, area: int = 0, weights: np.ndarray | None = None) -> np.ndarray:
        """(T,) average precisions in [0, 1] of a class by ``rule``; NaN where it has no object that counts."""
        if not self.objects(category, area, weights):
            return np.full(len(self.thresholds), np.nan)
        if self.rule == "voc2012":
            return np.array([_area_under(*each) for each in self._curves(category, area, weights)])
        precisions = self.interpolated(category, area, weights)
        if self.rule == "coco":
            return np.asarray(precisions.mean(1))
        found = np.zeros(len(self.thresholds))
        for column in precisions.T:  # summed in the order of VOC's loop
            found = found + column / 11.0
        return found

    def mean_ap(self, area: int = 0, weights: np.ndarray | None = None) -> float:
        """The mean over thresholds and classes that have an object that counts; NaN if there is none."""
        each = [self.ap(category, area, weights) for category in range(len(self.classes))]
        values = np.array([one for one in each if not np.isnan(one).any()])
        return float(values.mean()) if values.size else float("nan")

    def checked(self) -> Matches:
        """Itself. ValueError where the arrays do not fit one another."""
        n, m, areas, images, classes = (
            len(value) for value in (self.image, self.object_image, self.areas, self.ids, self.classes)
        )
        shapes: dict[str, tuple[int, ...]] = {"ids": (images,)}
        shapes |= dict.fromkeys(("image", "category", "score"), (n,))
        shapes |= dict.fromkeys(("object_image", "object_category"), (m,))
        shapes |= {"object_counts": (m, areas), "outcome": (areas, n, len(self.thresholds))}
        places = {"image": images, "category": classes, "object_image": images, "object_category": classes}
        require_arrays(self, shapes, {**places, "outcome": 3})
        if self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}, none of {', '.join(RULES)}")
        return self

    def save(self, path: Path) -> None:
        """Write ``path``, whole or not at all."""
        write_arrays(path, {name: np.asarray(value) for name, value in self.__dict__.items()})

    def _curves(
        self, category: int, area: int, weights: np.ndarray | None, thresholds: Sequence[int] | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        own = np.flatnonzero(self.category == category)
        ranked = own[np.lexsort((self.image[own], -self.score[own]))]  # stable: ties by image, then as detected
        outcomes, objects = self.outcome[area, ranked], self.objects(category, area, weights)
        times = np.ones(len(ranked)) if weights is None else weights[self.image[ranked]].astype(float)
        found = []
        for number in range(len(self.thresholds)) if thresholds is None else thresholds:
            counted = outcomes[:, number] != UNCOUNTED
            outcome, often = outcomes[counted, number], times[counted]
            true, false = np.cumsum((outcome == TRUE) * often), np.cumsum((outcome == FALSE) * often)
            recall = true / objects if objects else np.full(len(true), np.nan)
            # Each rule has its own guard against 0/0, which differs in the last bit.
            all_found = false + true
            guarded = (
                all_found + np.spacing(1) if self.rule == "coco" else np.maximum(all_found, np.finfo(np.float64).eps)
            )
            found.append((recall, true / guarded))
        return found


def load_matches(path: Path) -> Matches:
    """The matches of a file that ``save`` wrote. InputError where it is absent or cannot be read."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        names = {name: tuple(arrays.pop(name).tolist()) for name in ("areas", "classes")}
        rule = str(arrays.pop("rule"))
        return Matches(rule=rule, **names, **arrays).checked()  # type: ignore[arg-type]  # not of one type
    except FileNotFoundError:
        raise InputError(f"{path} is not there: the run did not finish, or is of an earlier version") from None
    except Exception as error:  # NumPy raises whatever a broken file makes it stumble over
        raise InputError(f"{path} cannot be read ({error}): run it again with --rerun always") from None


def _at(points: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The highest precision at each recall of ``points`` or beyond; 0 where it is not reached."""
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return np.asarray(highest[np.searchsorted(recall, points, side="left")])


def _area_under(recall: np.ndarray, precision: np.ndarray) -> float:
    steps = np.concatenate(([0.0], recall, [1.0]))
    highest = np.maximum.accumulate(np.concatenate(([0.0], precision, [0.0]))[::-1])[::-1]
    risen = np.flatnonzero(steps[1:] != steps[:-1])
    return float(np.sum((steps[risen + 1] - steps[risen]) * highest[risen + 1]))
