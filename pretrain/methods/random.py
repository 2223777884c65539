"""Random initialisation as an ordinary method with 0 steps: torchvision's own, for the seed.

Run: ``python -m pretrain demo-random --data FOLDER``.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.methods.base import Batch, Sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomConfig:
    """Nothing to set."""


class Random(nn.Module):
    """The backbone as it was made."""

    def __init__(self, config: RandomConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.backbone, self.feature_dim = config, backbone, sizes.feature_dim

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Raise InputError: there is no loss to minimise."""
        raise InputError("method random has nothing to train: leave --steps at 0")
