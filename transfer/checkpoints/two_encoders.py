"""Read and check CMC's two encoders of one of our pretraining runs, for tasks that need only features.

Conversion refuses them, because no ResNet of detectron2's computes them; linear evaluation is CMC's own (Tian et al.,
arXiv 1906.05849).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
import torchvision
from torch import nn

from pretrain.common.errors import InputError
from pretrain.methods.cmc_encoders import Space, TwoEncoders
from transfer.checkpoints.architecture import first_few
from transfer.checkpoints.backbone import Backbone, weights_digest
from transfer.checkpoints.families import superinfo
from transfer.checkpoints.reading.read import CheckpointFile

GENERATOR = "view-generator"
PREFIX = "cmc-"  # before torchvision's name of the ResNet whose halves they are


def build_two_encoders(architecture: str, meta: Mapping[str, Any]) -> nn.Module:
    """N×3×H×W normalised RGB to N×D, with meaningless weights: ``architecture`` as "cmc-resnet50".

    ``meta`` is the run's meta.json. LookupError or TypeError where it does not name the encoders' colour space.
    """
    space: Any = "learned" if meta.get("method") == GENERATOR else meta["config"]["raw"]["method"]["space"]
    if space not in get_args(Space):
        raise LookupError(space)
    with torch.random.fork_rng(devices=[]):
        like = torchvision.models.get_model(architecture.removeprefix(PREFIX), weights=None)
        return TwoEncoders(like, space)


def read_two_encoders(file: CheckpointFile) -> Backbone | None:
    """The encoders with ``architecture`` "cmc-resnet50"; None for any file but a CMC run's backbone.safetensors.

    InputError in one line where tensors are missing, misshaped or not finite, or meta.json describes others.
    """
    if not (superinfo.recognise(file) and superinfo.holds_two_encoders(file)):
        return None
    raw, meta = superinfo.read(file), file.meta or {}
    architecture = PREFIX + str(meta.get("architecture"))
    try:
        wanted = build_two_encoders(architecture, meta).state_dict()
    except (LookupError, TypeError, ValueError):
        raise InputError(
            f"{file.path}: meta.json does not say which ResNet and colour space CMC's encoders have"
        ) from None
    odd = list(wanted.keys() ^ raw.state.keys())
    odd += [name for name in wanted if name not in odd and wanted[name].shape != raw.state[name].shape]
    odd += [name for name in wanted if name not in odd and not bool(torch.isfinite(raw.state[name]).all())]
    if odd:
        raise InputError(
            f"{file.path}: not CMC's encoders of half a {meta['architecture']} each (missing, unknown, misshaped or "
            f"not finite: {first_few(sorted(odd))})"
        )
    return Backbone(
        state=raw.state,
        family=superinfo.FAMILY.name,
        reason="CMC's two encoders",
        architecture=architecture,
        dropped=raw.dropped,
        input=raw.input,
        sha256=weights_digest(raw.state),
        meta=file.meta,
    )
