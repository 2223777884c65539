"""Pretraining methods, one file each, found through the plain dict METHODS."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

from pretrain.methods.barlowtwins import BarlowTwins, BarlowTwinsConfig
from pretrain.methods.base import Batch, Method, MethodEntry, Sizes
from pretrain.methods.byol import BYOL, BYOLConfig
from pretrain.methods.cmc import CMC, CMCConfig
from pretrain.methods.cmcv2 import CMCV2, CMCV2Config
from pretrain.methods.infomin import InfoMin, InfoMinConfig
from pretrain.methods.instdis import InstDis, InstDisConfig
from pretrain.methods.moco import MoCo, MoCoConfig
from pretrain.methods.mocov2 import MoCoV2, MoCoV2Config
from pretrain.methods.mocov2_superinfo import MoCoV2SuperInfo, MoCoV2SuperInfoConfig
from pretrain.methods.pirl import PIRL, PIRLConfig
from pretrain.methods.random import Random, RandomConfig
from pretrain.methods.simclr import SimCLR, SimCLRConfig
from pretrain.methods.simsiam import SimSiam, SimSiamConfig
from pretrain.methods.superinfo import SuperInfo, SuperInfoConfig
from pretrain.methods.supervised import Supervised, SupervisedConfig
from pretrain.methods.vicreg import VICReg, VICRegConfig

METHODS: dict[str, MethodEntry] = {
    "superinfo": MethodEntry(config=SuperInfoConfig, build=SuperInfo),
    "simclr": MethodEntry(config=SimCLRConfig, build=SimCLR),
    "instdis": MethodEntry(config=InstDisConfig, build=InstDis, views=1),
    "moco": MethodEntry(config=MoCoConfig, build=MoCo, sync_batchnorm=False),
    "mocov2": MethodEntry(config=MoCoV2Config, build=MoCoV2, sync_batchnorm=False),
    "mocov2-superinfo": MethodEntry(config=MoCoV2SuperInfoConfig, build=MoCoV2SuperInfo, sync_batchnorm=False),
    "pirl": MethodEntry(config=PIRLConfig, build=PIRL, views=1, patches=True),
    "cmc": MethodEntry(config=CMCConfig, build=CMC, views=1),
    "cmcv2": MethodEntry(config=CMCV2Config, build=CMCV2, sync_batchnorm=False),
    "infomin": MethodEntry(config=InfoMinConfig, build=InfoMin, patches=True, sync_batchnorm=False),
    "byol": MethodEntry(config=BYOLConfig, build=BYOL),
    "simsiam": MethodEntry(config=SimSiamConfig, build=SimSiam),
    "barlowtwins": MethodEntry(config=BarlowTwinsConfig, build=BarlowTwins),
    "vicreg": MethodEntry(config=VICRegConfig, build=VICReg),
    "supervised": MethodEntry(config=SupervisedConfig, build=Supervised, views=1, needs_labels=True),
    "random": MethodEntry(config=RandomConfig, build=Random, views=1),
}
if TYPE_CHECKING:
    MethodConfig = Any
else:  # the union of all, from which the command line's flags are made
    MethodConfig = functools.reduce(operator.or_, (entry.config for entry in METHODS.values()))


def method_name(config: Any) -> str:
    """The name in METHODS of the method that ``config`` belongs to."""
    return next(name for name, entry in METHODS.items() if entry.config is type(config))


__all__ = ["METHODS", "Batch", "Method", "MethodConfig", "MethodEntry", "Sizes", "method_name"]
