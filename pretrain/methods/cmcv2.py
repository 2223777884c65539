"""CMC v2 (HobbitLong/PyContrast): CMC with two momentum queues in place of the banks, MLP heads and stronger views.

``backbone`` is both encoders, as CMC's. Run: ``python -m pretrain demo-cmcv2 --data FOLDER``.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from pretrain.information.objectives import info_nce_stored, spread
from pretrain.methods.base import Batch, Sizes
from pretrain.methods.cmc_encoders import Space, TwoEncoders
from pretrain.methods.heads import plain_head, unit
from pretrain.methods.memory import Queue, momentum_copy, shuffle, update_momentum
from pretrain.methods.moco import QueueConfig
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class CMCV2Config(QueueConfig):
    """CMC v2's settings in PyContrast (pycontrast/options/base_options.py); the MLPs are as wide as their input."""

    temperature: float = 0.2
    hidden_dim: int = 1024
    space: Space = "ydbdr"


class Embedder(nn.Module):
    """Both encoders and their heads: images to unit embeddings of luminance and of chrominance, each (N, d)."""

    def __init__(self, config: CMCV2Config, backbone: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.backbone = TwoEncoders(backbone, config.space)
        widths = (feature_dim // 2, config.hidden_dim, config.dim)
        self.head1, self.head2 = plain_head(*widths), plain_head(*widths)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        h1, h2 = self.backbone(images).chunk(2, 1)
        return unit(self.head1(h1)), unit(self.head2(h2))


class CMCV2(nn.Module):
    """Query and key embedders, a queue for each half."""

    def __init__(self, config: CMCV2Config, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.feature_dim = config, sizes.feature_dim
        self.queries = Embedder(config, backbone, sizes.feature_dim)
        self.slow = momentum_copy(self.queries)
        self.queue1, self.queue2 = (Queue(config.queue, config.dim) for _ in range(2))

    @property
    def backbone(self) -> nn.Module:
        """The query side's encoders."""
        return self.queries.backbone

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms as CMC's."""
        temperature = self.config.temperature
        key1, key2 = self.keys(batch.views[1])
        z1, z2 = (gather(z) for z in self.queries(batch.views[0]))
        loss1, score1 = info_nce_stored(z1, key2, self.queue2.snapshot(), temperature)
        loss2, score2 = info_nce_stored(z2, key1, self.queue1.snapshot(), temperature)
        if self.training:
            self.queue1.push(key1)
            self.queue2.push(key2)
        losses = {"luminance": loss1.detach(), "chrominance": loss2.detach()}
        score = (score1 + score2).detach() / 2
        return {"loss": loss1 + loss2, **losses, "score": score, "spread": spread(z1)}

    @torch.no_grad()
    def keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Unit keys of both halves, (N, d) each, of the whole batch; in training the slow side first moves."""
        if self.training:
            update_momentum(self.slow, self.queries, self.config.momentum)
        mine, restore = shuffle(images)
        key1, key2 = self.slow(mine)
        return restore(key1), restore(key2)
