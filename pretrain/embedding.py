"""The embedding z of a finished pretraining run: its head on pooled features h, from head.safetensors and meta.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.checkpoint import HEAD
from pretrain.common.errors import InputError
from pretrain.common.tensors import tensor_digest
from pretrain.config import FEATURE_DIM
from pretrain.methods import METHODS, Sizes


def load_embedding(folder: Path) -> Callable[[Tensor], Tensor] | None:
    """From pooled features (N, D) to unit embeddings (N, d) float32, BatchNorm with its running statistics.

    None for a run without a head: a method that has none, or one finished before heads were kept. InputError where the
    files are not those of one run.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta.get("head") is None or meta["method"] not in METHODS:
            return None
        state = load_file(folder / HEAD)
        if tensor_digest(state) != meta["head"]:
            raise ValueError("its tensors are others than meta.json names")
        cls = METHODS[meta["method"]]
        sizes = Sizes(feature_dim=FEATURE_DIM[meta["architecture"]], num_classes=0, num_images=2)
        method = cls(cls.Config(**meta["config"]["raw"]["method"]), nn.Identity(), sizes)
        getattr(method, method.head_name).load_state_dict(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / HEAD} cannot be read ({reason}): copy the run's whole folder again") from None
    method.eval()

    @torch.inference_mode()
    def embed(h: Tensor) -> Tensor:
        return method.embedding(h.float())

    return embed
