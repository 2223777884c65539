"""PIRL (Misra and van der Maaten, arXiv 1912.01991): an image and its jigsaw both find the image's row of a bank.

Softmax over drawn rows and a bank that takes the image's embedding, as in PyContrast (instdis.py has the details).
Run: ``python -m pretrain demo-pirl --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torch import Tensor, nn

from pretrain.common.ranges import Fraction
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, Sizes
from pretrain.methods.heads import JigsawHead, l2_normalize
from pretrain.methods.instdis import BankConfig
from pretrain.methods.memory import Bank
from pretrain.runtime.distributed import gather, gather_no_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class PIRLConfig(BankConfig):
    """PIRL's settings: linear heads, both losses with the same weight (arXiv 1912.01991, eq. 5)."""

    jigsaw_weight: Annotated[float, Fraction] = 0.5  # of the jigsaw's loss; the view's has the rest


class PIRL(Method):
    """Backbone, a head for the view, a head for its patches, bank."""

    Config = PIRLConfig
    views, patches = 1, True
    config: PIRLConfig

    def __init__(self, config: PIRLConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.head = nn.Linear(sizes.feature_dim, config.dim)
        self.jigsaw_head = JigsawHead(nn.Linear(sizes.feature_dim, config.dim), config.dim)
        self.bank = Bank(sizes.num_images, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms as InstDis', and the two losses that make up loss: view and jigsaw."""
        config, index = self.config, gather_no_grad(batch.index)
        first, patches = batch.views
        z = gather(l2_normalize(self.head(self.backbone(first))))
        puzzled = gather(l2_normalize(self.jigsaw_head(self.backbone(patches))))
        own, negatives = self.bank.of(index), self.bank.of(self.bank.draw(config.negatives))
        view, score = info_nce_memory(z, own, negatives, config.temperature)
        jigsaw, _ = info_nce_memory(puzzled, own, negatives, config.temperature)
        if self.training:
            self.bank.update(index, z, config.bank_momentum)
        loss = (1 - config.jigsaw_weight) * view + config.jigsaw_weight * jigsaw
        terms = {"view": view.detach(), "jigsaw": jigsaw.detach(), "nce_score": score.detach()}
        return {"loss": loss, **terms, "embedding_std": embedding_std(z)}
