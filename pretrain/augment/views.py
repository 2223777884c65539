"""Augmentation of a whole batch at once, on its device. Crops are made earlier, on the CPU (crops.py).

Every sample has its own parameters, drawn for the batch of all processes, of which each takes its share. Each operation
agrees with torchvision.transforms.v2.functional to 1/255.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.augment.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    solarize,
    to_grayscale,
)
from pretrain.augment.crops import Crop
from pretrain.augment.jigsaw import JIGSAW_SCALE, cut_patches, jigsaw_sizes
from pretrain.augment.pairs import UNPAIRED, Band, PairConfig
from pretrain.augment.randaugment import rand_augment
from pretrain.common.ranges import LEAST, Count, Fraction, NonNegative, Range
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.runtime.distributed import local_rows, world_size

AREA = Range(LEAST, 1, "two area fractions with 0 < low <= high <= 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Augmentation of a view; defaults are SimCLR's for ImageNet (arXiv 2002.05709, appendix A: jitter strength 1).

    In this order: crop, flip, jitter, grayscale, blur, solarize; with RandAugment, as InfoMin has it: crop, flip,
    jitter, blur, RandAugment, grayscale, solarize.
    """

    crop_scale: Annotated[tuple[float, float], AREA] = (0.08, 1.0)  # area share of the crop
    flip: Annotated[float, Fraction] = 0.5  # probability of a horizontal flip
    jitter: Annotated[float, Fraction] = 0.8  # probability of the next four, together
    brightness: Annotated[float, NonNegative] = 0.8  # factor from [max(0, 1 - x), 1 + x]
    contrast: Annotated[float, NonNegative] = 0.8  # likewise
    saturation: Annotated[float, NonNegative] = 0.8  # likewise
    hue: Annotated[float, Range(0, 0.5, "between 0 and 0.5")] = 0.2  # turns from [-x, x], at most 0.5
    shuffle_jitter: bool = False  # the four in an order of each sample's own, as published; else in the one above
    grayscale: Annotated[float, Fraction] = 0.2  # probability of grayscale
    # probability of a Gaussian blur, sigma 0.1 to 2 pixels, kernel a tenth of the image
    blur: Annotated[float, Fraction] = 0.5
    rand_augment: Annotated[int, Count] = 0  # operations of RandAugment, 0 for none
    rand_magnitude: Annotated[float, Range(0, 10, "between 0 and 10")] = 10.0  # of these, at most 10
    rand_color: bool = True  # False: only those that leave the colours alone, as CMC needs
    solarize: Annotated[float, Fraction] = 0.0  # probability of inverting the pixels from 0.5 up

    def conflict(self) -> str | None:
        """The flag and rule of the crop's area if its ends are in the wrong order."""
        low, high = self.crop_scale
        return f"crop-scale {low} {high}: must be {AREA.words}" if low > high else None


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)


def gaussian_blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Separable Gaussian blur with σ (N,) in pixels per sample, an odd ``kernel`` and reflected borders."""
    n, c, h, w = x.shape
    offset = torch.arange(kernel, device=x.device, dtype=x.dtype) - kernel // 2
    weights = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(c, 0)
    padded = F.pad(x, (kernel // 2,) * 4, mode="reflect").reshape(1, n * c, h + kernel - 1, w + kernel - 1)
    rows = F.conv2d(padded, weights.view(n * c, 1, 1, kernel), groups=n * c)
    return F.conv2d(rows, weights.view(n * c, 1, kernel, 1), groups=n * c).view(n, c, h, w)


def normalize(x: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation: (N, 3, H, W) in [0, 1]."""
    mean, std = x.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1), x.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (x - mean) / std


Adjust = Callable[[Tensor, Tensor], Tensor]


