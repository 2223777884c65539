"""Detectors' part of pair_images.py: F1 of every test image, and the boxes of the images shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.data.root import DataRoot
from benchmarks.records import files_of
from benchmarks.report.compare import Run
from benchmarks.report.web.album import Picture
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from transfer.detection.evaluation.matches import FALSE, TRUE, Matches, load_matches

if TYPE_CHECKING:
    from transfer.detection.evaluation.store import Detections

EACH = 2  # images that either side judges better
SIDE = 176  # pixels
BOXES = 15  # of a side in an image, the highest scores
NONE = np.zeros(0, dtype=np.int32)


class Boxes:
    """Reads each run's matches, and each data set's annotations, once."""

    def __init__(self) -> None:
        self.judged = functools.cache(Judged)
        self._tested: dict[tuple[Path, str], dict[str, dict[str, Any]]] = {}

    def pictures(self, root: DataRoot, a: Sequence[Run], b: Sequence[Run]) -> list[Picture]:
        """The images of a column on which the sides' mean F1 differ most. InputError where their files do not fit."""
        from benchmarks.report.web.pair_images import most_different

        sides = [[self.judged(path) for _, path in side] for side in (a, b)]
        ids = sides[0][0].ids
        if any(not np.array_equal(one.ids, ids) for side in sides for one in side):
            raise InputError("the runs were not tested on the same images")
        means = [np.mean([one.f1 for one in side], axis=0) for side in sides]
        shown = [min(side, key=lambda run: (run[0].label, run[0].spec.seed)) for side in (a, b)]
        images = self._images(root, TASKS[a[0][0].spec.task].layout)
        found = []
        for place in most_different(means[0], means[1], EACH):
            image = images[str(ids[place])]
            scores = [round(float(one[place]), 3) for one in means]
            say = functools.partial(self._say, root, image, place, shown, scores, [len(a), len(b)])
            found.append(Picture(path=Path(image["file_name"]), side=SIDE, say=say))
        return found

    def _images(self, root: DataRoot, layout: str) -> dict[str, dict[str, Any]]:
        from benchmarks.report.detected import test_images

        key = root.path, layout
        if key not in self._tested:
            self._tested[key] = {str(one["image_id"]): one for one in test_images(root, layout)}
        return self._tested[key]

    def _say(
        self, root: DataRoot, image: dict[str, Any], place: int, shown: Sequence[Run], scores: Sequence[float],
        counts: Sequence[int], scale: float,
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON of an image: boxes [left, top, width, height, class, state] in pixels of the thumbnail."""
        from benchmarks.data.pictures import objects_of
        from benchmarks.report.web.pair_images import shown_name

        judged = [self.judged(path) for _, path in shown]
        names = judged[0].matches.classes
        objects = objects_of(image, names)
        truth = [[*_scaled(one.box, scale), printable(one.name), "ignored" if one.ignored else ""] for one in objects]
        said = [
            f"F1 {score:.2f}" + (f", mean of {count} runs; shown: {printable(run.label)}, seed {run.spec.seed}"
                                 if count > 1 else "")
            for score, count, (run, _) in zip(scores, counts, shown, strict=True)
        ]  # fmt: skip
        return {
            "file": shown_name(Path(image["file_name"]), root),
            "truth": f"{len(truth)} objects" if len(truth) != 1 else "1 object",
            "said": said,
            "boxes": [truth[:BOXES], *(one.boxes(place, scale) for one in judged)],
        }


class Judged:
    """A run: its matches, the score from which its detections are shown, and the F1 (I,) of every image."""

    def __init__(self, path: Path) -> None:
        from benchmarks.report.detected import Measured
        from benchmarks.report.detection_images import Tally

        self.folder = files_of(path)
        self.matches: Matches = load_matches(self.folder / "matches-bbox.npz")
        matches = self.matches
        self.ids = matches.ids
        self.score = Measured(matches=matches, kind=NONE, meant=NONE, finder=NONE).score
        shown, outcome = matches.score >= self.score, matches.outcome[0, :, 0]
        count = len(self.ids)
        hits = np.bincount(matches.image[shown & (outcome == TRUE)], minlength=count)
        wrong = np.bincount(matches.image[shown & (outcome == FALSE)], minlength=count)
        objects = np.bincount(matches.object_image[matches.object_counts[:, 0]], minlength=count)
        tallies = zip(hits.tolist(), (objects - hits).tolist(), wrong.tolist(), strict=True)
        self.f1 = np.array([Tally(*one).f1 for one in tallies])

    def boxes(self, place: int, scale: float) -> list[list[Any]]:
        """The detections shown on an image, the highest scores first, each right, wrong or ignored."""
        matches, detections = self.matches, _detections(self.folder)
        own = np.flatnonzero((matches.image == place) & (matches.score >= self.score))
        own = own[np.argsort(-matches.score[own], kind="stable")][:BOXES]
        if len(detections) != len(matches.score):
            raise InputError("detections and matches are not of the same run")
        states = {TRUE: "right", FALSE: "wrong"}
        return [
            [
                *_scaled(detections.box[one].tolist(), scale),
                f"{printable(matches.classes[int(matches.category[one])])} {matches.score[one]:.2f}",
                states.get(int(matches.outcome[0, one, 0]), "ignored"),
            ]
            for one in own.tolist()
        ]


@functools.lru_cache(maxsize=16)
def _detections(folder: Path) -> Detections:
    from transfer.detection.evaluation.store import load_detections

    return load_detections(folder)


def _scaled(box: Sequence[float], scale: float) -> list[int]:
    """Left, top, width, height in whole pixels."""
    left, top, right, bottom = (round(scale * float(one)) for one in box)
    return [left, top, max(right - left, 1), max(bottom - top, 1)]
