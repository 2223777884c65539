"""Check that detectron2's DetectionCheckpointer really loaded the converted weights into a detector.

    python -m transfer verify FILE.pkl --detector PROTOCOL

The checkpointer matches names by their longest common suffix, skips shapes that differ, and logs missing names;
training then starts from scratch. These checks stop the run in each of these cases.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from pretrain.common.errors import RunError
from transfer.checkpoints import converted, key_map
from transfer.checkpoints.architecture import first_few
from transfer.detection import heads
from transfer.detection.config import detector_cfg

# A detector's parts outside the backbone: RPN, heads, FPN layers, the batch norm after res5 of the C4 head; RetinaNet's
# head and the two layers above its FPN.
OWN_PARTS = (
    *("proposal_generator.", "roi_heads.box_", "roi_heads.mask_", "roi_heads.keypoint_", "roi_heads.res5.norm."),
    *("backbone.fpn_", "head.", "backbone.top_block."),
)


def detector_names(model: nn.Module, architecture: str) -> dict[str, str]:
    """Name in a .pkl → name in ``model``: an FPN keeps all stages in bottom_up, a C4 has res5 in its head."""
    wanted = key_map.to_torchvision(architecture)
    if any(name.startswith("backbone.bottom_up.") for name in model.state_dict()):
        return {name: f"backbone.bottom_up.{name}" for name in wanted}
    return {name: f"roi_heads.{name}" if name.startswith("res5.") else f"backbone.{name}" for name in wanted}


def check_detector(arrays: Mapping[str, np.ndarray], stride_in_1x1: bool, protocol: str, path: Path | str) -> list[str]:
    """Load ``arrays`` (of ``path``) into a protocol's detector as training does, and report what comes from the file.

    Two lines: the number of backbone tensors that equal the file's, and the freshly initialised parameters.
    ``protocol`` is a name of ours or a YAML file. RunError if a tensor differs, InputError for an unfit protocol.
    """
    architecture = key_map.nearest(arrays)
    cfg = detector_cfg(protocol, architecture, stride_in_1x1)
    model = build_model(cfg)
    with tempfile.TemporaryDirectory() as folder, _without_log():
        copy = Path(folder) / "weights.pkl"  # detectron2 would run code in the file; the copy holds only arrays
        copy.write_bytes(converted.pickled(dict(arrays)))
        DetectionCheckpointer(model).load(str(copy))
    count = assert_backbone_loaded(model, arrays, path)
    here = set(detector_names(model, architecture).values())
    own = [name for name, _ in model.named_parameters() if name not in here]
    return [
        f"proved: all {count} backbone tensors of {cfg.TRANSFER.PROTOCOL}'s detector equal the file bit for bit after "
        "DetectionCheckpointer loaded it",
        f"not from the file, freshly initialised: {len(own)} parameters: {_grouped(own)}",
    ]


def _grouped(parameters: list[str]) -> str:
    """Names shortened by their second-to-last part, with the count of each."""
    modules = (".".join(name.split(".")[:2]) if "res5" not in name else "roi_heads.res5.norm" for name in parameters)
    return ", ".join(f"{module}.* ({count})" for module, count in collections.Counter(modules).items())


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Silence the checkpointer's warnings of missing parameters, which ``check_detector`` reports in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def assert_backbone_loaded(model: nn.Module, arrays: Mapping[str, np.ndarray], path: Path | str) -> int:
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
            f"{len(wrong)} of {len(places)} backbone tensors differ from those of {path}: {first_few(wrong)}; "
            "the detector does not fit the checkpoint"
        )
    known = set(places.values())
    strange = [n for n in state if n not in known and not n.startswith(OWN_PARTS) and not n.endswith(key_map.COUNTER)]
    if strange:
        raise RunError(f"the detector has backbone tensors that the checkpoint lacks: {first_few(strange)}")
    return len(places)


def assert_trainable(model: nn.Module, cfg: CfgNode) -> list[str]:
    """Names of the backbone's trainable parameters.

    RunError if the detector's trainable parameters are not exactly those of the backbone that FREEZE_AT, NORM and a
    frozen C4 head imply, and all of the detector's own parts.
    """
    places = detector_names(model, f"resnet{cfg.MODEL.RESNETS.DEPTH}")
    head_trains = cfg.MODEL.ROI_HEADS.NAME != heads.FROZEN  # res5 of a C4 detector
    wanted = {
        place
        for name, place in places.items()
        if not name.endswith(("running_mean", "running_var"))
        and (_stage(name) > cfg.MODEL.BACKBONE.FREEZE_AT or (place.startswith("roi_heads.") and head_trains))
        and not (".norm." in name and cfg.MODEL.RESNETS.NORM == "FrozenBN")
    }
    here = set(places.values())
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name in here}
    if found != wanted:
        raise RunError(
            f"FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT} should train {len(wanted)} backbone tensors, the model trains "
            f"{len(found)}; first difference: {first_few(sorted(found ^ wanted))}"
        )
    still = [name for name, parameter in model.named_parameters() if not (parameter.requires_grad or name in here)]
    if still:
        raise RunError(f"{len(still)} parameters of the detector's own parts are frozen: {first_few(still)}")
    return sorted(found)


def _stage(name: str) -> int:
    """The stage's number in FREEZE_AT's counting: 1 for the stem, 2 … 5 for res2 … res5."""
    return 1 if name.startswith("stem.") else int(name[3])


def _same_bytes(found: Tensor, wanted: Tensor) -> bool:
    found = found.detach().cpu().contiguous()
    alike = found.shape == wanted.shape and found.dtype == wanted.dtype
    return alike and torch.equal(found.view(torch.int32), wanted.view(torch.int32))
