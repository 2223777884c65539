"""detectron2's own files: ``.pkl`` weights (ours, other converters', MSRA's) and the backbones of whole detectors.

Also the predecessor Detectron's ``{"blobs": …}``, whose batch norms are only a scale and an offset, as MSRA's are.

The weights do not record the network's input. It is read from our proof beside a .pkl, from the config.yaml that
detectron2 writes beside a detector or from the pixel statistics in old detectors; else it is assumed and printed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from pretrain.common.errors import printable
from pretrain.common.files import read_text
from pretrain.common.pixels import PixelInput
from transfer.checkpoints import architecture, converted, key_map
from transfer.checkpoints.families.base import (
    IMAGENET_INPUT,
    PUBLISHED_CODE,
    WRITTEN_IN_TEST,
    Family,
    RawBackbone,
    as_tensor,
    choose,
    find,
    others_on_path,
    unwrap,
)
from transfer.checkpoints.reading.read import CheckpointFile

_NETWORK = "backbone"
_PLACES = (("model",), ("blobs",), ())
_LARGEST_CONFIG = 1 << 18  # bytes of a config.yaml; one has 10 kB
_PREFIXES = ("backbone.bottom_up.", "backbone.", "")  # in an FPN, in a C4 detector, in weights for either
_HEAD = "roi_heads."  # a C4 detector has res5 there
_CAFFE2 = (  # applied in this order (detectron2:checkpoint/c2_model_loading.py)
    (r"(?:res_)?conv1_(.+)", r"stem_conv1_\1"),
    (r"(.+)_branch1(_.+)", r"\1_shortcut\2"),
    (r"(.+)_branch2a(_.+)", r"\1_conv1\2"),
    (r"(.+)_branch2b(_.+)", r"\1_conv2\2"),
    (r"(.+)_branch2c(_.+)", r"\1_conv3\2"),
    (r"(.+)_bn_(?:s|gamma)", r"\1_norm_weight"),
    (r"(.+)_bn_(?:b|beta)", r"\1_norm_bias"),
    (r"(.+)_bn_(?:rm|running_mean)", r"\1_norm_running-mean"),
    (r"(.+)_bn_(?:riv|running_var)", r"\1_norm_running-var"),
    (r"(.+)_w", r"\1_weight"),
    (r"(.+)_b", r"\1_bias"),
)
_REASONS = {
    "backbone.fpn_": "of the feature pyramid",
    "backbone.top_block.": "of the feature pyramid",
    "proposal_generator.": "region proposals",
    "roi_heads.": "detection head",
    "head.": "detection head",
    "anchor_generator.": "anchors",
    "pixel_": "pixel statistics, no weights",
    "linear.": "classifier, not part of the backbone",
    "stem.fc.": "classifier or projection that another converter left in",
    "fc1000_": "classifier, not part of the backbone",
    "conv1_b": "offset of the first convolution, which detectron2 does not use either",
    # Of a whole detector of Detectron's (facebookresearch/Detectron:detectron/modeling/*.py).
    **dict.fromkeys(("fpn_inner_", "fpn_res"), "of the feature pyramid"),
    **dict.fromkeys(("rpn_", "conv_rpn_", "retnet_"), "region proposals"),
    **dict.fromkeys(
        (
            "fc6_",
            "fc7_",
            "cls_score_",
            "bbox_pred_",
            "mask_fcn",
            "_[mask]_",
            "conv5_mask_",
            "kps_",
            "conv_fcn",
            "head_conv",
        ),
        "detection head",
    ),
    "pred_": "classifier, not part of the backbone",
    "lr": "learning rate, no weights",
}
_MOMENTUM = "_momentum"  # Detectron keeps the optimiser's state beside each blob
_EPSILON = 1e-5  # of the batch norms: with a variance of 1 minus this, they only scale and offset
_MOST_CHANNELS = 2048
_AFFINE = "batch norms that scale and offset alone"


MSRA = PixelInput(  # detectron2:config/defaults.py, MODEL_ZOO.md: BGR, the std is in the first convolution
    mean=(103.53 / 255, 116.28 / 255, 123.675 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    order="BGR",
    stride_in_1x1=True,
    assumed="MSRA's input: BGR images of 0 to 255 minus 103.53 116.28 123.675, the stride in the 1×1 convolutions",
)


# facebookresearch/Detectron:detectron/core/config.py; RESNETS.STRIDE_1X1 is true there.
DETECTRON = dataclasses.replace(
    MSRA,
    mean=(102.9801 / 255, 115.9465 / 255, 122.7717 / 255),
    assumed="Detectron's input: BGR images of 0 to 255 minus 102.9801 115.9465 122.7717, the stride in the 1×1 "
    "convolutions",
)


def recognise(file: CheckpointFile) -> str | None:
    """A file with a stem under detectron2's name, bare or in a detector, or under Caffe2's."""
    state, _ = _state(file)
    if "conv1_w" in state and "res2_0_branch2a_w" in state:
        return "Caffe2's names, as in MSRA's .pkl"
    for prefix in _PREFIXES:
        if f"{prefix}stem.conv1.weight" in state:
            author = file.content.get("__author__")
            by = f" by {printable(author[:60])}" if isinstance(author, str) else ""
            return f"keys {prefix}stem.* and {prefix}res2.*{by}" if prefix else f"keys stem.* and res2.*{by}"
    return None


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The backbone under torchvision's names, with res5 from the detector's backbone or head."""
    choose(file, (_NETWORK,), network)
    state, path = _state(file)
    ours = {key: _from_caffe2(key) for key in state} if "conv1_w" in state else dict.fromkeys(state, "")
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}stem.conv1.weight" in state), "")
    ours = {key: name or _without_detector(key, prefix) for key, name in ours.items()}
    table = _table(key_map.nearest(ours.values()))
    taken: dict[str, Any] = {}
    dropped = others_on_path(file.content, path)
    for key, value in state.items():
        reason = next((why for start, why in _REASONS.items() if key.startswith(start)), None)
        if key.endswith(_MOMENTUM):
            reason = "state of the optimiser, not weights"
        if prefix and not key.startswith("backbone."):
            reason = reason or "of the detector, not of its backbone"
        if ours[key] in table:
            taken[table[ours[key]]] = as_tensor(value)
        elif reason:
            dropped[key] = reason
        else:
            taken[f"{prefix}{ours[key]}, no name of detectron2's"] = value  # architecture.problems says "not mapped"
    images = _input(file, state)
    if "conv1_w" in state and not any(name.endswith(".running_mean") for name in taken):
        taken |= _statistics(taken)
        images = dataclasses.replace(images, assumed=f"{images.assumed}, {_AFFINE}")
    return RawBackbone(state=taken, dropped=dropped, input=images, networks=(_NETWORK,), network=_NETWORK)


