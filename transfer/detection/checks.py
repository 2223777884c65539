"""Did the weights arrive? Checks on a detector after detectron2's DetectionCheckpointer has loaded converted weights.

The checkpointer matches names by their longest common suffix, skips shapes that differ, and logs what is missing;
training then goes on from scratch. Here each of these stops the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from pretrain.common.errors import RunError
from transfer.checkpoints import key_map
from transfer.checkpoints.architecture import first_few

# What a detector has beside the backbone: RPN, heads, FPN layers, and the batch norm after res5 of the C4 head.
OWN_PARTS = ("proposal_generator.", "roi_heads.box_", "roi_heads.mask_", "roi_heads.res5.norm.", "backbone.fpn_")


def detector_names(model: nn.Module, architecture: str) -> dict[str, str]:
    """Name in a .pkl → name in ``model``: an FPN keeps all stages in bottom_up, a C4 has res5 in its head."""
    wanted = key_map.to_torchvision(architecture)
    if any(name.startswith("backbone.bottom_up.") for name in model.state_dict()):
        return {name: f"backbone.bottom_up.{name}" for name in wanted}
    return {name: f"roi_heads.{name}" if name.startswith("res5.") else f"backbone.{name}" for name in wanted}


def require_arrival(model: nn.Module, arrays: Mapping[str, np.ndarray], path: Path | str) -> int:
    """Number of backbone tensors of ``model``, all equal to ``arrays`` (of ``path``) bit for bit. RunError otherwise.

    RunError also when the model has a tensor that is neither the backbone's nor of OWN_PARTS.
    """
    state, places = model.state_dict(), detector_names(model, key_map.nearest(arrays))
    wrong = [
        place
        for name, place in places.items()
        if place not in state
        or name not in arrays
        or not _same_bytes(state[place], torch.from_numpy(arrays[name].copy()))
    ]
    if wrong:
        raise RunError(
            f"{len(wrong)} of {len(places)} backbone tensors are not those of {path}: {first_few(wrong)}; "
            "the detector does not fit the checkpoint"
        )
    known = set(places.values())
    strange = [n for n in state if n not in known and not n.startswith(OWN_PARTS) and not n.endswith(key_map.COUNTER)]
    if strange:
        raise RunError(f"the detector has backbone tensors that the checkpoint lacks: {first_few(strange)}")
    return len(places)


def require_trainable(model: nn.Module, cfg: CfgNode) -> list[str]:
    """Names of the backbone's trainable parameters: exactly those that FREEZE_AT and NORM say, or RunError."""
    places = detector_names(model, f"resnet{cfg.MODEL.RESNETS.DEPTH}")
    wanted = {
        place
        for name, place in places.items()
        if not name.endswith(("running_mean", "running_var"))
        and (_stage(name) > cfg.MODEL.BACKBONE.FREEZE_AT or place.startswith("roi_heads."))
        and not (".norm." in name and cfg.MODEL.RESNETS.NORM == "FrozenBN")
    }
    here = set(places.values())
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name in here}
    if found != wanted:
        raise RunError(
            f"FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT} should train {len(wanted)} backbone tensors, the model trains "
            f"{len(found)}; first difference: {first_few(sorted(found ^ wanted))}"
        )
    return sorted(found)


def _stage(name: str) -> int:
    """FREEZE_AT's number of the stage: 1 for the stem, 2 … 5 for res2 … res5."""
    return 1 if name.startswith("stem.") else int(name[3])


def _same_bytes(found: Tensor, wanted: Tensor) -> bool:
    found = found.detach().cpu().contiguous()
    alike = found.shape == wanted.shape and found.dtype == wanted.dtype
    return alike and torch.equal(found.view(torch.int32), wanted.view(torch.int32))
