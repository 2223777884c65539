"""BYOL (Grill et al., arXiv 2006.07733): predict what a slowly moving target network makes of the other view.

Run: ``python -m pretrain demo-byol --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor, nn

from pretrain.common.ranges import Fraction, at_least
from pretrain.information.objectives import embedding_std
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import l2_normalize, mlp_bn
from pretrain.methods.memory import momentum_copy, update_momentum
from pretrain.runtime.distributed import gather, gather_no_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOLConfig(MethodConfig):
    """BYOL's settings for 300 epochs (google-deepmind/deepmind-research byol/configs/byol.py); τ is 0.996 for 1,000."""

    dim: Annotated[int, at_least(2)] = 256
    hidden_dim: Annotated[int, at_least(2)] = 4096  # of the projector and of the predictor
    target_momentum: Annotated[float, Fraction] = 0.99  # τ at the start; it rises to 1


def target_momentum(base: float, progress: float) -> float:
    """τ at ``progress`` in [0, 1]: 1 − (1 − base)(cos(π·progress) + 1)/2 (section 3.3)."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


def regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of ‖p̄ − t̄‖² = 2 − 2 cos(p, t), rows (N, d), in [0, 4] (eq. 2). The target's gradient is stopped."""
    return 2 - 2 * (l2_normalize(predicted) * l2_normalize(target.detach())).sum(1).mean()


class BYOL(Method):
    """Online backbone, projector and predictor; target backbone and projector that follow them."""

    Config = BYOLConfig
    head_name = "projector"
    config: BYOLConfig

    def __init__(self, config: BYOLConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.projector = mlp_bn(sizes.feature_dim, config.hidden_dim, config.dim)
        self.predictor = mlp_bn(config.dim, config.hidden_dim, config.dim)
        self.target_backbone, self.target_projector = momentum_copy(backbone), momentum_copy(self.projector)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss, both directions summed, in [0, 8]; embedding_std of the targets; target_momentum."""
        tau = target_momentum(self.config.target_momentum, progress)
        if self.training:
            update_momentum(self.target_backbone, self.backbone, tau)
            update_momentum(self.target_projector, self.projector, tau)
        with torch.no_grad():
            t1, t2 = (gather_no_grad(self.target_projector(self.target_backbone(view))) for view in batch.views)
        p1, p2 = (gather(self.predictor(self.projector(self.backbone(view)))) for view in batch.views)
        loss = regression_loss(p1, t2) + regression_loss(p2, t1)
        return {"loss": loss, "embedding_std": embedding_std(l2_normalize(t1)), "target_momentum": loss.new_tensor(tau)}
