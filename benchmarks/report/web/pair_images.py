"""The test images on which two checkpoints disagree most, with both predictions beside the truth.

From the kept predictions or matches. An image's score is the share of a side's runs that classify it right (with
several labels per image the share of its labels that are right); of detectors the mean F1 at IoU 0.5 of the detections
from the score on where a run's F1 over all images is highest, as `show` draws them. The images are read from the
prepared data, if these are still there and the same. Imports no torch before it has to read images.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.root import DataRoot
from benchmarks.predictions import FILE, Predictions, load_predictions
from benchmarks.records import RunRecord, files_of
from benchmarks.report.compare import Run
from benchmarks.report.tested_on import root_of
from benchmarks.report.web.album import Album, Column, Picture
from benchmarks.report.web.pair_boxes import Boxes
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import data_dir, results_dir

EACH = 3  # images that either side judges better
SIDE = 96  # pixels of a classified image


class Images:
    """Reads each run's predictions, and the list of each data set's images, once."""

    def __init__(self, album: Album) -> None:
        self.album = album
        self.boxes = Boxes()
        self.predictions = functools.cache(lambda path: load_predictions(files_of(path)))
        self._roots: dict[tuple[str, str, str], DataRoot | str] = {}
        self._listed: dict[tuple[Path, str, bytes], tuple[Sequence[Path], Sequence[str]]] = {}

    def column(self, a: Sequence[Run], b: Sequence[Run]) -> Column | None:
        """The images of a column, or a reason in their place; None where the runs kept no predictions."""
        first = a[0][0]
        detects = TASKS[first.spec.task].detects
        if not all(_kept(record, detects) for record, _ in (*a, *b)):
            return None
        root = self._root(first)
        if isinstance(root, str):
            return Column(about={"reason": root}, pictures=())
        try:
            found = self.boxes.pictures(root, a, b) if detects else self._classified(root, a, b)
        except Exception as error:  # the readers raise any, on damaged files
            return Column(about={"reason": without_places(str(error))}, pictures=())
        return Column(about={"reason": "", "kind": "boxes" if detects else "labels"}, pictures=found)

    def _root(self, record: RunRecord) -> DataRoot | str:
        spec = record.spec
        key = spec.data_name, spec.data_fingerprint, spec.task
        if key not in self._roots:
            try:
                self._roots[key] = root_of(record)
                self._roots[key].check_unchanged()  # type: ignore[union-attr]
            except InputError as error:
                self._roots[key] = without_places(str(error))
        return self._roots[key]

    def _classified(self, root: DataRoot, a: Sequence[Run], b: Sequence[Run]) -> list[Picture]:
        sides = [[self.predictions(path) for _, path in side] for side in (a, b)]
        first = sides[0][0]
        if any(not np.array_equal(one.target, first.target) for side in sides for one in side):
            raise InputError("the runs were not tested on the same images")
        paths, names = self._list(root, TASKS[a[0][0].spec.task].layout, first)
        scores = [np.mean([_right(one) for one in side], axis=0) for side in sides]
        say = _several if first.scores is not None else _single
        return [
            Picture(
                path=paths[place],
                side=SIDE,
                say=functools.partial(_said, say, sides, place, names, shown_name(paths[place], root)),
            )
            for place in most_different(scores[0], scores[1], EACH)
        ]

    def _list(self, root: DataRoot, layout: str, found: Predictions) -> tuple[Sequence[Path], Sequence[str]]:
        """The test images in the order of the predictions, and the classes. InputError where they are others."""
        from benchmarks.report import mistakes
        from benchmarks.report.show_classification import scenes
        from benchmarks.tasks.compute.features import labelled_images

        key = root.path, layout, found.target.tobytes()
        if key not in self._listed:
            classes = root.section(layout)["classes"]
            images, labels = labelled_images(root, "val") if layout == "imagenet" else scenes(root, layout, found)
            mistakes.check(found, labels, len(classes))
            self._listed[key] = images, [printable(one) for one in classes]
        return self._listed[key]


def _kept(record: RunRecord, detects: bool) -> bool:
    return "matches-bbox.npz" in record.files if detects else FILE in record.files


def _right(found: Predictions) -> np.ndarray:
    """(N,) 1 for right and 0 for wrong; of several labels the share of those that count."""
    if found.scores is None:
        return found.correct.astype(float)
    counted = found.target >= 0
    return np.asarray((found.correct & counted).sum(1) / np.maximum(counted.sum(1), 1))


def most_different(a: np.ndarray, b: np.ndarray, each: int) -> list[int]:
    """Places of the ``each`` images that a judges better by most, and of those that b does, in turns.

    Of equal differences those that come first in a fixed random order, so that they are not all of one class.
    """
    order = np.random.default_rng(0).permutation(len(a))
    sides = []
    for gap in ((a - b)[order], (b - a)[order]):
        found = np.argsort(-gap, kind="stable")[:each]
        sides.append(order[found[gap[found] > 0]].tolist())
    longest = max(map(len, sides), default=0)
    return [side[rank] for rank in range(longest) for side in sides if rank < len(side)]


def _said(
    say: Callable[[Sequence[Predictions], int, Sequence[str]], tuple[str, str, bool]],
    sides: Sequence[Sequence[Predictions]], place: int, names: Sequence[str], file: str, scale: float,
) -> dict[str, Any]:  # fmt: skip
    """The JSON of a classified image: its file, the truth, and of each side its words and whether it is right."""
    texts = [say(side, place, names) for side in sides]
    return {
        "file": file,
        "truth": texts[0][0],
        "said": [one[1] for one in texts],
        "right": [one[2] for one in texts],
    }


def _single(runs: Sequence[Predictions], place: int, names: Sequence[str]) -> tuple[str, str, bool]:
    """The true class; the one that most runs predict, with their number where they are not all; whether it is right."""
    counts = Counter(int(one.predicted[place]) for one in runs if one.predicted is not None)
    label, count = counts.most_common(1)[0]
    share = "" if count == len(runs) else f" ({count} of {len(runs)} runs)"
    truth = int(runs[0].target[place])
    return names[truth], names[label] + share, label == truth


def _several(runs: Sequence[Predictions], place: int, names: Sequence[str]) -> tuple[str, str, bool]:
    """The classes in the image; those that the first run predicts; whether it has all labels right."""
    scores, target = runs[0].scores, runs[0].target[place]
    assert scores is not None
    there = ", ".join(names[one] for one in np.flatnonzero(target > 0).tolist())
    said = ", ".join(names[one] for one in np.flatnonzero((scores[place] > 0) & (target >= 0)).tolist())
    return there or "none", (said or "none") + (" (first run)" if len(runs) > 1 else ""), there == said


def shown_name(path: Path, root: DataRoot) -> str:
    """The image's path below its data root, of a file elsewhere its name."""
    return printable(str(path.relative_to(root.path)) if path.is_relative_to(root.path) else path.name)


def without_places(text: str) -> str:
    """``text`` without the folders of this machine."""
    for folder, word in ((data_dir(), "data"), (results_dir(), "results")):
        text = text.replace(str(folder.resolve()), word).replace(str(folder), word)
    return printable(text)[:300]
