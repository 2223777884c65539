"""Hugging Face transformers' ResNets: pytorch_model.bin or model.safetensors, with or without the classifier.

The files beside it are read if present: config.json gives the position of the stride, preprocessor_config.json the
pixel mean and std.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families.base import CLASSIFIER, WRITTEN_IN_TEST, RawBackbone, config_beside
from transfer.checkpoints.families.layout import Layout, first_match
from transfer.checkpoints.reading.read import CheckpointFile

_KINDS = {"convolution": "conv", "normalization": "bn"}


def _rules() -> Iterator[tuple[str, str]]:
    for theirs, ours in _KINDS.items():
        yield rf"embedder\.embedder\.{theirs}\.(.+)", rf"{ours}1.\1"
    for stage in range(4):
        block, layer = rf"encoder\.stages\.{stage}\.layers\.(\d+)\.", rf"layer{stage + 1}.\1."
        for number, (theirs, ours) in enumerate(_KINDS.items()):
            yield rf"{block}shortcut\.{theirs}\.(.+)", rf"{layer}downsample.{number}.\2"
            for index in range(3):
                yield rf"{block}layer\.{index}\.{theirs}\.(.+)", rf"{layer}{ours}{index + 1}.\2"


_MODEL = Layout(
    name="huggingface",
    title="Hugging Face transformers, its ResNets",
    known_from=f"huggingface/transformers:models/resnet/modeling_resnet.py; {WRITTEN_IN_TEST}",
    networks={"model": ""},
    rename=tuple(_rules()),
    marks=("embedder.embedder.",),
)
_CLASSIFIER = dataclasses.replace(
    _MODEL, networks={"model": "resnet."}, drop={"classifier.": CLASSIFIER}, marks=("resnet.embedder.embedder.",)
)
_ANY = first_match(_MODEL, _CLASSIFIER)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The network, with stride, mean and std from the json files beside it."""
    raw = _ANY.extract(file, network)
    config, images = (config_beside(file, name) for name in ("config.json", "preprocessor_config.json"))
    changes: dict[str, Any] = {}
    assumed = ["RGB images"]
    if isinstance(images.get("image_mean"), list) and isinstance(images.get("image_std"), list):
        changes |= {key: tuple(map(float, images[f"image_{key}"])) for key in ("mean", "std")}
    else:
        assumed = ["RGB images normalised with ImageNet's mean and std"]
    if "downsample_in_bottleneck" in config:
        changes["stride_in_1x1"] = config["downsample_in_bottleneck"] is True
    else:
        assumed.append("the stride in the 3×3 convolutions")
    return dataclasses.replace(raw, input=PixelInput(**changes, assumed=", ".join(assumed)))


FAMILY = dataclasses.replace(_ANY, extract=extract)
