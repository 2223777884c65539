"""Barlow Twins (Zbontar et al., arXiv 2103.03230): the views' cross-correlation matrix is to be the identity.

Run: ``python -m pretrain demo-barlowtwins --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.common.ranges import NonNegative, at_least
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import mlp_bn
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig(MethodConfig):
    """Barlow Twins' settings for ImageNet (section 2.2; facebookresearch/barlowtwins main.py)."""

    dim: Annotated[int, at_least(2)] = 8192
    hidden_dim: Annotated[int, at_least(2)] = 8192
    redundancy_weight: Annotated[float, NonNegative] = 0.0051  # λ


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """(d, d) correlations over the batch between the dimensions of z1 and of z2, each (N, d) (eq. 2)."""
    n = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        first, second = (F.batch_norm(z.float(), None, None, training=True) for z in (z1, z2))
        return first.T @ second / n


def barlow_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """(invariance, redundancy): Σ (1 − Cii)², and Σ Cij² off the diagonal (eq. 1)."""
    correlation = cross_correlation(z1, z2)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()


class BarlowTwins(Method):
    """Backbone and three-layer projector."""

    Config = BarlowTwinsConfig
    head_name = "projector"
    config: BarlowTwinsConfig

    def __init__(self, config: BarlowTwinsConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.projector = mlp_bn(sizes.feature_dim, config.hidden_dim, config.hidden_dim, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss = invariance + λ · redundancy."""
        z1, z2 = (gather(self.projector(self.backbone(view))) for view in batch.views)
        invariance, redundancy = barlow_terms(z1, z2)
        loss = invariance + self.config.redundancy_weight * redundancy
        return {"loss": loss, "invariance": invariance.detach(), "redundancy": redundancy.detach()}