def _statistics(taken: Mapping[str, Any]) -> dict[str, Tensor]:
    """Running mean 0 and variance 1 - 1e-5 for each batch norm: with them detectron2's only scale and offset."""
    biases = {name: value for name, value in taken.items() if name.endswith(".bias") and len(value.shape) == 1}
    norms = {name.removesuffix(".bias"): value for name, value in biases.items() if len(value) <= _MOST_CHANNELS}
    means = {f"{name}.running_mean": torch.zeros_like(value) for name, value in norms.items()}
    return means | {f"{name}.running_var": torch.ones_like(value) - _EPSILON for name, value in norms.items()}


def _state(file: CheckpointFile) -> tuple[dict[str, Any], tuple[str, ...]]:
    for path in _PLACES:
        found = find(file.content, path)
        if found:
            return unwrap(found)[0], path
    return {}, ()


def _from_caffe2(key: str) -> str:
    for pattern, replacement in _CAFFE2:
        match = re.fullmatch(pattern, key)
        key = match.expand(replacement) if match else key
    return key.replace("_", ".").replace("-", "_")


def _without_detector(key: str, prefix: str) -> str:
    in_head = prefix == "backbone." and key.startswith(f"{_HEAD}res5.")
    return key.removeprefix(_HEAD) if in_head else key.removeprefix(prefix)


def _table(architecture: str) -> dict[str, str]:
    """detectron2's name → torchvision's, with the counters, which a detector with trained batch norms has."""
    table = key_map.to_torchvision(architecture)
    counters = {
        ours.removesuffix(".running_mean") + key_map.COUNTER: theirs.removesuffix(".running_mean") + key_map.COUNTER
        for ours, theirs in table.items()
        if ours.endswith(".running_mean")
    }
    return table | counters


def _input(file: CheckpointFile, state: Mapping[str, Any]) -> PixelInput:
    proof = converted.usable(file.path) if file.path.suffix == ".pkl" else None
    if proof:
        return proof.input
    from_config = _from_config(file)
    if from_config:
        return from_config
    if "blobs" in file.content:
        return DETECTRON
    if "conv1_w" in state or file.content.get("__author__") == "Detectron2 Model Zoo":
        return MSRA
    mean, std = state.get("pixel_mean"), state.get("pixel_std")
    shapes = architecture.shapes_of({"mean": mean, "std": std}).values()
    return _from_pixels(mean, std) if [math.prod(shape) for shape in shapes] == [3, 3] else IMAGENET_INPUT


def _from_config(file: CheckpointFile) -> PixelInput | None:
    """The input recorded in a detector's config.yaml; None without one, or if it is not detectron2's."""
    try:
        model = yaml.safe_load(read_text(config := file.path.with_name("config.yaml"), _LARGEST_CONFIG))
        return PixelInput(
            mean=tuple(float(value) / 255 for value in model["MODEL"]["PIXEL_MEAN"]),
            std=tuple(float(value) / 255 for value in model["MODEL"]["PIXEL_STD"]),
            order=reprlib.repr(model["INPUT"]["FORMAT"]).strip("'"),
            stride_in_1x1=bool(model["MODEL"]["RESNETS"]["STRIDE_IN_1X1"]),
            assumed=f"the input that {config.name} beside the file says",
        )
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError, yaml.YAMLError):
        return None


def _from_pixels(mean: Any, std: Any) -> PixelInput:
    """The input from an old detector's pixel mean and std; the order is BGR if the first mean is below the last."""
    means, stds = (tuple(float(value) / 255 for value in np.asarray(values).reshape(-1)) for values in (mean, std))
    order = "BGR" if means[0] < means[-1] else "RGB"
    in_1x1 = order == "BGR" and max(stds) < 2 / 255
    return PixelInput(
        mean=means,
        std=stds,
        order=order,
        stride_in_1x1=in_1x1,
        assumed=f"{order} images, stride in the {'1×1' if in_1x1 else '3×3'} convolutions: from the file's pixel mean",
    )


FAMILY = Family(
    name="detectron2",
    title="detectron2's .pkl and whole detectors (ours, MSRA's, the model zoo's, Detectron's)",
    known_from=(
        "facebookresearch/detectron2:checkpoint/c2_model_loading.py, tools/convert-torchvision-to-d2.py; "
        f"facebookresearch/Detectron:detectron/utils/net.py, detectron/core/config.py, {PUBLISHED_CODE}; "
        f"{WRITTEN_IN_TEST}"
    ),
    recognise=recognise,
    extract=extract,
)
