"""timm: a training checkpoint of its train.py, or a model of its hub with the config.json beside it.

timm's ResNets with a standard stem have torchvision's names; without either mark such a file is read as torchvision's.
If a training run kept averaged weights, timm itself loads those.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families.base import WRITTEN_IN_TEST, RawBackbone, config_beside
from transfer.checkpoints.families.layout import Layout, first_match
from transfer.checkpoints.reading.read import CheckpointFile

_TRAINED = Layout(
    name="timm",
    title="timm, its training checkpoints and hub models",
    known_from=(
        "huggingface/pytorch-image-models:timm/utils/checkpoint_saver.py, timm/models/resnet.py; " + WRITTEN_IN_TEST
    ),
    networks={"ema": "state_dict_ema/", "model": "state_dict/"},
    marks=("arch", "version"),
)
_HUB = dataclasses.replace(_TRAINED, networks={"model": ""}, marks=())
_ANY = first_match(_TRAINED, _HUB)
_BLURRED = re.compile(r"resnet(?:blur|aa)")


def recognise(file: CheckpointFile) -> str | None:
    """A training checkpoint, or torchvision's names beside a config.json that names timm's model."""
    config = _config(file)
    if config and _HUB.recognise(file):
        return f"config.json beside it describes timm's {config.get('architecture')}"
    return _TRAINED.recognise(file)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The averaged network if there is one; pixel mean and std of config.json if it has them.

    InputError for a ResNet with blur pooling before strided layers, which its tensors do not show.
    """
    raw = _ANY.extract(file, network)
    config = _config(file)
    name = config.get("architecture") or file.content.get("arch")
    if isinstance(name, str) and _BLURRED.match(name):
        raise InputError(f"{file.path}: timm's {name} blurs between its stages: detectron2 has no such network")
    mean, std = (config.get(key) for key in ("mean", "std"))
    if not (isinstance(mean, list) and isinstance(std, list)):
        return raw
    assumed = "RGB images, the stride in the 3×3 convolutions"
    images = PixelInput(mean=tuple(map(float, mean)), std=tuple(map(float, std)), assumed=assumed)
    return dataclasses.replace(raw, input=images)


def _config(file: CheckpointFile) -> dict[str, Any]:
    """``pretrained_cfg`` of a config.json in timm's form, with its "architecture"; {} if there is none."""
    config = config_beside(file, "config.json")
    known = config.get("pretrained_cfg")
    return {**known, "architecture": config.get("architecture")} if isinstance(known, dict) else {}


FAMILY = dataclasses.replace(_TRAINED.family(), recognise=recognise, extract=extract)
