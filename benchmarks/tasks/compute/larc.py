"""Two layer-wise adaptive rates for linear heads, which differ where the rate changes: LARC around SGD, and LARS.

pretrain/runtime/lars.py has SimCLR's, which leaves biases out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.optimizer import ParamsT

TRUST, EPSILON = 0.001, 1e-8


def _trust(weight: Tensor, gradient: Tensor, weight_decay: float) -> Tensor | None:
    """TRUST·‖w‖ / (‖g‖ + wd·‖w‖ + EPSILON); None where a norm is 0."""
    weight_norm, gradient_norm = weight.norm(), gradient.norm()
    if weight_norm == 0 or gradient_norm == 0:
        return None
    return TRUST * weight_norm / (gradient_norm + weight_decay * weight_norm + EPSILON)


class LARC(SGD):
    """SGD whose gradient, weight decay included, is scaled by the trust ratio before it enters the momentum.

    A tensor whose norm or gradient's norm is 0 takes a plain step without decay (NVIDIA/apex:apex/parallel/LARC.py with
    clip False, as facebookresearch/simsiam:main_lincls.py uses it). A zero bias thus takes its first step unscaled.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every tensor that has a gradient."""
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            for weight in group["params"]:
                if (
                    weight.grad is not None
                    and (ratio := _trust(weight, weight.grad, group["weight_decay"])) is not None
                ):
                    weight.grad.add_(weight, alpha=group["weight_decay"]).mul_(ratio)
            group["weight_decay"] = 0.0
        done = super().step(closure)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        return done


class LARS(Optimizer):
    """Momentum of steps that the trust ratio AND the rate have scaled: open-mmlab/mmselfsup:engine/optimizers/lars.py.

    The ratio is 1 where a norm is 0; biases are scaled like weights.
    """

    def __init__(self, params: ParamsT, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every tensor that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                ratio = _trust(weight, weight.grad, group["weight_decay"])
                step = weight.grad.add(weight, alpha=group["weight_decay"]).mul_(group["lr"])
                buffer = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                buffer.mul_(group["momentum"]).add_(step if ratio is None else step.mul_(ratio))
                weight.sub_(buffer)
        return None
