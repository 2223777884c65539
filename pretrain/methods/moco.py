"""MoCo (He et al., arXiv 1911.05722): queries against a queue of keys from a momentum encoder.

Run: ``python -m pretrain demo-moco --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from pretrain.common.ranges import Fraction, Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import l2_normalize
from pretrain.methods.memory import Queue, momentum_copy, shuffle, update_momentum
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueConfig(MethodConfig):
    """What methods with a queue have in common; MoCo's values for ImageNet (facebookresearch/moco main_moco.py)."""

    dim: Annotated[int, at_least(2)] = 128
    temperature: Annotated[float, Positive] = 0.07
    queue: Annotated[int, at_least(1)] = 65536  # keys
    momentum: Annotated[float, Fraction] = 0.999  # of the key encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoConfig(QueueConfig):
    """MoCo's settings: a linear head, τ 0.07."""


class MoCo(Method):
    """Query encoder with gradient, key encoder that follows it, queue of keys. MoCo v2 and InfoMin build on it."""

    Config: ClassVar[type[QueueConfig]] = MoCoConfig
    sync_batchnorm = False
    config: QueueConfig

    def __init__(self, config: QueueConfig, backbone: nn.Module, sizes: Sizes, head: nn.Module | None = None) -> None:
        super().__init__(config, backbone, sizes)
        self.head = head or nn.Linear(sizes.feature_dim, config.dim)
        self.key_backbone, self.key_head = momentum_copy(backbone), momentum_copy(self.head)
        self.queue = Queue(config.queue, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss and nce_score (log(1 + queue) − loss, no bound) in nats; embedding_std of the queries."""
        keys = self.keys(batch.views[1])
        queries = gather(l2_normalize(self.head(self.backbone(batch.views[0]))))
        loss, score = info_nce_memory(queries, keys, self.queue.snapshot(), self.config.temperature)
        self.remember(keys)
        return {"loss": loss, "nce_score": score.detach(), "embedding_std": embedding_std(queries)}

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Unit keys (N, d) of the whole batch; in training the key encoder first moves towards the query encoder."""
        if self.training:
            update_momentum(self.key_backbone, self.backbone, self.config.momentum)
            update_momentum(self.key_head, self.head, self.config.momentum)
        mine, restore = shuffle(images)
        return restore(l2_normalize(self.key_head(self.key_backbone(mine))))

    def remember(self, keys: Tensor) -> None:
        """In training, put ``keys`` into the queue."""
        if self.training:
            self.queue.push(keys)
