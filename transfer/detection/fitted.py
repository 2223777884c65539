"""Profile small: a detector's image size, anchors and schedule from the training annotations, by closed forms.

Image size: the median object becomes TARGET pixels, its side being √(width · height), within SHORTEST to LONGEST for
the shorter side of the image. Anchors: as many as the protocol's, in equal ratios over the middle 90 % of the objects'
sides, with the middle aspect ratios of their lower, middle and upper third. Schedule: EPOCHS passes over the training
images, within FEWEST to MOST iterations. All of it is part of a run's identity.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BATCH = 4  # images; at these sizes the batch norms still see thousands of positions
TARGET = 64.0  # pixels of the median object: two of FPN's finest RoI cells per side of a 7 × 7 grid
SHORTEST, LONGEST = 224, 448  # pixels of an image's shorter side; the longest bounds the cost of an image
STEP = 32  # the coarsest stride of the network
ASPECT = 5 / 3  # the longer side at most, in shorter sides, as the protocols' 1333 and 800
SCALES = (7 / 8, 1.0, 9 / 8)  # of the shorter side in training
EPOCHS = 8
FEWEST, MOST = 240, 8_000  # iterations: of a set of a few images, and of a large one
WARMUP = 0.1  # of the iterations
CHECKPOINTS = 8  # per run: a killed one loses an eighth
PRECISE_BN = 40  # batches at most
NARROWEST = 4.0  # least ratio of the largest anchor to the smallest, so that other objects than those seen are found
FLATTEST = 0.01  # height / width of an anchor: detectron2 divides by it
FROM_DATA = "from the data"
KEYS = (
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "SOLVER.MAX_ITER",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.PRECISE_BN.NUM_ITER",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The facts about a training set that profile small uses: numbers of images, sides and shapes of objects.

    ``images`` with an object. ``sides``: the 5th, 50th and 95th percentile of √(width · height), in shorter sides of
    the resized image (whose longer side is at most ASPECT of them). ``ratios``: the 1/6, 1/2 and 5/6 quantile of
    height / width.
    """

    images: int
    sides: tuple[float, float, float]
    ratios: tuple[float, float, float]


def facts_of(images: Sequence[tuple[int, int]], boxes: Sequence[Sequence[tuple[float, float]]]) -> DataFacts:
    """The facts of (width, height) of each image and of its objects, in pixels; images without objects are left out."""
    kept = [(size, found) for size, found in zip(images, boxes, strict=True) if found]
    scales = [min(1 / min(size), ASPECT / max(size)) for size, _ in kept]
    sides = [scale * math.sqrt(w * h) for scale, (_, found) in zip(scales, kept, strict=True) for w, h in found]
    ratios = [h / w for _, found in kept for w, h in found]
    return DataFacts(
        images=len(kept),
        sides=_quantiles(sides, (0.05, 0.5, 0.95)),
        ratios=_quantiles(ratios, (1 / 6, 1 / 2, 5 / 6)),
    )


def _quantiles(values: Sequence[float], shares: tuple[float, float, float]) -> tuple[float, float, float]:
    low, middle, high = (round(float(one), 4) for one in np.quantile(values, shares))
    return low, middle, high


def shorter_side(facts: DataFacts) -> int:
    """Pixels of a test image's shorter side, a multiple of STEP."""
    return min(max(STEP * round(TARGET / facts.sides[1] / STEP), SHORTEST), LONGEST)


def anchor_sizes(facts: DataFacts, levels: Sequence[int]) -> list[list[int]]:
    """Anchor sides in pixels by level of the pyramid, of which there are ``levels[i]`` on level i."""
    low, _, high = (shorter_side(facts) * one for one in facts.sides)
    middle, spread = math.sqrt(low * high), max(high / low, NARROWEST)
    count = sum(levels)
    exponents = [number / (count - 1) - 0.5 if count > 1 else 0.0 for number in range(count)]
    sizes = iter([max(1, round(middle * spread**exponent)) for exponent in exponents])
    return [[next(sizes) for _ in range(number)] for number in levels]


def iterations(facts: DataFacts) -> int:
    """EPOCHS passes in batches of BATCH, within FEWEST and MOST."""
    return min(max(math.ceil(EPOCHS * facts.images / BATCH), FEWEST), MOST)


def fitted(facts: DataFacts, levels: Sequence[int]) -> dict[str, Any]:
    """detectron2 key → value for the KEYS. ``levels``: the protocol's number of anchor sizes on each level."""
    side, steps = shorter_side(facts), iterations(facts)
    train = tuple(round(scale * side) for scale in SCALES)
    return {
        "INPUT.MIN_SIZE_TRAIN": train,
        "INPUT.MAX_SIZE_TRAIN": round(ASPECT * max(train)),
        "INPUT.MIN_SIZE_TEST": side,
        "INPUT.MAX_SIZE_TEST": round(ASPECT * side),
        "MODEL.ANCHOR_GENERATOR.SIZES": anchor_sizes(facts, levels),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [
            list(dict.fromkeys(max(FLATTEST, round(one, 2)) for one in facts.ratios))
        ],
        "SOLVER.MAX_ITER": steps,
        "SOLVER.WARMUP_ITERS": round(WARMUP * steps),
        "SOLVER.CHECKPOINT_PERIOD": math.ceil(steps / CHECKPOINTS),
        "TEST.PRECISE_BN.NUM_ITER": min(math.ceil(facts.images / BATCH), PRECISE_BN),
    }
