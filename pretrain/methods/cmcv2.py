"""CMC v2 (HobbitLong/PyContrast): CMC with two momentum queues in place of the banks, MLP heads and stronger views.

``backbone`` is both encoders, as CMC's. Run: ``python -m pretrain demo-cmcv2 --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn

from pretrain.common.ranges import Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, Sizes
from pretrain.methods.cmc import NO_GENERATOR
from pretrain.methods.cmc_encoders import Space, TwoEncoders
from pretrain.methods.heads import l2_normalize, mlp
from pretrain.methods.memory import Queue, momentum_copy, shuffle, update_momentum
from pretrain.methods.moco import QueueConfig
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class CMCV2Config(QueueConfig):
    """CMC v2's settings in PyContrast (pycontrast/options/base_options.py); the MLPs are as wide as their input."""

    temperature: Annotated[float, Positive] = 0.2
    hidden_dim: Annotated[int, at_least(2)] = 1024
    space: Space = "ydbdr"

    def conflict(self) -> str | None:
        """The flag and rule of a split without a generator."""
        return NO_GENERATOR if self.space == "learned" else None


class Heads(nn.Module):
    """One MLP per encoder: both encoders' features (N, D) to unit embeddings of luminance and chrominance, (N, d)."""

    def __init__(self, config: CMCV2Config, feature_dim: int) -> None:
        super().__init__()
        widths = (feature_dim // 2, config.hidden_dim, config.dim)
        self.head1, self.head2 = mlp(*widths), mlp(*widths)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        h1, h2 = features.chunk(2, 1)
        return l2_normalize(self.head1(h1)), l2_normalize(self.head2(h2))


class CMCV2(Method):
    """Query and key encoders with their heads, one queue per half."""

    Config = CMCV2Config
    sync_batchnorm = False
    config: CMCV2Config

    def __init__(self, config: CMCV2Config, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, TwoEncoders(backbone, config.space), sizes)
        self.heads = Heads(config, sizes.feature_dim)
        self.key_backbone, self.key_heads = momentum_copy(self.backbone), momentum_copy(self.heads)
        self.queue1, self.queue2 = (Queue(config.queue, config.dim) for _ in range(2))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms as CMC's."""
        temperature = self.config.temperature
        key1, key2 = self.keys(batch.views[1])
        z1, z2 = (gather(z) for z in self.heads(self.backbone(batch.views[0])))
        loss1, score1 = info_nce_memory(z1, key2, self.queue2.snapshot(), temperature)
        loss2, score2 = info_nce_memory(z2, key1, self.queue1.snapshot(), temperature)
        if self.training:
            self.queue1.push(key1)
            self.queue2.push(key2)
        losses = {"luminance": loss1.detach(), "chrominance": loss2.detach()}
        score = (score1 + score2).detach() / 2
        return {"loss": loss1 + loss2, **losses, "nce_score": score, "embedding_std": embedding_std(z1)}

    @torch.no_grad()
    def keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Unit keys of both halves, (N, d) each, of the whole batch; in training the key side first moves."""
        if self.training:
            update_momentum(self.key_backbone, self.backbone, self.config.momentum)
            update_momentum(self.key_heads, self.heads, self.config.momentum)
        mine, restore = shuffle(images)
        key1, key2 = self.key_heads(self.key_backbone(mine))
        return restore(key1), restore(key2)
