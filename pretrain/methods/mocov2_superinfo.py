"""SuperInfo's terms with MoCo v2's candidates: z of the query against a queue of keys, and both superfluous terms.

The key encoder gives p(z2|v2) without gradient, so S12 and S21 move the query encoder alone; both are the cross-view
bound, because InfoNCE over a queue bounds nothing that ``rate`` could use (superinfo.py has the objective).
Run: ``python -m pretrain demo-mocov2-superinfo --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.common.ranges import Fraction, at_least
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, Sizes
from pretrain.methods.distributions import Embedding, logged
from pretrain.methods.heads import l2_normalize
from pretrain.methods.memory import Queue, momentum_copy, shuffle, update_momentum
from pretrain.methods.superinfo import StochasticHead, SuperInfoConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV2SuperInfoConfig(SuperInfoConfig):
    """SuperInfo's settings (1 / kappa-b is the temperature) and MoCo's queue."""

    queue: Annotated[int, at_least(1)] = 65536  # keys
    momentum: Annotated[float, Fraction] = 0.999  # of the key encoder


class MoCoV2SuperInfo(Method):
    """Query encoder to p(z1|v1), key encoder that follows it to p(z2|v2), queue of keys."""

    Config = MoCoV2SuperInfoConfig
    sync_batchnorm = False
    config: MoCoV2SuperInfoConfig

    def __init__(self, config: MoCoV2SuperInfoConfig, backbone: nn.Module, sizes: Sizes) -> None:
        if config.bound != "cross_view":
            raise InputError(f"--method.bound {config.bound}: with a queue it must be cross_view")
        super().__init__(config, backbone, sizes)
        self.head = StochasticHead(config, sizes.feature_dim)
        self.key_backbone, self.key_head = momentum_copy(backbone), momentum_copy(self.head)
        self.queue = Queue(config.queue, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms as SuperInfo's, but nce_score is log(1 + queue) − nce, no bound, and none is predictive."""
        config = self.config
        p2 = self.keys(batch.views[1])
        h = self.backbone(batch.views[0])
        p1 = self.head(h).gather()
        z1, z2 = (p.mu if config.deterministic else p.sample() for p in (p1, p2))
        keys = p2.keys(z2)
        nce, score = info_nce_memory(p1.directions(z1), keys, self.queue.snapshot(), 1 / config.kappa_b)
        if self.training:
            self.queue.push(keys)
        terms = {"nce": nce.detach(), "nce_score": score.detach(), "embedding_std": embedding_std(p1.directions(p1.mu))}
        terms["h_std"] = embedding_std(l2_normalize(h))
        if config.deterministic:
            return {"loss": nce, **terms}
        ramp, s12, s21 = config.ramp(progress), p1.cross_view(p2, z1), p2.cross_view(p1, z2)
        weight_a, weight_b = config.weights
        loss = nce + ramp * (weight_a * s12 + weight_b * s21)
        terms |= {**logged(config.bound, p1, s12, s21), "z_std": embedding_std(p1.directions(z1))}
        return {"loss": loss, **terms, **p1.noise(), "lambda_ramp": loss.new_tensor(ramp)}

    @torch.no_grad()
    def keys(self, images: Tensor) -> Embedding:
        """p(z2|v2) of the whole batch; in training the key encoder first moves towards the query encoder."""
        if self.training:
            update_momentum(self.key_backbone, self.backbone, self.config.momentum)
            update_momentum(self.key_head, self.head, self.config.momentum)
        mine, restore = shuffle(images)
        embedding: Embedding = self.key_head(self.key_backbone(mine))
        return embedding.apply(restore)

    def embedding(self, h: Tensor) -> Tensor:
        """(N, d): directions of the means μ."""
        found = self.head(h)
        return found.directions(found.mu)
