"""What a family of checkpoints has to offer: recognise a file, and take the backbone out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pretrain.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from transfer.read import Loaded

CLASSIFIER = "classifier, not part of the backbone"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """The backbone as a source read it, under torchvision's names and without the classifier, not yet checked."""

    state: dict[str, Any]
    dropped: dict[str, str]  # key in the file → why it was left out
    pixel_mean: tuple[float, ...] = IMAGENET_MEAN  # for inputs in [0, 1]
    pixel_std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = "RGB"
    assumed: str = ""  # what of this the file does not say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A family of checkpoints. ``recognise`` says why a file belongs to it, or None; ``take`` then reads it."""

    name: str
    recognise: Callable[[Loaded], str | None]
    take: Callable[[Loaded], Taken]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """A checked ResNet-50: 265 finite float32 tensors under torchvision's names, and the file's counters if any."""

    state: dict[str, Tensor]
    source: str
    reason: str  # why the file was taken for one of this source
    assumed: str  # what the source takes for granted because the file does not say it
    architecture: str
    dropped: dict[str, str]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    channel_order: str
    stride_in_1x1: bool  # False: the stride is in the 3×3 convolution, as in torchvision
    sha256: str  # pretrain.checkpoint.tensor_digest of ``state``
    meta: dict[str, Any] | None


def without_classifier(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``state`` split into the backbone and {key: reason} of the ``fc.*`` left out."""
    dropped = {key: CLASSIFIER for key in state if key.startswith("fc.")}
    return {key: value for key, value in state.items() if key not in dropped}, dropped
