"""SGD, LARS or AdamW over a method's parameters, with the exclusions of the recipe."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from pretrain.common.errors import InputError
from pretrain.config import Resolved
from pretrain.runtime.lars import LARS


def build_optimizer(method: nn.Module, resolved: Resolved) -> Optimizer:
    """The configured optimiser of every parameter that asks for a gradient. ``set_learning_rate`` precedes each step.

    ``decay_bias_and_norm``, the default, is MoCo's SGD and torch's AdamW: weight decay on every tensor. Without it
    tensors of one dimension (biases, BatchNorm) are spared. LARS spares them always, and does not scale their steps
    (SimCLR, BYOL, Barlow Twins, VICReg). InputError for ``fixed_lr_modules`` that the method does not have.
    """
    config = resolved.config
    groups = parameter_groups(method, resolved)
    if config.optimizer == "adamw":
        return AdamW(groups, lr=resolved.learning_rate, fused=True)
    if config.optimizer == "lars":
        return LARS(groups, lr=resolved.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    return SGD(groups, lr=resolved.learning_rate, momentum=config.momentum)


def parameter_groups(method: nn.Module, resolved: Resolved) -> list[dict[str, Any]]:
    """One group per combination of weight decay, "lr_ratio" to the method's rate and "fixed_lr", in parameter order."""
    config = resolved.config
    modules = dict(method.named_children())
    for name in config.fixed_lr_modules:
        if name not in modules:
            raise InputError(f"--fixed-lr-modules {name}: {resolved.method} has {', '.join(modules)}")
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            one_dimensional = parameter.ndim <= 1
            spared = one_dimensional and not config.decay_bias_and_norm and config.optimizer != "lars"
            decay, ratio = 0.0 if spared else config.weight_decay, config.bias_lr_ratio if one_dimensional else 1.0
            fixed = name.partition(".")[0] in config.fixed_lr_modules
            groups.setdefault((decay, ratio, fixed), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_ratio": ratio, "fixed_lr": fixed}
        for (decay, ratio, fixed), parameters in groups.items()
    ]


def set_learning_rate(optimizer: Optimizer, resolved: Resolved, step: int) -> None:
    """Give each group the schedule's rate at ``step``, from 0, or the peak rate if it is fixed, times its ratio."""
    scheduled = resolved.learning_rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = (resolved.learning_rate if group["fixed_lr"] else scheduled) * group["lr_ratio"]
