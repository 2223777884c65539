"""The course of a fine-tuning: its epochs, its best predictions, and the loss and seconds of the epoch in progress."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.tasks.compute.classify import Classified
from pretrain.common.errors import RunError


class History:
    """Saved with the training's state, so that a run that was killed reports as one that was not."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []  # loss, top1, top5, seconds
        self.best: dict[str, Any] = {}  # epoch from 1, predicted and confidence (N,)
        self.loss: Tensor | None = None  # summed over the steps of the epoch in progress, float64
        self.seconds = 0.0
        self.resumed_at: int | None = None
        self._clock = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the clock."""
        return {name: value for name, value in vars(self).items() if name != "_clock"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it in again."""
        vars(self).update(state_dict)

    def begin(self, resumed_at: int | None) -> None:
        """Start the clock."""
        self.resumed_at, self._clock = resumed_at or self.resumed_at, time.monotonic()

    def count_time(self) -> None:
        """Add the seconds since the last call."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def add(self, loss: Tensor) -> None:
        """Note a step's loss."""
        loss = loss.double()
        self.loss = loss if self.loss is None else self.loss.to(loss.device) + loss

    def require_finite(self, step: int, total: int) -> None:
        """RunError if the loss has become infinite or no number."""
        if self.loss is not None and not torch.isfinite(self.loss):
            raise RunError(f"the loss is not finite after step {step} of {total}: the fine-tuning diverged")

    def end_epoch(self, tested: Classified | None, steps: int) -> None:
        """Note an epoch's results, None if it was not tested, and its predictions if no top-1 before was as high."""
        assert self.loss is not None
        self.count_time()
        row: dict[str, Any] = {"loss": self.loss.item() / steps, "top1": None, "top5": None}
        if tested:
            if not self.tested or tested.top1 > max(one["top1"] for one in self.tested):
                found = {"predicted": tested.predicted, "confidence": tested.confidence}
                self.best = {"epoch": len(self.epochs) + 1, **found}
            row |= {"top1": tested.top1, "top5": tested.top5}
        self.epochs.append(row | {"seconds": round(self.seconds, 2)})
        self.loss, self.seconds = None, 0.0

    @property
    def tested(self) -> list[dict[str, Any]]:
        """The epochs that were tested."""
        return [one for one in self.epochs if one["top1"] is not None]
