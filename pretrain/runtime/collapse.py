"""Stop a run whose terms are not finite or whose embeddings have collapsed.

The reasons and thresholds: docs/information.md, "Collapse and the stop rule".
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Mapping

from pretrain.common.errors import RunError

WINDOW = 20  # logged steps averaged before anything is said
STOP_FROM, WARN_FROM = 0.1, 0.3  # progress: early steps are not judged
STD_WARN, STD_STOP = 0.8, 0.1  # of 1, the embedding_std of directions that fill the sphere
QUEUE_STOP = 0.02  # lower for methods with a queue or without negatives: demo-infomin trains normally at 0.11
PREDICTIVE_WARN = 0.05  # nats
AT_BOUND_WARN = 0.5  # share of the σ within 1 % of the least or greatest allowed


def check_finite(step: int, terms: Mapping[str, float]) -> None:
    """RunError naming the step and the first term that is NaN or infinite."""
    for name, value in terms.items():
        if not math.isfinite(value):
            raise RunError(f"non-finite loss: {name} is {value} at step {step}; lower --learning-rate or the weights λ")


class CollapseWatch:
    """Watches the terms embedding_std, predictive and sigma_at_bound, averaged over the last WINDOW logged steps.

    Stops the run when embedding_std is under STD_STOP in a method that contrasts the batch, which is one with the term
    "predictive", and under QUEUE_STOP in others, whose healthy embeddings fill less of the sphere. Warns once, on
    stderr, when it is under STD_WARN in the former, when the predictive information is under PREDICTIVE_WARN, and
    when more than AT_BOUND_WARN of the σ are at a bound. Methods without these terms are not watched.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        watched = ("embedding_std", "predictive", "sigma_at_bound")
        self.recent: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in watched}
        self.warned: set[str] = set()

    def check(self, step: int, terms: Mapping[str, float]) -> None:
        """Take in one logged step. RunError on collapse."""
        for name, values in self.recent.items():
            if name in terms:
                values.append(terms[name])
                if len(values) == WINDOW:
                    self._judge(step, name, sum(values) / WINDOW, contrast="predictive" in terms)

    def _judge(self, step: int, name: str, mean: float, *, contrast: bool) -> None:
        least = STD_STOP if contrast else QUEUE_STOP
        if name == "embedding_std" and mean < least and step >= STOP_FROM * self.steps:
            raise RunError(
                f"embeddings collapsed (std {mean:.3f} < {least}, mean of {WINDOW} logged steps up to step {step}): "
                "lower the learning rate or λ, or check the images"
            )
        if name in self.warned or step < WARN_FROM * self.steps or (name == "embedding_std" and not contrast):
            return
        if reason := _doubt(name, mean):
            self.warned.add(name)
            meaning = (
                "λ cannot move the noise much further" if name == "sigma_at_bound" else "the run may be collapsing"
            )
            print(f"warning: {reason} at step {step}: {meaning}", file=sys.stderr)


def _doubt(name: str, mean: float) -> str | None:
    """The comparison that a watched term's mean fails; None if it passes."""
    if name == "sigma_at_bound":
        return f"{name} {mean:.3f} > {AT_BOUND_WARN}" if mean > AT_BOUND_WARN else None
    limit = STD_WARN if name == "embedding_std" else PREDICTIVE_WARN
    return f"{name} {mean:.3f} < {limit}" if mean < limit else None
