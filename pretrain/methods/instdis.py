"""InstDis (Wu et al., arXiv 1805.01978): every image is a class of its own, kept in a memory bank.

One view an image; its positive is its own row of the bank. Softmax over m drawn rows as in PyContrast, where the paper
has noise-contrastive estimation; the m negatives are the same for the whole batch (there: drawn for each image), and as
there the draw may hold the image itself. Run: ``python -m pretrain demo-instdis --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torch import Tensor, nn

from pretrain.common.ranges import Fraction, Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.heads import l2_normalize
from pretrain.methods.memory import Bank
from pretrain.runtime.distributed import gather, gather_no_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankConfig(MethodConfig):
    """What methods with a memory bank have in common; PyContrast's values (pycontrast/options/base_options.py)."""

    dim: Annotated[int, at_least(2)] = 128
    temperature: Annotated[float, Positive] = 0.07
    negatives: Annotated[int, at_least(1)] = 65536  # rows drawn from the bank per step
    bank_momentum: Annotated[float, Fraction] = 0.5  # of the bank's rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstDisConfig(BankConfig):
    """InstDis' settings: a linear head."""


class InstDis(Method):
    """Backbone, linear head, bank."""

    Config = InstDisConfig
    views = 1
    config: InstDisConfig

    def __init__(self, config: InstDisConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.head = nn.Linear(sizes.feature_dim, config.dim)
        self.bank = Bank(sizes.num_images, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss and nce_score (log(1 + negatives) − loss, no bound) in nats; embedding_std."""
        config, index = self.config, gather_no_grad(batch.index)
        z = gather(l2_normalize(self.head(self.backbone(batch.views[0]))))
        negatives = self.bank.of(self.bank.draw(config.negatives))
        loss, score = info_nce_memory(z, self.bank.of(index), negatives, config.temperature)
        if self.training:
            self.bank.update(index, z, config.bank_momentum)
        return {"loss": loss, "nce_score": score.detach(), "embedding_std": embedding_std(z)}
