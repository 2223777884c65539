"""MoCo v2 (Chen et al., arXiv 2003.04297): MoCo with an MLP head, another temperature and stronger views.

Run: ``python -m pretrain demo-mocov2 --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from torch import nn

from pretrain.common.ranges import Positive, at_least
from pretrain.methods.base import Sizes
from pretrain.methods.heads import mlp
from pretrain.methods.moco import MoCo, QueueConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV2Config(QueueConfig):
    """MoCo v2's settings: an MLP head, τ 0.2 (facebookresearch/moco README)."""

    temperature: Annotated[float, Positive] = 0.2
    hidden_dim: Annotated[int, at_least(2)] = 2048


class MoCoV2(MoCo):
    """MoCo's contrast with an MLP head."""

    Config = MoCoV2Config
    config: MoCoV2Config

    def __init__(self, config: MoCoV2Config, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes, mlp(sizes.feature_dim, config.hidden_dim, config.dim))
