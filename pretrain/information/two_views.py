"""Two augmented views of each image, as a checkpoint's network takes them: the input of ``estimate.measure``.

Crops and colours depend on the seed alone, so that checkpoints are compared on the same pixels. n images of a batch.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pretrain.augment.crops import CropBackend, crop_boxes, cut
from pretrain.augment.pairs import UNPAIRED, PairConfig
from pretrain.augment.views import ViewsConfig, crops_of, make_views
from pretrain.common.pixels import PixelInput
from pretrain.common.ranges import Positive, Seed, at_least
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True, kw_only=True)
class InformationConfig:
    """Settings of the estimate; compare only results of the same settings and images."""

    images: Annotated[int, at_least(2)] = 1000
    """Images of the folder, drawn by the seed; all of a smaller folder. Half is fitted on, half reported on."""
    image_size: Annotated[int | None, at_least(8)] = None
    """Pixels of the square views; default: the image size that the run was trained at, else 224."""
    dim: Annotated[int, at_least(2)] = 16
    """Dimensions of the fitted z."""
    noise: Annotated[float, Positive] = 1.0
    """Its σ, against means of variance 1."""
    resamples: Annotated[int, at_least(100)] = 1000
    """Of the bootstrap over images."""
    seed: Annotated[int, Seed] = 0
    """Of the images drawn, their views, the halves and the noise."""
    views: ViewsConfig = dataclasses.field(default_factory=ViewsConfig)
    """Augmentation: it decides what the two views share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairing:
    """How the second view differs from the first, as in PretrainConfig; by default it does not."""

    views2: ViewsConfig | None = None
    pair: PairConfig = UNPAIRED
    crop_backend: CropBackend = "torch"


ALIKE = Pairing()


def draw_images(total: int, config: InformationConfig) -> list[int]:
    """Indices of the images that are measured, of ``total`` in the data set, in the order of the batches."""
    return np.random.default_rng(config.seed).permutation(total)[: config.images].tolist()


def two_view_crops(
    image: Image.Image, seed: int, index: int, views: ViewsConfig, size: int, pairing: Pairing = ALIKE
) -> Tensor:
    """(2, 3, size, size) uint8: two random crops of the RGB image number ``index`` of the data set."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    boxes = crop_boxes(*image.size, crops_of(views, pairing.views2, 2, False, size, pairing.pair), rng)
    return torch.stack(cut(image, boxes, [size, size], pairing.crop_backend))


def network_views(
    crops: Tensor, views: ViewsConfig, pixels: PixelInput, generator: torch.Generator, pairing: Pairing = ALIKE
) -> Tensor:
    """(2n, 3, S, S) float32, channels last, the first views and then the second ones, of (n, 2, 3, S, S) uint8.

    ``generator`` is on the device of ``crops``; seed it once by the config's seed and pass it for every batch.
    """
    augmented = torch.cat(make_views(crops.unbind(1), views, pairing.views2, False, generator, pairing.pair))
    return normalise_as(augmented, pixels).contiguous(memory_format=torch.channels_last)


def normalise_as(views: Tensor, pixels: PixelInput) -> Tensor:
    """Views (N, 3, S, S) normalised by ImageNet's mean and std in RGB, to the input of another network."""
    if (pixels.mean, pixels.std, pixels.order) == (IMAGENET_MEAN, IMAGENET_STD, "RGB"):
        return views
    settings = (IMAGENET_MEAN, IMAGENET_STD, pixels.mean, pixels.std)
    mean, std, new_mean, new_std = (views.new_tensor(value).view(1, 3, 1, 1) for value in settings)
    views = views * std + mean
    return ((views.flip(1) if pixels.order == "BGR" else views) - new_mean) / new_std
