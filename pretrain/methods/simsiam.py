"""SimSiam (Chen and He, arXiv 2011.10566): predict the other view's projection, whose gradient is stopped.

The ImageNet preset keeps the predictor's learning rate at its peak, as --fix-pred-lr of facebookresearch/simsiam does
(the last row of the paper's table 1); demo-simsiam lets it follow the schedule.
Run: ``python -m pretrain demo-simsiam --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torch import Tensor, nn

from pretrain.common.ranges import at_least
from pretrain.information.objectives import embedding_std
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import l2_normalize, mlp_bn
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiamConfig(MethodConfig):
    """SimSiam's settings for ImageNet (section 3; facebookresearch/simsiam simsiam/builder.py)."""

    dim: Annotated[int, at_least(2)] = 2048  # of the projections
    hidden_dim: Annotated[int, at_least(2)] = 2048  # of the projector
    predictor_dim: Annotated[int, at_least(2)] = 512  # the predictor's bottleneck


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of −cos(p, z), rows (N, d), in [−1, 1] (eq. 1). The target's gradient is stopped."""
    return -(l2_normalize(predicted) * l2_normalize(target.detach())).sum(1).mean()


class SimSiam(Method):
    """Backbone, three-layer projector with BatchNorm throughout, two-layer predictor."""

    Config = SimSiamConfig
    head_name = "projector"
    config: SimSiamConfig

    def __init__(self, config: SimSiamConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        widths = (sizes.feature_dim, config.hidden_dim, config.hidden_dim, config.dim)
        self.projector = nn.Sequential(mlp_bn(*widths), nn.BatchNorm1d(config.dim, affine=False))
        self.predictor = mlp_bn(config.dim, config.predictor_dim, config.dim, bias=True)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss in [−1, 1], the mean of both directions (eq. 2); embedding_std, of the projections."""
        z1, z2 = (self.projector(self.backbone(view)) for view in batch.views)
        p1, p2 = gather(self.predictor(z1)), gather(self.predictor(z2))
        z1, z2 = gather(z1), gather(z2)
        loss = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
        return {"loss": loss, "embedding_std": embedding_std(l2_normalize(z1))}
