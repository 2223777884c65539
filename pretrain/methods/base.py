"""Base of all pretraining methods: a module with a backbone that maps a batch to a loss and its named terms.

A new method is one file with a config and a subclass of ``Method``, and one entry in ``pretrain.methods.METHODS``; a
worked example is in docs/pretraining.md.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor, nn

from pretrain.methods.heads import l2_normalize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's input: ``views`` a list of normalised N×3×H×W, ``index`` (N,) in the data set, ``label`` (N,).

    With Method.patches the last entry of ``views`` is 9N×3×P×P, nine patches of the jigsaw per image.
    """

    views: list[Tensor]
    index: Tensor
    label: Tensor | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes that a method's layers and buffers depend on."""

    feature_dim: int  # of the backbone's pooled features
    num_classes: int  # 0 without labels
    num_images: int  # in the data set: rows of a memory bank


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Base of the methods' configs: frozen dataclasses whose fields are the flags ``--method.…``."""

    def inputs(self) -> dict[str, str]:
        """Digests of the files that the settings name: part of a run's identity. InputError where they are unusable."""
        return {}


class Method(nn.Module):
    """``backbone`` maps N×3×H×W to N×``feature_dim`` and is the part that transfers.

    All state is in parameters and buffers, so that state_dict saves and restores it exactly. Losses are those of the
    global batch: embeddings are gathered (pretrain.runtime.distributed) and noise is drawn after the gather.
    """

    Config: ClassVar[type[MethodConfig]]
    views: ClassVar[int] = 2  # augmented views per image
    patches: ClassVar[bool] = False  # one more entry of Batch.views: 3×3 jigsaw patches, cut from a crop of their own
    needs_labels: ClassVar[bool] = False
    head_name: ClassVar[str] = "head"  # the module from pooled features to the embedding, where there is one
    sync_batchnorm: ClassVar[bool] = True  # False: BatchNorm stays per GPU, because the method shuffles over GPUs

    def __init__(self, config: MethodConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.backbone, self.feature_dim = config, backbone, sizes.feature_dim

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Scalars; "loss" is minimised, the others are logged. ``progress`` in [0, 1) drives warm-ups."""
        raise NotImplementedError

    def embedding(self, h: Tensor) -> Tensor:
        """(N, d) unit vectors of pooled features (N, feature_dim): what the loss compares, without noise."""
        return l2_normalize(getattr(self, self.head_name)(h))
