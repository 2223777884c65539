"""Random initialisation as an ordinary method with 0 steps: torchvision's own, for the seed.

Run: ``python -m pretrain demo-random --data FOLDER``.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.methods.base import Batch, Method, MethodConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomConfig(MethodConfig):
    """Nothing to set."""


class Random(Method):
    """The backbone as it was made."""

    Config = RandomConfig
    views = 1
    config: RandomConfig

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Raise InputError: there is no loss to minimise."""
        raise InputError("method random has nothing to train: leave --steps at 0")
