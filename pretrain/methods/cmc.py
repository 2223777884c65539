"""CMC (Tian et al., arXiv 1906.05849): luminance finds the image's chrominance in a memory bank, and the reverse.

``backbone`` is both encoders, for linear evaluation; it is no ResNet of detectron2's and is not converted. Negatives as
in instdis.py. Run: ``python -m pretrain demo-cmc --data FOLDER``.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, Sizes
from pretrain.methods.cmc_encoders import Space, TwoEncoders
from pretrain.methods.heads import l2_normalize
from pretrain.methods.instdis import BankConfig
from pretrain.methods.memory import Bank
from pretrain.runtime.distributed import gather, gather_no_grad

NO_GENERATOR = "space learned: take the method split-views, which has a generator"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CMCConfig(BankConfig):
    """CMC's settings: linear heads."""

    space: Space = "lab"  # PyContrast takes ydbdr; learned is for split-views

    def conflict(self) -> str | None:
        """The flag and rule of a split without a generator."""
        return NO_GENERATOR if self.space == "learned" else None


class CMC(Method):
    """Two half-width encoders, a linear head and a bank for each."""

    Config = CMCConfig
    views = 1
    config: CMCConfig

    def __init__(self, config: CMCConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, TwoEncoders(backbone, config.space), sizes)
        self.head1, self.head2 = (nn.Linear(sizes.feature_dim // 2, config.dim) for _ in range(2))
        self.bank1, self.bank2 = (Bank(sizes.num_images, config.dim) for _ in range(2))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms in nats: loss, luminance + chrominance, and the mean nce_score; embedding_std, of luminance."""
        config, index = self.config, gather_no_grad(batch.index)
        h1, h2 = self.backbone(batch.views[0]).chunk(2, 1)
        z1, z2 = gather(l2_normalize(self.head1(h1))), gather(l2_normalize(self.head2(h2)))
        drawn = self.bank1.draw(config.negatives)
        loss1, score1 = info_nce_memory(z1, self.bank2.of(index), self.bank2.of(drawn), config.temperature)
        loss2, score2 = info_nce_memory(z2, self.bank1.of(index), self.bank1.of(drawn), config.temperature)
        if self.training:
            self.bank1.update(index, z1, config.bank_momentum)
            self.bank2.update(index, z2, config.bank_momentum)
        losses = {"luminance": loss1.detach(), "chrominance": loss2.detach()}
        score = (score1 + score2).detach() / 2
        return {"loss": loss1 + loss2, **losses, "nce_score": score, "embedding_std": embedding_std(z1)}
