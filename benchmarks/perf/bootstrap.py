"""Time of a paired bootstrap of two detectors at COCO val's size, from their matches.

Run: ``python -m benchmarks.perf bootstrap``. Beside it the AP of some draws by ``Matches.ap``, the plain way, with the
largest difference of the two.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from benchmarks.perf.timing import processor
from benchmarks.statistics.average_precision import WeightedAP
from benchmarks.statistics.paired import DRAWS, Side, difference, draws
from pretrain.common.errors import InputError
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches

CLASSES, THRESHOLDS, PER_IMAGE = 80, 10, 7.3  # objects per image, as COCO val has
PLAIN = 3  # draws by the plain way


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draws of the images of two results, and the interval of their difference in AP."""

    images: int = 5000
    detections: int = 100
    """Per image."""
    draws: int = DRAWS


def measure(arguments: Arguments) -> str:
    """Lines with the seconds of both results' draws and of the plain way."""
    if min(arguments.images, arguments.detections) < 1 or arguments.draws < 2:
        raise InputError("--images and --detections are 1 or more, --draws 2 or more")
    results = [_random_matches(np.random.default_rng(seed), arguments) for seed in (0, 1)]
    weights = draws(arguments.images, arguments.draws)
    began = time.process_time()
    samplers = [WeightedAP(one) for one in results]
    drawn = [np.array([np.nanmean(sampler(one)) for one in weights]) for sampler in samplers]
    seconds = time.process_time() - began
    sides = [
        Side(scores=[[one.mean_ap()]], seeds=[[0]], drawn=[[values]])
        for one, values in zip(results, drawn, strict=True)
    ]
    interval = difference(*sides).interval
    began = time.process_time()
    plain = [results[0].mean_ap(weights=one) for one in weights[:PLAIN]]
    plainly = (time.process_time() - began) / PLAIN * 2 * arguments.draws
    apart = max(abs(one - other) for one, other in zip(plain, drawn[0], strict=False))
    ratio = f"{plainly / seconds:.0f} ×; largest difference {apart:.1e}"
    return "\n".join(
        [
            f"one thread of {processor()}; two results, {arguments.images:,} images, {arguments.draws:,} draws each",
            f"  from sorted matches   {seconds:8.1f} s of the processor",
            f"  Matches.ap            {plainly:8.1f} s, from {PLAIN} draws ({ratio})",
            f"  AP of both are random: their difference is in [{interval[0]:.4f}, {interval[1]:.4f}]"
            if interval
            else "",
        ]
    )


def _random_matches(rng: np.random.Generator, arguments: Arguments) -> Matches:
    """Outcomes at random: a twentieth of the detections true, the fewer the higher the threshold."""
    count = arguments.images * arguments.detections
    objects = round(PER_IMAGE * arguments.images)
    chance = rng.random((1, count, 1)) + np.linspace(0, 0.04, THRESHOLDS)
    outcome = np.where(chance < 0.05, TRUE, FALSE).astype(np.uint8)
    outcome[:, rng.random(count) < 0.02] = UNCOUNTED
    return Matches(
        ids=np.arange(arguments.images),
        image=np.repeat(np.arange(arguments.images), arguments.detections),
        category=rng.integers(CLASSES, size=count),
        score=rng.random(count).astype(np.float32),
        outcome=outcome,
        object_image=rng.integers(arguments.images, size=objects),
        object_category=rng.integers(CLASSES, size=objects),
        object_counts=np.ones((objects, 1), dtype=bool),
        thresholds=np.linspace(0.5, 0.95, THRESHOLDS),
        areas=("all",),
        classes=tuple(str(number) for number in range(CLASSES)),
        rule="coco",
    )
