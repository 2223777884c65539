"""SGD, LARS or AdamW over a method's parameters, with the exclusions of the recipe.

Tested by ``python -m pytest tests/pretrain/test_optimizers.py``.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from pretrain.config import Resolved
from pretrain.lars import LARS


def build_optimizer(method: nn.Module, resolved: Resolved) -> Optimizer:
    """The configured optimiser of every parameter that asks for a gradient.

    ``decay_all``, the default, is MoCo's SGD and torch's AdamW: weight decay on every tensor. Without it tensors of
    one dimension (biases, BatchNorm) are spared. LARS spares them always, and does not scale their steps (SimCLR,
    BYOL, Barlow Twins, VICReg). The rate is set by ``set_learning_rate`` before each step.
    """
    config = resolved.config
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": config.weight_decay, "share": 1.0}]
    spared = not config.decay_all and config.optimizer != "lars"
    if spared or config.bias_rate != 1:
        flat = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups[0]["params"] = [parameter for parameter in parameters if parameter.ndim > 1]
        decay = 0.0 if spared else config.weight_decay
        groups.append({"params": flat, "weight_decay": decay, "share": config.bias_rate})
    if config.optimizer == "adamw":
        return AdamW(groups, lr=resolved.learning_rate, fused=True)
    if config.optimizer == "lars":
        return LARS(groups, lr=resolved.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    return SGD(groups, lr=resolved.learning_rate, momentum=config.momentum)


def set_learning_rate(optimizer: Optimizer, resolved: Resolved, step: int) -> None:
    """The schedule's rate at ``step``, from 0; a group's "share" of it."""
    for group in optimizer.param_groups:
        group["lr"] = resolved.learning_rate_at(step) * group["share"]
