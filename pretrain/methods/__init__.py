"""Pretraining methods, one file each, found through the plain dict METHODS."""

from __future__ import annotations

from typing import Any

from pretrain.methods.base import Batch, Method, MethodEntry, Sizes
from pretrain.methods.random import Random, RandomConfig
from pretrain.methods.simclr import SimCLR, SimCLRConfig
from pretrain.methods.superinfo import SuperInfo, SuperInfoConfig
from pretrain.methods.supervised import Supervised, SupervisedConfig

METHODS: dict[str, MethodEntry] = {
    "superinfo": MethodEntry(config=SuperInfoConfig, build=SuperInfo),
    "simclr": MethodEntry(config=SimCLRConfig, build=SimCLR),
    "supervised": MethodEntry(config=SupervisedConfig, build=Supervised, views=1, needs_labels=True),
    "random": MethodEntry(config=RandomConfig, build=Random, views=1),
}
MethodConfig = SuperInfoConfig | SimCLRConfig | SupervisedConfig | RandomConfig


def method_name(config: Any) -> str:
    """The name in METHODS of the method that ``config`` belongs to."""
    return next(name for name, entry in METHODS.items() if entry.config is type(config))


__all__ = ["METHODS", "Batch", "Method", "MethodConfig", "MethodEntry", "Sizes", "method_name"]
