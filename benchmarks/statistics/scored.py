"""A run's metrics as functions of the test images' weights, from its kept predictions or matches, and on the draws.

A metric is offered only where it equals the record's own number with every weight 1, so that an interval is always one
of the number in the table. The values on the draws are kept in results/statistics and computed once per attempt.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.predictions import FILE, Predictions, load_predictions
from benchmarks.records import RunRecord, files_of
from benchmarks.statistics.average_precision import WeightedAP
from benchmarks.statistics.paired import DRAWS, Side, draws
from pretrain.common.files import digest, results_dir, write_arrays

VERSION = 1  # raised when drawn values change
EQUAL = 1e-6  # percent
SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
Weighted = Callable[[np.ndarray], dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """``of`` gives percent by metric key for weights (``images``,), whole numbers ≥ 0."""

    images: int
    of: Weighted

    def verified(self, metrics: Mapping[str, float | None]) -> frozenset[str]:
        """The keys whose value with every weight 1 is that of ``metrics``."""
        found = self.of(np.ones(self.images, dtype=np.int64))
        known = {key: metrics.get(key) for key in found}
        return frozenset(key for key, value in known.items() if value is not None and abs(found[key] - value) < EQUAL)


def scored(path: Path, sizes: bool = False) -> list[Scored]:
    """The weighted metrics of the attempt at ``path``: of its predictions, or of each of its tasks with matches.

    ``sizes``: those of small, medium and large objects too. InputError where a file cannot be read.
    """
    folder = files_of(path)
    found = [_of_matches(one, sizes) for one in sorted(folder.glob("matches-*.npz"))]
    if not found and (folder / FILE).is_file():
        found = [_of_predictions(load_predictions(folder))]
    return found


def _of_predictions(predictions: Predictions) -> Scored:
    if predictions.scores is not None:
        return _of_scores(predictions.target, predictions.scores)
    correct = predictions.correct.astype(float)

    def accuracy(weights: np.ndarray) -> dict[str, float]:
        return {"top1": 100 * float(weights @ correct / weights.sum())}

    return Scored(images=len(correct), of=accuracy)


def _of_scores(target: np.ndarray, scores: np.ndarray) -> Scored:
    """Mean AP over classes, the area under the curve; images marked −1 for a class are left out of it."""
    order = np.argsort(scores, axis=0, kind="stable")[::-1]  # of equal scores the later image first, as multilabel.py
    ranked = np.take_along_axis(target, order, axis=0)

    def mean_ap(weights: np.ndarray) -> dict[str, float]:
        often = weights[order] * (ranked >= 0)
        own = often * (ranked > 0)
        true, counted = own.cumsum(0), often.cumsum(0)
        best = np.maximum.accumulate((true / np.maximum(counted, 1))[::-1], axis=0)[::-1]
        objects = own.sum(0)
        values = (own * best).sum(0)[objects > 0] / objects[objects > 0]
        return {"mAP": 100 * float(values.mean()) if len(values) else float("nan")}

    return Scored(images=len(target), of=mean_ap)


def average_precision_of(target: np.ndarray, scores: np.ndarray) -> float:
    """Percent, the mean over the classes that have an image; NaN where none has. Shapes as of ``Predictions``."""
    return _of_scores(target, scores).of(np.ones(len(target), dtype=np.int64))["mAP"]


def _of_matches(path: Path, sizes: bool) -> Scored:
    from transfer.detection.evaluation.matches import load_matches

    matches, task = load_matches(path), path.stem.removeprefix("matches-")
    samplers = {"AP": WeightedAP(matches)}
    if sizes and matches.rule == "coco":
        samplers |= {
            key: WeightedAP(matches, matches.areas.index(area)) for key, area in SIZES.items() if area in matches.areas
        }
    at = {key: int(np.argmin(abs(matches.thresholds - value))) for key, value in (("AP50", 0.5), ("AP75", 0.75))}

    def average(weights: np.ndarray) -> dict[str, float]:
        found = {}
        for key, sampler in samplers.items():
            table = sampler(weights)
            found[f"{task}/{key}"] = _percent(table)
            if key == "AP":
                found |= {f"{task}/{name}": _percent(table[:, number]) for name, number in at.items()}
        return found

    return Scored(images=len(matches.ids), of=average)


def _percent(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return 100 * float(known.mean()) if known.size else float("nan")


def on_draws(record: RunRecord, path: Path, sizes: bool = False, count: int = DRAWS) -> dict[str, np.ndarray]:
    """(count,) percent on each draw of the test images, by metric key; {} for a run without predictions or matches.

    From results/statistics if they are there.
    """
    if not any(name == FILE or name.startswith("matches-") for name in record.files):
        return {}
    about = {"attempt": path.stem, "spec": record.spec.spec_id, "draws": count, "sizes": sizes, "version": VERSION}
    kept = results_dir() / "statistics" / f"{digest(about)[:16]}.npz"
    if (found := _read(kept, about)) is not None:
        return found
    found = {}
    for one in scored(path, sizes):
        keys = one.verified(record.metrics)
        if keys:
            values = [one.of(weights) for weights in draws(one.images, count)]
            found |= {key: np.array([value[key] for value in values]) for key in sorted(keys)}
    write_arrays(kept, {"about": np.array(json.dumps(about)), **found})
    return found


def _read(path: Path, about: Mapping[str, object]) -> dict[str, np.ndarray] | None:
    """The kept values; None where there are none, or a broken file that is then written anew."""
    try:
        with np.load(path) as stored:
            if json.loads(str(stored["about"])) != about:
                return None
            return {key: stored[key] for key in stored.files if key != "about"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def side_of(records: Sequence[RunRecord], drawn: Sequence[Mapping[str, np.ndarray]], key: str) -> Side:
    """The defined values of a metric by pretraining run (checkpoint and input), with those on the draws if all have
    them."""
    by_run: dict[tuple[object, object], list[int]] = {}
    for number, record in enumerate(records):
        if record.metrics.get(key) is not None:
            by_run.setdefault((record.spec.checkpoint_sha256, record.spec.input), []).append(number)
    groups = list(by_run.values())
    whole = all(key in drawn[number] for group in groups for number in group)
    return Side(
        scores=[[float(records[number].metrics[key] or 0.0) for number in group] for group in groups],
        seeds=[[records[number].spec.seed for number in group] for group in groups],
        drawn=[[drawn[number][key] for number in group] for group in groups] if whole else (),
    )
