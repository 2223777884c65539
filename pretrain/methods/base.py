"""What a pretraining method is: a module with a backbone that turns a batch into a loss and its named terms.

A new method is one file with a Config and a module like this, and one entry in ``pretrain.methods.METHODS``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's input: ``views`` a list of normalised N×3×H×W, ``index`` (N,) in the data set, ``label`` (N,)."""

    views: list[Tensor]
    index: Tensor
    label: Tensor | None


class Method(Protocol):
    """An nn.Module whose ``backbone`` maps N×3×H×W to N×``feature_dim``; the backbone is what transfers."""

    backbone: nn.Module
    feature_dim: int

    def __call__(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``forward``: scalars; "loss" is minimised, the others are logged. ``progress`` in [0, 1) drives warm-ups."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """How to make one method: its Config class and ``build(config, backbone, feature_dim, num_classes)``."""

    config: type
    build: Callable[[Any, nn.Module, int, int], nn.Module]
    views: int = 2  # augmented views of each image in a batch
    needs_labels: bool = False
