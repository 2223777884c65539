"""SimCLR (Chen et al., arXiv 2002.05709): NT-Xent over the 2N−1 in-batch candidates.

Run: ``python -m pretrain demo-simclr --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn

from pretrain.common.ranges import Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce, nt_xent
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import l2_normalize, projection_mlp
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLRConfig(MethodConfig):
    """SimCLR's settings for ImageNet: head 2048-2048-128, τ 0.1 (google-research/simclr README)."""

    dim: Annotated[int, at_least(2)] = 128
    hidden_dim: Annotated[int, at_least(2)] = 2048
    temperature: Annotated[float, Positive] = 0.1


class SimCLR(Method):
    """Backbone, MLP head, NT-Xent between the two views' directions."""

    Config = SimCLRConfig
    config: SimCLRConfig

    def __init__(self, config: SimCLRConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.head = projection_mlp(sizes.feature_dim, config.hidden_dim, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss, nce_score (log(2N−1) − loss, no bound), predictive (log N − two-tower loss); embedding_std."""
        # Both views in one pass, so that BatchNorm's statistics tell them no more apart than their content does.
        z1, z2 = (gather(z) for z in l2_normalize(self.head(self.backbone(torch.cat(batch.views)))).chunk(2))
        loss, score = nt_xent(z1, z2, self.config.temperature)
        with torch.autocast(z1.device.type, enabled=False):
            similarity = (z1 @ z2.T).detach() / self.config.temperature
        _, predictive = info_nce(similarity, similarity.T)
        return {"loss": loss, "nce_score": score.detach(), "predictive": predictive, "embedding_std": embedding_std(z1)}
