"""The digest of named tensors, and ImageNet's pixel statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.common.pixels import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "tensor_digest"]


def tensor_digest(state: Mapping[str, Tensor]) -> str:
    """Sha256 hex over sorted names; for each name its dtype, shape and contiguous little-endian bytes."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
