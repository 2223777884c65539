"""OpenMMLab's libraries and their relatives: OpenSelfSup, DenseCL, mmselfsup, mmpretrain.

The config in a training checkpoint's ``meta`` gives the position of the stride (style "caffe": in the 1×1 convolutions)
and the normalisation of images, BGR included. The trained network is ``backbone.``, in older releases once more in
``encoder_q.0.`` or ``online_net.0.``. After extract_backbone_weights.py a file has torchvision's layout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families import mmconfig
from transfer.checkpoints.families.base import (
    HEAD,
    LAST_STAGE_ASSUMED,
    OUTSIDE,
    PIXELS_ASSUMED,
    PUBLISHED_CODE,
    QUEUE,
    STRIDE_ASSUMED,
    RawBackbone,
)
from transfer.checkpoints.families.layout import Layout, first_match
from transfer.checkpoints.reading.read import CheckpointFile

_AGAIN = "the online network once more"
_LARGEST = 1e6  # of pixel statistics; also, a huge int cannot become a float
_MOMENTUM = ("encoder_k.0.", "target_net.0.")

_ONE = Layout(
    name="openmmlab",
    title="DenseCL, OpenSelfSup, mmselfsup, mmpretrain",
    known_from=(
        "WXinlong/DenseCL:openselfsup/models/densecl.py, tools/extract_backbone_weights.py; open-mmlab/mmselfsup:"
        "mmselfsup/models/algorithms; open-mmlab/mmpretrain:mmpretrain/models/selfsup/byol.py, "
        f"mmpretrain/models/backbones/resnet.py, mmpretrain/models/utils/data_preprocessor.py; {PUBLISHED_CODE}"
    ),
    inside=(("state_dict",),),
    networks={"online": "backbone."},
    drop={
        "": OUTSIDE,
        "neck.": HEAD,
        "head.": HEAD,
        "queue": QUEUE,
        "encoder_q.": _AGAIN,
        "online_net.": _AGAIN,
    },
    marks=("meta",),
)

_ANY = first_match(
    *(
        dataclasses.replace(_ONE, networks={"online": "backbone.", "momentum": prefix}, marks=(prefix,))
        for prefix in _MOMENTUM
    ),
    _ONE,
)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The network, with stride and input from the config. InputError for unsupported strides of its stages."""
    raw, config = _ANY.extract(file, network), mmconfig.read(file.content.get("meta"))
    model = config.get("model")
    backbone = model.get("backbone") if isinstance(model, dict) else None
    changes, assumed = _pixels(config), []
    if not changes:
        assumed.append(PIXELS_ASSUMED)
    if isinstance(backbone, dict):
        changes["stride_in_1x1"] = backbone.get("style") == "caffe" and "layer1.0.conv3.weight" in raw.state
        for key, usual in (("strides", ["1", "2", "2", "2"]), ("dilations", ["1"] * 4)):
            given = backbone.get(key)
            # Only numbers are printed: parts of a pickle can be shared 2^60 times.
            shown = [f"{one}" if isinstance(one, int) else "?" for one in given[:8]] if _several(given) else []
            if shown != usual[: len(shown)]:
                raise InputError(
                    f"{file.path}: its config says {key} {', '.join(shown)}: detectron2's C4 and FPN detectors have "
                    "only stages of stride 1, 2, 2 and 2 without dilation"
                )
    else:
        assumed += [STRIDE_ASSUMED, LAST_STAGE_ASSUMED]
    return dataclasses.replace(raw, input=PixelInput(**changes, assumed=", ".join(assumed)))


def _pixels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, std and order of the channels as in PixelInput; {} where the config lacks them."""
    model = config.get("model")
    inside = model.get("data_preprocessor") if isinstance(model, dict) else None
    for place in (inside, config.get("data_preprocessor")):  # mmengine's: to_rgb is off by default
        if isinstance(place, dict) and _three(place.get("mean")) and _three(place.get("std")):
            to_rgb = any(place.get(key) is True for key in ("to_rgb", "bgr_to_rgb"))
            return _statistics(place, to_rgb, 255.0)
    written = config.get("img_norm_cfg")
    for place in [*([written] if isinstance(written, dict) else []), *mmconfig.find_all(dict(config), "Normalize")]:
        if not (_three(place.get("mean")) and _three(place.get("std"))):
            continue
        # mmcv's is for 0 to 255 and makes RGB by default; torchvision's, in OpenSelfSup, is for RGB in [0, 1].
        of_torchvision = "to_rgb" not in place and max(*place["mean"], *place["std"]) <= 1
        return _statistics(place, place.get("to_rgb", True) is True, 1.0 if of_torchvision else 255.0)
    return {}


def _statistics(place: Mapping[str, Any], to_rgb: bool, scale: float) -> dict[str, Any]:
    mean, std = (tuple(value / scale for value in place[key]) for key in ("mean", "std"))
    return {"mean": mean, "std": std, "order": "RGB" if to_rgb else "BGR"}


def _three(values: Any) -> bool:
    three = _several(values) and len(values) == 3
    return three and all(isinstance(value, (int, float)) and abs(value) < _LARGEST for value in values)


def _several(values: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(values, (list, tuple))


FAMILY = dataclasses.replace(_ANY, extract=extract)
