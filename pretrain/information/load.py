"""A frozen backbone from a file: our own run's backbone.safetensors, or a plain state dict under torchvision's names.

``load_backbone(Path("results/pretrain/demo-superinfo-…"))``. Other families of checkpoints are read by the transfer
room, which this one does not import.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD, tensor_digest

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_ELSEWHERE = "python -m benchmarks diagnose reads checkpoints of other projects"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """``module`` in eval mode, N×3×H×W → N×D, with the pixels it expects: RGB or BGR in [0, 1], then mean and std."""

    module: nn.Module
    name: str
    sha256: str  # of the tensors
    pixel_mean: tuple[float, ...] = IMAGENET_MEAN
    pixel_std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = "RGB"
    image_size: int | None = None  # pixels it was trained at, where that is known


def load_backbone(path: Path) -> FrozenBackbone:
    """Read a run's folder, a .safetensors or a torch file (no code in it is run). InputError says what does not fit."""
    path = path / "backbone.safetensors" if path.is_dir() else path
    state = {name: value for name, value in _read(path).items() if not name.startswith("fc.")}
    module = _build(path, state)
    about = _about(path, tensor_digest(state))
    run = path.name == "backbone.safetensors"
    return FrozenBackbone(
        module=module.eval().requires_grad_(False),
        name=path.absolute().parent.name if run else path.stem,
        sha256=tensor_digest(state),
        **about,
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a run's folder, a .safetensors or a .pth as CHECKPOINT")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).split("\n")[0][:100]
        raise InputError(f"{path} cannot be read ({reason}); {_ELSEWHERE}") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} is not a plain state dict of tensors: {_ELSEWHERE}")
    return content


def _build(path: Path, state: dict[str, Tensor]) -> nn.Module:
    """torchvision's ResNet that has exactly these tensors."""
    for architecture in ARCHITECTURES:
        with torch.device("meta"):
            module: nn.Module = torchvision.models.get_model(architecture, weights=None)
        module.fc = nn.Identity()
        wanted = {name: value.shape for name, value in module.state_dict().items()}
        if wanted == {name: value.shape for name, value in state.items()}:
            module.load_state_dict(state, assign=True)
            return module.float()
    known = set(wanted)  # of the largest
    odd = next((name for name in state if name not in known), "shapes or a missing tensor")
    raise InputError(f"{path} has no ResNet under torchvision's names (first that does not fit: {odd}); {_ELSEWHERE}")


def _about(path: Path, sha256: str) -> dict[str, Any]:
    """What the run's meta.json says; nothing for other files. InputError if it is about other tensors."""
    record = path.with_name("meta.json")
    if path.name != "backbone.safetensors" or not record.is_file():
        return {}
    try:
        meta = json.loads(record.read_text(encoding="utf-8"))
        about = {
            "pixel_mean": tuple(meta["pixel_mean"]),
            "pixel_std": tuple(meta["pixel_std"]),
            "channel_order": meta["channel_order"],
            "image_size": int(meta["config"]["raw"]["image_size"]),
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{record} is not a pretraining run's ({error}): remove it or repair it") from error
    if meta.get("sha256") != sha256:
        raise InputError(f"{record} describes other tensors than {path}: one of the two was replaced")
    return about
