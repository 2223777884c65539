"""A checkpoint as the rest of the project knows it: bare backbone tensors plus a JSON that says where they come from.

A finished pretraining run's folder holds ``backbone.safetensors`` (torchvision's names, 318 tensors for a ResNet-50,
strict-loadable), ``head.safetensors`` where the method has one head, and ``meta.json``, written last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from pretrain.common.files import replacing, write_json
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD, tensor_digest

BACKBONE, HEAD = "backbone.safetensors", "head.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Identity and origin of backbone weights. ``pixel_mean``/``pixel_std`` are for inputs in [0, 1]."""

    path: str  # of backbone.safetensors, relative to the meta.json beside it
    sha256: str  # of the tensors, see tensor_digest
    architecture: str
    method: str
    epoch: float
    images_seen: int
    dataset: dict[str, Any]  # name, size (images), fingerprint
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    channel_order: str = "RGB"
    config: dict[str, Any]  # {"raw": …, "resolved": …}
    git: dict[str, Any] | None
    versions: dict[str, str | None]
    created: str  # UTC
    head: str | None = None  # tensor_digest of head.safetensors


def save_checkpoint(
    folder: Path, state: Mapping[str, Tensor], head: Mapping[str, Tensor] | None = None, **meta: Any
) -> Checkpoint:
    """Write ``backbone.safetensors``, ``head.safetensors`` if there is a ``head``, then ``meta.json``.

    ``meta`` gives Checkpoint's other fields.
    """
    sha256, of_head = _write(folder / BACKBONE, state), _write(folder / HEAD, head) if head else None
    checkpoint = Checkpoint(path=BACKBONE, sha256=sha256, head=of_head, **meta)
    write_json(folder / "meta.json", dataclasses.asdict(checkpoint))
    return checkpoint


def _write(path: Path, state: Mapping[str, Tensor]) -> str:
    """The tensors' digest."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(plain))  # save_file would make it readable by its owner alone
    return tensor_digest(plain)
