"""Average precision of kept matches with a weight per image: what a bootstrap draw of the test images needs.

    sampler = WeightedAP(load_matches(path))
    sampler(np.bincount(draw, minlength=sampler.images))     # C×T, in [0, 1]

Equal to ``Matches.ap``, but a draw takes milliseconds: detections are sorted once, and precision is computed at true
detections only, where alone its running maximum can change.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer.detection.evaluation.matches import TRUE, UNCOUNTED, Matches

RECALLS = {"coco": np.linspace(0, 1, 101), "voc2007": np.arange(0.0, 1.1, 0.1)}


@dataclasses.dataclass(frozen=True)
class _Threshold:
    """Of one IoU threshold: places of the true detections by class and score, and the uncounted ones before each."""

    true: np.ndarray
    category: np.ndarray
    first: np.ndarray  # (C+1,) number of true detections of earlier classes
    uncounted: np.ndarray
    before: np.ndarray  # number of uncounted detections before each true one
    before_class: np.ndarray  # … before the first detection of its class


class WeightedAP:
    """(C, T) average precisions in [0, 1] as a function of the images' weights (I,), which are whole numbers ≥ 0.

    ``area`` is the number of a range of object sizes, ``thresholds`` those of IoU thresholds, all by default. The
    result is NaN for a class whose objects' weights are all 0.
    """

    def __init__(self, matches: Matches, area: int = 0, thresholds: tuple[int, ...] | None = None) -> None:
        self.classes, self.images, self.rule = len(matches.classes), len(matches.ids), matches.rule
        ranked = np.lexsort((matches.image, -matches.score, matches.category))
        self.image = matches.image[ranked]
        category = matches.category[ranked]
        self.start = np.searchsorted(category, np.arange(self.classes + 1))
        counts = matches.object_counts[:, area]
        self.object_image, self.object_category = matches.object_image[counts], matches.object_category[counts]
        chosen = range(len(matches.thresholds)) if thresholds is None else thresholds
        self.thresholds = [self._threshold(matches.outcome[area, ranked, number], category) for number in chosen]

    def _threshold(self, outcome: np.ndarray, category: np.ndarray) -> _Threshold:
        true, uncounted = np.flatnonzero(outcome == TRUE), np.flatnonzero(outcome == UNCOUNTED)
        of = category[true]
        return _Threshold(
            true=true,
            category=of,
            first=np.searchsorted(of, np.arange(self.classes + 1)),
            uncounted=uncounted,
            before=np.searchsorted(uncounted, true),
            before_class=np.searchsorted(uncounted, self.start[of]),
        )

    def objects(self, weights: np.ndarray) -> np.ndarray:
        """(C,) the weight of the objects that count."""
        found = np.bincount(self.object_category, weights[self.object_image], minlength=self.classes)
        return np.rint(found).astype(np.int64)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """The (C, T) average precisions."""
        weights = np.asarray(weights, dtype=np.int64)
        objects = self.objects(weights)
        often = weights[self.image]
        so_far = np.concatenate(([0], np.cumsum(often)))
        needed = None if self.rule == "voc2012" else _needed(RECALLS[self.rule], objects)
        found = np.stack([self._at(one, often, so_far, objects, needed) for one in self.thresholds], axis=1)
        found[objects == 0] = np.nan
        return found

    def _at(
        self,
        at: _Threshold,
        often: np.ndarray,
        so_far: np.ndarray,
        objects: np.ndarray,
        needed: np.ndarray | None,
    ) -> np.ndarray:
        """(C,) at one threshold. ``often`` are the detections' weights, ``so_far`` their sums before each."""
        own = often[at.true]
        sums = np.concatenate(([0], np.cumsum(own)))
        true = sums[1:] - sums[at.first[at.category]]
        counted = so_far[at.true + 1] - so_far[self.start[at.category]]
        if len(at.uncounted):
            left_out = np.concatenate(([0], np.cumsum(often[at.uncounted])))
            counted = counted - (left_out[at.before] - left_out[at.before_class])
        precision = true / np.maximum(counted, 1)
        # The classes' running maxima from the end stay apart by an offset that is larger for each earlier class.
        offset = 2.0 * (self.classes - at.category)
        highest = np.maximum.accumulate((precision + offset)[::-1])[::-1] - offset
        if needed is None:
            gained = np.bincount(at.category, own * highest, minlength=self.classes)
            return np.asarray(gained / np.maximum(objects, 1))
        # The first true detection with which a class has as many as each recall needs.
        beyond = int(sums[-1]) + int(objects.max(initial=0)) + 2
        keys = true + beyond * at.category
        wanted = np.maximum(needed, 1) + beyond * np.arange(self.classes)[:, None]
        place = np.searchsorted(keys, wanted)
        reached = place < at.first[1:, None]
        values = np.append(highest, 0.0)[np.where(reached, place, len(highest))]
        return np.asarray(values.mean(1))


def _needed(recalls: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """C×R: the fewest true detections whose share of the objects is a recall or more, in floats as the evaluators."""
    total = np.maximum(objects, 1)[:, None]
    fewest = np.ceil(recalls * total).astype(np.int64)
    fewest -= (fewest > 0) & ((fewest - 1) / total >= recalls)
    return np.asarray(fewest + (fewest / total < recalls))
