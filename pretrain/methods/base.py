"""What a pretraining method is: a module with a backbone that turns a batch into a loss and its named terms.

A new method is one file with a Config and a module like this, and one entry in ``pretrain.methods.METHODS``; a worked
example is in docs/pretraining.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's input: ``views`` a list of normalised N×3×H×W, ``index`` (N,) in the data set, ``label`` (N,).

    With MethodEntry.patches the last entry of ``views`` is 9N×3×P×P, nine patches of the jigsaw an image.
    """

    views: list[Tensor]
    index: Tensor
    label: Tensor | None


class Method(Protocol):
    """An nn.Module whose ``backbone`` maps N×3×H×W to N×``feature_dim``; the backbone is what transfers.

    All state is in parameters and buffers, so that state_dict saves and restores it exactly. Losses are those of the
    global batch: embeddings are gathered (pretrain.runtime.distributed) and noise is drawn after the gather.
    """

    backbone: nn.Module
    feature_dim: int

    def __call__(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``forward``: scalars; "loss" is minimised, the others are logged. ``progress`` in [0, 1) drives warm-ups."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a method is built for."""

    feature_dim: int  # of the backbone's pooled features
    num_classes: int  # 0 without labels
    num_images: int  # in the data set: rows of a memory bank


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """How to make one method: its Config class and ``build(config, backbone, sizes)``."""

    config: type
    build: Callable[[Any, nn.Module, Sizes], nn.Module]
    views: int = 2  # augmented views of each image in a batch
    patches: bool = False  # one more entry of Batch.views: 3×3 jigsaw patches, cut from a crop of their own
    needs_labels: bool = False
    sync_batchnorm: bool = True  # False: BatchNorm keeps to its GPU, as the method shuffles over GPUs instead
