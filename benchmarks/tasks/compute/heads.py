"""One linear head: its optimiser, its schedule, its batches, its state.

A head takes frozen features in any portions: it steps when a batch of its own size is full, so that heads of different
batches train on the same stream. Nothing here depends on other heads: a head trained beside others is bitwise the
head trained alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.tasks.compute.larc import LARC, LARS
from benchmarks.tasks.linear_sgd import LinearStyle
from benchmarks.tasks.schedules import share_at


def rate_at(style: LinearStyle, rate: float, epoch: int, step: int, steps: int) -> float:
    """The learning rate in step ``step`` of ``steps`` of ``epoch`` (both from 0) where the style starts at ``rate``."""
    share = share_at(style, epoch * steps + step, steps)
    return rate * (style.final_share + (1 - style.final_share) * share)


def new_layer(style: LinearStyle, dim: int, classes: int, seed: int, device: torch.device) -> nn.Linear:
    """The head before its first step, drawn by ``seed``; heads of the same initialisation start alike."""
    layer = nn.Linear(dim, classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    if style.head_init == "torch default":  # nn.Linear's own, by a generator of ours
        bound = 1 / math.sqrt(dim)
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    else:
        nn.init.normal_(layer.weight, std=0.01, generator=generator)
        nn.init.zeros_(layer.bias)
    return layer.to(device)


def _optimiser(style: LinearStyle, layer: nn.Linear, rate: float) -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "sgd+larc": LARC, "lars": LARS}[style.optimiser]
    return kind(layer.parameters(), lr=rate, momentum=style.momentum, weight_decay=style.weight_decay)


class Head:
    """A linear classifier D → C that trains at ``rate`` on ``rows`` feature rows per epoch."""

    def __init__(
        self, style: LinearStyle, rate: float, *, rows: int, dim: int, classes: int, seed: int, device: torch.device
    ) -> None:
        self.style, self.rate, self.rows = style, rate, rows
        self.layer = new_layer(style, dim, classes, seed, device)
        self.optimiser = _optimiser(style, self.layer, rate)
        self.epoch = self.step = self.filled = 0  # ``filled``: rows of the current batch that were taken
        self.steps = max(1, rows // style.batch if style.drop_last else -(-rows // style.batch))

    def take(self, x: Tensor, y: Tensor) -> None:
        """Train on rows ``x`` n×D with classes ``y`` (n,), the next of the epoch in its order."""
        begun = 0
        while begun < len(y) and self.step < self.steps:
            size = min(self.style.batch, self.rows - self.step * self.style.batch)
            part = slice(begun, begun + size - self.filled)
            self._accumulate(x[part], y[part], size)
            begun = part.stop
            if self.filled == size:
                self._update()

    def _accumulate(self, x: Tensor, y: Tensor, size: int) -> None:
        """Add the rows' part of the gradient of the mean over a batch of ``size``."""
        loss = F.cross_entropy(self.layer(x), y, reduction="sum") / size
        loss.backward()
        self.filled += len(y)

    def _update(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.style, self.rate, self.epoch, self.step, self.steps)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.filled, self.step = 0, self.step + 1

    def end_epoch(self) -> None:
        """Start the next epoch; rows of a batch that was left incomplete are dropped."""
        self.optimiser.zero_grad()
        self.epoch, self.step, self.filled = self.epoch + 1, 0, 0

    @property
    def diverged(self) -> bool:
        """Whether a weight is not finite."""
        return not all(bool(torch.isfinite(one).all()) for one in self.layer.parameters())

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, a batch half accumulated included."""
        gradients = [None if one.grad is None else one.grad for one in self.layer.parameters()]
        return {
            "layer": self.layer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "gradients": gradients,
            "place": [self.epoch, self.step, self.filled],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.layer.load_state_dict(state["layer"])
        self.optimiser.load_state_dict(state["optimiser"])
        for weight, gradient in zip(self.layer.parameters(), state["gradients"], strict=True):
            weight.grad = None if gradient is None else gradient.to(weight.device)
        self.epoch, self.step, self.filled = state["place"]
