"""Pretraining methods, one file each, found through the plain dict METHODS."""

from __future__ import annotations

import dataclasses

from pretrain.methods.barlowtwins import BarlowTwins
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.byol import BYOL
from pretrain.methods.byol_superinfo import BYOLSuperInfo
from pretrain.methods.cmc import CMC
from pretrain.methods.cmcv2 import CMCV2
from pretrain.methods.infomin import InfoMin
from pretrain.methods.instdis import InstDis
from pretrain.methods.moco import MoCo
from pretrain.methods.mocov2 import MoCoV2
from pretrain.methods.mocov2_superinfo import MoCoV2SuperInfo
from pretrain.methods.pirl import PIRL
from pretrain.methods.random import Random
from pretrain.methods.simclr import SimCLR
from pretrain.methods.simsiam import SimSiam
from pretrain.methods.split_views import SplitViews
from pretrain.methods.superinfo import SuperInfo
from pretrain.methods.supervised import Supervised
from pretrain.methods.vicreg import VICReg
from pretrain.methods.view_generator import ViewGenerator

METHODS: dict[str, type[Method]] = {
    "superinfo": SuperInfo,
    "simclr": SimCLR,
    "instdis": InstDis,
    "moco": MoCo,
    "mocov2": MoCoV2,
    "mocov2-superinfo": MoCoV2SuperInfo,
    "pirl": PIRL,
    "cmc": CMC,
    "cmcv2": CMCV2,
    "view-generator": ViewGenerator,
    "split-views": SplitViews,
    "infomin": InfoMin,
    "byol": BYOL,
    "byol-superinfo": BYOLSuperInfo,
    "simsiam": SimSiam,
    "barlowtwins": BarlowTwins,
    "vicreg": VICReg,
    "supervised": Supervised,
    "random": Random,
}


def register(name: str, cls: type[Method]) -> None:
    """Add a method from outside the project. ValueError for a name or Config that is taken and for no Method."""
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ValueError(f"method {name}: {cls!r} is not a subclass of pretrain.methods.Method")
    config = getattr(cls, "Config", None)
    if not (isinstance(config, type) and issubclass(config, MethodConfig) and dataclasses.is_dataclass(config)):
        raise ValueError(f"method {name}: {cls.__name__}.Config must be a dataclass derived from MethodConfig")
    if name in METHODS or any(known.Config is config for known in METHODS.values()):
        raise ValueError(f"method {name}: the name or its {config.__name__} is registered already")
    METHODS[name] = cls


def method_name(config: MethodConfig) -> str:
    """The name in METHODS of the method that ``config`` belongs to."""
    return next(name for name, method in METHODS.items() if method.Config is type(config))


__all__ = ["METHODS", "Batch", "Method", "MethodConfig", "Sizes", "method_name", "register"]
