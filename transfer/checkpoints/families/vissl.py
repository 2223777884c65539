"""VISSL: the trunk of a training checkpoint in either of its layouts, DINO's teacher, or a bare trunk.

DINO's teacher is in the state of the loss; VISSL's own script extracts it for evaluation. VISSL's
convert_vissl_to_torchvision.py writes torchvision's layout.
"""

from __future__ import annotations

import dataclasses
import reprlib

from pretrain.common.errors import InputError
from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE, RawBackbone, find
from transfer.checkpoints.families.layout import Layout, first_match
from transfer.checkpoints.reading.read import CheckpointFile

_BLOCKS = "_feature_blocks."
_FROZEN = f"base_model.{_BLOCKS}"  # of a trunk that was evaluated with frozen features
_MODEL = "classy_state_dict/base_model/model"
_LOSS = "classy_state_dict/loss/"

_TRAINED = Layout(
    name="vissl",
    title="VISSL",
    known_from=(
        "facebookresearch/vissl:vissl/models/trunks/resnext.py, extra_scripts/convert_vissl_to_{detectron2,torchvision}"
        f".py, extra_scripts/convert_dino_checkpoint.py; {PUBLISHED_CODE}"
    ),
    networks={"trunk": f"{_MODEL}/trunk/{_BLOCKS}"},
    drop={f"{_MODEL}/heads/": HEAD, _LOSS: "state of the loss, not part of the backbone"},
)
_TEACHER = f"{_LOSS}momentum_teacher.trunk.{_BLOCKS}"
_BARE = dataclasses.replace(
    _TRAINED, inside=(("model_state_dict",), ()), networks={"trunk": _BLOCKS}, drop={"heads.": HEAD}
)

_ANY = first_match(
    dataclasses.replace(_TRAINED, networks={"teacher": _TEACHER, **_TRAINED.networks}, marks=(_TEACHER,)),
    _TRAINED,
    dataclasses.replace(_TRAINED, networks={"trunk": f"{_MODEL}/trunk/{_FROZEN}"}),
    _BARE,
    dataclasses.replace(_BARE, networks={"trunk": _FROZEN}),
)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The trunk or the teacher. InputError where the config in the file says that the last stage has stride 1."""
    settings = find(file.content, ("config", "MODEL", "TRUNK", "RESNETS")) or {}
    raw = _ANY.extract(file, network)
    if settings.get("LAYER4_STRIDE", 2) != 2:
        raise InputError(
            f"{file.path}: its config says LAYER4_STRIDE {reprlib.repr(settings['LAYER4_STRIDE'])}: "
            "detectron2 has only a last stage of stride 2 in C4 and FPN"
        )
    return raw


FAMILY = dataclasses.replace(_ANY, extract=extract)
