"""The classes in which two checkpoints differ most: accuracy of each, or average precision. Imports no torch.

From the kept predictions or matches, over the same levels as a column's difference; the draws of the test images are in
it for runs that predict one label per image.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.predictions import FILE, Predictions, load_predictions
from benchmarks.records import RunRecord, files_of
from benchmarks.report.compare import Run
from benchmarks.report.tested_on import root_of
from benchmarks.statistics.average_precision import WeightedAP
from benchmarks.statistics.paired import difference, draws
from benchmarks.statistics.scored import average_precision_of, side_of
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable

MOST = 8  # classes of a table
IMAGES = 10_000  # of a test set whose images are drawn: the draws of more take too much memory
FEWEST = 5  # images of a class that are drawn
LARGEST = 2**26  # bytes of a file of matches that is read


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByClass:
    """Percent (C,) of each class in one run, NaN where undefined; ``drawn`` C×B on draws of the images, or None."""

    metric: str
    names: tuple[str, ...]
    values: np.ndarray
    drawn: np.ndarray | None = None


class Classes:
    """Reads each run's files once."""

    def __init__(self) -> None:
        self._kept: dict[Path, list[ByClass]] = {}

    def of(self, record: RunRecord, path: Path) -> list[ByClass]:
        """The numbers of each class in a run; [] where it kept nothing that can be read."""
        if path not in self._kept:
            try:
                self._kept[path] = by_class(record, path)
            except Exception:  # the readers raise any, on damaged files
                self._kept[path] = []
        return self._kept[path]

    def tables(self, a: Sequence[Run], b: Sequence[Run]) -> list[dict[str, Any]]:
        """For each metric that all runs of both sides have: its name, the classes with the largest differences as
        [name, a, b, low, high], how many are left out, and over what the intervals are."""
        sides = [[self.of(*run) for run in side] for side in (a, b)]
        found = []
        for first in sides[0][0]:
            same = [
                [one for run in side for one in run if (one.metric, one.names) == (first.metric, first.names)]
                for side in sides
            ]
            if [len(one) for one in same] == [len(a), len(b)]:
                found.append(_table(a, b, *same))
        return found


def _table(a: Sequence[Run], b: Sequence[Run], ours: Sequence[ByClass], theirs: Sequence[ByClass]) -> dict[str, Any]:
    names = ours[0].names
    means = [np.mean([one.values for one in side], axis=0) for side in (ours, theirs)]
    gap = means[0] - means[1]
    known = np.flatnonzero(~np.isnan(gap))
    order = known[np.argsort(-np.abs(gap[known]), kind="stable")]
    order = order[np.abs(gap[order]) > 0]
    rows, levels = [], ""
    for number in order[:MOST].tolist():
        sides = []
        for runs, values in ((a, ours), (b, theirs)):
            records = [
                dataclasses.replace(record, metrics={"class": float(one.values[number])})
                for (record, _), one in zip(runs, values, strict=True)
            ]
            drawn = [{} if one.drawn is None else {"class": one.drawn[number]} for one in values]
            sides.append(side_of(records, drawn, "class"))
        made = difference(*sides)
        levels = ", ".join(made.levels) or levels
        numbers = (made.a, made.b, *(made.interval or (None, None)))
        rows.append([printable(names[number]), *(None if one is None else round(one, 1) for one in numbers)])
    return {"metric": ours[0].metric, "rows": rows, "left": len(known) - len(rows), "over": levels}


def by_class(record: RunRecord, path: Path) -> list[ByClass]:
    """Of predictions the accuracy of each class (AP with several labels per image), of matches the AP of boxes and
    masks. InputError where a file cannot be read."""
    folder = files_of(path)
    if not any(name == FILE or name.startswith("matches-") for name in record.files):
        return []
    found = [_of_matches(one) for one in sorted(folder.glob("matches-*.npz")) if one.stat().st_size <= LARGEST]
    if not found and (folder / FILE).is_file():
        predictions = load_predictions(folder)
        found = [_of_predictions(predictions, class_names(record, predictions))]
    return found


def _of_predictions(found: Predictions, names: tuple[str, ...]) -> ByClass:
    if found.scores is not None:
        values = [average_precision_of(found.target[:, [one]], found.scores[:, [one]]) for one in range(len(names))]
        return ByClass(metric="AP", names=names, values=np.array(values))
    counts = np.bincount(found.target, minlength=len(names))
    right = np.bincount(found.target, weights=found.correct, minlength=len(names))
    values = np.divide(100 * right, counts, out=np.full(len(names), np.nan), where=counts > 0)
    drawn = None
    if len(found.target) <= IMAGES and counts[counts > 0].min() >= FEWEST:
        drawn = _drawn(found.target, found.correct, len(names))
    return ByClass(metric="top-1", names=names, values=values, drawn=drawn)


def _drawn(target: np.ndarray, correct: np.ndarray, classes: int) -> np.ndarray:
    """C×B accuracies in percent on the draws of `compare`; those of a class without a drawn image are 0."""
    weights = _draws(len(target))
    found = np.zeros((classes, len(weights)), np.float32)
    for one in np.unique(target).tolist():
        own = weights[:, target == one]
        found[one] = 100 * (own @ correct[target == one]) / np.maximum(own.sum(1), 1)
    return found


@functools.lru_cache(maxsize=2)
def _draws(images: int) -> np.ndarray:
    return draws(images).astype(np.int16)


def _of_matches(path: Path) -> ByClass:
    from transfer.detection.evaluation.matches import load_matches

    matches = load_matches(path)
    table = 100 * WeightedAP(matches)(np.ones(len(matches.ids), dtype=np.int64))
    kind = {"bbox": "AP of boxes", "segm": "AP of masks"}.get(path.stem.removeprefix("matches-"), "AP")
    return ByClass(metric=kind, names=matches.classes, values=table.mean(1))


def class_names(record: RunRecord, found: Predictions) -> tuple[str, ...]:
    """The names of the data's classes, or their numbers where the data are gone."""
    count = found.scores.shape[1] if found.scores is not None else int(found.target.max(initial=0)) + 1
    try:
        names = tuple(root_of(record).section(TASKS[record.spec.task].layout)["classes"])
    except InputError:
        names = ()
    return names if len(names) >= count else tuple(f"class {number}" for number in range(count))
