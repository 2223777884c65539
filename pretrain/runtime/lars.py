"""LARS (You, Gitman, Ginsburg, arXiv 1708.03888) as SimCLR uses it: google-research/simclr lars_optimizer.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

TRUST = 0.001  # the "eeta" of SimCLR's code


class LARS(Optimizer):
    """SGD with momentum whose step a tensor is scaled by TRUST·‖w‖/‖g + wd·w‖.

    Tensors with one dimension (biases, BatchNorm) take plain momentum steps without decay or scaling. The learning
    rate multiplies the gradient before it enters the momentum buffer, as in SimCLR's code.
    """

    def __init__(self, params: ParamsT, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every tensor that has a gradient; returns the closure's loss, if one is given."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        scale = group["lr"]
        if weight.ndim > 1:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            weight_norm, gradient_norm = weight.norm(), gradient.norm()
            usable = (weight_norm > 0) & (gradient_norm > 0)
            scale = scale * torch.where(usable, TRUST * weight_norm / gradient_norm, torch.ones_like(weight_norm))
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(gradient * scale)
        weight.sub_(buffer)