class _Draws:
    """Parameters (n,) of this process's samples, drawn for the batch of all processes.

    So the processes together augment as one would augment the whole batch.
    """

    def __init__(self, pixels: Tensor, generator: torch.Generator) -> None:
        self.n, self.device, self.generator = len(pixels), pixels.device, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(self.n * world_size(), *shape, device=self.device, generator=self.generator)
        return local_rows(drawn) * (high - low) + low

    def chosen(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability


def augment(pixels: Tensor, config: ViewsConfig, generator: torch.Generator, band: Band | None = None) -> Tensor:
    """One view: (N, 3, H, W) uint8 crops to normalised float32; parameters come from ``generator`` (same device).

    ``band``: the part of the augmented view that is kept.
    """
    draws = _Draws(pixels, generator)
    x = pixels.float() / 255
    x = torch.where(_column(draws.chosen(config.flip)), x.flip(3), x)
    x = _jitter(x, config, draws) if config.jitter else x
    if config.rand_augment:
        x = _blur(x, config, draws)
        for _ in range(config.rand_augment):
            x = rand_augment(x, config.rand_magnitude, config.rand_color, draws.uniform)
    x = torch.where(_column(draws.chosen(config.grayscale)), to_grayscale(x), x)
    if not config.rand_augment:
        x = _blur(x, config, draws)
    if config.solarize:
        inverted = solarize(x, torch.full_like(x[:, 0, 0, 0], 0.5))
        x = torch.where(_column(draws.chosen(config.solarize)), inverted, x)
    return normalize(band(x) if band else x)


def _jitter(x: Tensor, config: ViewsConfig, draws: _Draws) -> Tensor:
    jittered = draws.chosen(config.jitter)
    spans = ((adjust_brightness, config.brightness), (adjust_contrast, config.contrast))
    adjustments: list[tuple[Adjust, Tensor]] = [
        (adjust, torch.where(jittered, draws.uniform(max(0.0, 1 - amount), 1 + amount), 1.0))
        for adjust, amount in (*spans, (adjust_saturation, config.saturation))
    ]
    adjustments.append((adjust_hue, torch.where(jittered, draws.uniform(-config.hue, config.hue), 0.0)))
    if config.shuffle_jitter:
        return _in_own_order(x, adjustments, draws.uniform(0, 1, len(adjustments)).argsort(1))
    for adjust, parameter in adjustments:
        x = adjust(x, parameter)
    return x


def _in_own_order(x: Tensor, adjustments: Sequence[tuple[Adjust, Tensor]], order: Tensor) -> Tensor:
    """Apply the ``adjustments`` (operation, its parameter (N,)) to each sample in the order that its row says."""
    x = x.clone()
    for place in range(len(adjustments)):
        for number, (adjust, parameter) in enumerate(adjustments):
            chosen = (order[:, place] == number).nonzero().squeeze(1)
            x[chosen] = adjust(x[chosen], parameter[chosen])
    return x


def _blur(x: Tensor, config: ViewsConfig, draws: _Draws) -> Tensor:
    if not config.blur:
        return x
    kernel = max(3, x.shape[3] // 10 // 2 * 2 + 1)
    chosen = _column(draws.chosen(config.blur))
    return torch.where(chosen, gaussian_blur(x, draws.uniform(0.1, 2.0), kernel), x)


def crops_of(
    views: ViewsConfig,
    views2: ViewsConfig | None,
    count: int,
    patches: bool,
    image_size: int,
    pair: PairConfig = UNPAIRED,
) -> tuple[Crop, ...]:
    """The crops of each image that ``make_views`` needs: ``count`` views, and the jigsaw's if there are patches."""
    first = Crop(size=image_size, scale=views.crop_scale)
    second = Crop(size=image_size, scale=(views2 or views).crop_scale, apart=pair.crop_distance)
    jigsaw = (Crop(size=jigsaw_sizes(image_size)[0], scale=JIGSAW_SCALE),) if patches else ()
    return (*(first, second)[:count], *jigsaw)


def make_views(
    crops: Sequence[Tensor],
    views: ViewsConfig,
    views2: ViewsConfig | None,
    patches: bool,
    generator: torch.Generator,
    pair: PairConfig = UNPAIRED,
) -> list[Tensor]:
    """Batch.views of crops_of's crops, each (N, 3, size, size) uint8: normalised views, and patches (9N, 3, P, P).

    Patches are flipped and normalised only, as in PyContrast (pycontrast/datasets/util.py, jigsaw_transform).
    """
    plain = crops[:-1] if patches else crops
    settings = zip(plain, (views, views2 or views), pair.bands(), strict=False)
    out = [augment(pixels, config, generator, band) for pixels, config, band in settings]
    if patches:
        still = ViewsConfig(jitter=0.0, grayscale=0.0, blur=0.0)
        out.append(cut_patches(augment(crops[-1], still, generator), generator))
    return out


_B = ViewsConfig(
    crop_scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2, shuffle_jitter=True
)
_BYOL = replace(_B, crop_scale=(0.08, 1.0), saturation=0.2)
VIEWS: dict[str, ViewsConfig] = {
    "A": replace(_B, hue=0.4, jitter=1.0, blur=0.0),
    "B": _B,
    "C": replace(_B, crop_scale=(0.08, 1.0), jitter=1.0, grayscale=0.0, blur=0.0),
    "D": replace(_B, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, rand_augment=2),
    "E": replace(_B, grayscale=0.0, rand_augment=2, rand_color=False),
    "simclr": ViewsConfig(shuffle_jitter=True),
    "byol1": replace(_BYOL, blur=1.0),
    "byol2": replace(_BYOL, blur=0.1, solarize=0.2),
}
"""Published augmentation: A to E are PyContrast's (pycontrast/datasets/util.py; with a memory bank A's crops start at
0.08), SimCLR's arXiv 2002.05709 appendix A, BYOL's two arXiv 2006.07733 table 6, which are also C-SimCLR's, Barlow
Twins' and VICReg's (facebookresearch/vicreg:augmentations.py)."""
