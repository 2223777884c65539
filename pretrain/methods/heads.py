"""Projection heads on top of the backbone's pooled features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def projection_mlp(feature_dim: int, hidden_dim: int, dim: int) -> nn.Sequential:
    """SimCLR's two-layer head, (N, feature_dim) to (N, dim), with BatchNorm after both layers.

    The output's BatchNorm learns a scale but no offset: google-research/simclr model_util.py, projection_head.
    """
    last = nn.BatchNorm1d(dim)
    last.bias.requires_grad_(False)
    return nn.Sequential(
        nn.Linear(feature_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, dim, bias=False),
        last,
    )


def unit(embedding: Tensor) -> Tensor:
    """Rows of (N, d) scaled to length 1, in float32 also inside autocast."""
    with torch.autocast(embedding.device.type, enabled=False):
        return F.normalize(embedding.float(), dim=1)
