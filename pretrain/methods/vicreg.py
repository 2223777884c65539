"""VICReg (Bardes et al., arXiv 2105.04906): views alike, every dimension spread out, dimensions uncorrelated.

Run: ``python -m pretrain demo-vicreg --data FOLDER``.
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
class VICRegConfig(MethodConfig):
    """VICReg's settings for ImageNet (section 4.2; facebookresearch/vicreg main_vicreg.py)."""

    dim: Annotated[int, at_least(2)] = 8192
    hidden_dim: Annotated[int, at_least(2)] = 8192
    invariance_weight: Annotated[float, NonNegative] = 25.0  # λ
    variance_weight: Annotated[float, NonNegative] = 25.0  # μ
    covariance_weight: Annotated[float, NonNegative] = 1.0  # ν


def vicreg_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(invariance, variance, covariance) of (N, d) and (N, d), as in the authors' code.

    Mean squared difference over all elements (eq. 5 divided by d); mean hinge max(0, 1 − std) of each view, halved and
    summed (eq. 1, 2, ε 1e-4); squared covariances off the diagonal over d, of both views (eq. 3, 4).
    """
    with torch.autocast(z1.device.type, enabled=False):
        z1, z2 = z1.float(), z2.float()
        variances, covariances = [], []
        for z in (z1, z2):
            centred = z - z.mean(0)
            covariance = centred.T @ centred / (len(z) - 1)
            variance = covariance.diagonal()
            variances.append(F.relu(1 - (variance + 1e-4).sqrt()).mean())
            covariances.append((covariance.square().sum() - variance.square().sum()) / z.shape[1])
        return F.mse_loss(z1, z2), torch.stack(variances).mean(), torch.stack(covariances).sum()


class VICReg(Method):
    """Backbone and three-layer expander."""

    Config = VICRegConfig
    head_name = "expander"
    config: VICRegConfig

    def __init__(self, config: VICRegConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.expander = mlp_bn(sizes.feature_dim, config.hidden_dim, config.hidden_dim, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss, the weighted sum (eq. 6); invariance, variance and covariance."""
        config = self.config
        z1, z2 = (gather(self.expander(self.backbone(view))) for view in batch.views)
        invariance, variance, covariance = vicreg_terms(z1, z2)
        loss = config.invariance_weight * invariance + config.variance_weight * variance
        loss = loss + config.covariance_weight * covariance
        terms = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}
