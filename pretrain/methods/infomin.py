"""InfoMin (Tian et al., arXiv 2005.10243): MoCo v2 with a jigsaw branch and views strong enough to share little.

Run: ``python -m pretrain demo-infomin --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torch import Tensor, nn

from pretrain.common.ranges import Fraction, Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce_memory
from pretrain.methods.base import Batch, Sizes
from pretrain.methods.heads import JigsawHead, l2_normalize, mlp
from pretrain.methods.moco import MoCo, QueueConfig
from pretrain.runtime.distributed import gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfoMinConfig(QueueConfig):
    """InfoMin's settings in PyContrast (pycontrast/options/base_options.py, train_options.py)."""

    temperature: Annotated[float, Positive] = 0.15
    hidden_dim: Annotated[int, at_least(2)] = 2048
    jigsaw_weight: Annotated[float, Fraction] = 0.5  # of the jigsaw's loss; the view's has the rest


class InfoMin(MoCo):
    """Two contrasts with the keys of the second view: the first view's queries, and those of a crop's patches."""

    Config = InfoMinConfig
    patches = True
    config: InfoMinConfig

    def __init__(self, config: InfoMinConfig, backbone: nn.Module, sizes: Sizes) -> None:
        widths = (sizes.feature_dim, config.hidden_dim, config.dim)
        super().__init__(config, backbone, sizes, mlp(*widths))
        self.jigsaw_head = JigsawHead(mlp(*widths), config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms as MoCo's, and the two losses that make up loss: view and jigsaw."""
        first, second, patches = batch.views
        keys, stored = self.keys(second), self.queue.snapshot()
        queries = gather(l2_normalize(self.head(self.backbone(first))))
        puzzled = gather(l2_normalize(self.jigsaw_head(self.backbone(patches))))
        view, score = info_nce_memory(queries, keys, stored, self.config.temperature)
        jigsaw, _ = info_nce_memory(puzzled, keys, stored, self.config.temperature)
        self.remember(keys)
        weight = self.config.jigsaw_weight
        loss = (1 - weight) * view + weight * jigsaw
        terms = {"view": view.detach(), "jigsaw": jigsaw.detach(), "nce_score": score.detach()}
        return {"loss": loss, **terms, "embedding_std": embedding_std(queries)}
