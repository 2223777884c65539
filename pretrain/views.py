"""Colour and flip augmentation of a whole batch at once, on its device. Crops are made earlier, on the CPU (data.py).

Every sample has its own parameters; the order of the operations (brightness, contrast, saturation, hue, grey, blur) is
the same for all, where torchvision's ColorJitter draws an order for each. Each operation agrees with
torchvision.transforms.v2.functional to 1/255: ``python -m pytest tests/pretrain/test_views.py``.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.checkpoint import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Augmentation of a view; defaults are SimCLR's for ImageNet (arXiv 2002.05709, appendix A: jitter strength 1)."""

    crop_scale: tuple[float, float] = (0.08, 1.0)  # area share of the crop
    flip: float = 0.5  # probability of a horizontal flip
    jitter: float = 0.8  # probability of the next four, together
    brightness: float = 0.8  # factor from [max(0, 1 - x), 1 + x]
    contrast: float = 0.8  # likewise
    saturation: float = 0.8  # likewise
    hue: float = 0.2  # turns from [-x, x], at most 0.5
    grey: float = 0.2  # probability of greyscale
    blur: float = 0.5  # probability of a Gaussian blur, sigma 0.1 to 2 pixels, kernel a tenth of the image


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)


def to_grey(x: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N, 1, H, W): ITU-R 601 luma with torchvision's three decimals and a fourth."""
    return 0.2989 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """x·factor clipped to [0, 1]; ``factor`` (N,)."""
    return (x * _column(factor)).clamp(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean grey, clipped to [0, 1]; ``factor`` (N,), 1 changes nothing."""
    mean = to_grey(x).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _column(factor)).clamp(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's own grey, clipped to [0, 1]; ``factor`` (N,), 1 changes nothing."""
    return torch.lerp(to_grey(x), x, _column(factor)).clamp(0, 1)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (N,) in [−0.5, 0.5] turns, keeping HSV's saturation and value."""
    value, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - low
    r, g, b = x.split(1, dim=1)
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sector = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    # HSV back to RGB without a table of sectors: channel n is V − C·clip(min(k, 4−k), 0, 1), k = (n + 6H) mod 6.
    offsets = x.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    k = (sector + 6 * _column(shift) + offsets) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def gaussian_blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Separable Gaussian blur with σ (N,) in pixels a sample, an odd ``kernel`` and reflected borders."""
    n, c, h, w = x.shape
    offset = torch.arange(kernel, device=x.device, dtype=x.dtype) - kernel // 2
    weights = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(c, 0)
    padded = F.pad(x, (kernel // 2,) * 4, mode="reflect").reshape(1, n * c, h + kernel - 1, w + kernel - 1)
    rows = F.conv2d(padded, weights.view(n * c, 1, 1, kernel), groups=n * c)
    return F.conv2d(rows, weights.view(n * c, 1, kernel, 1), groups=n * c).view(n, c, h, w)


def normalise(x: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation: (N, 3, H, W) in [0, 1]."""
    mean, std = x.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1), x.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (x - mean) / std


def augment(pixels: Tensor, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """One view: (N, 3, H, W) uint8 crops to normalised float32; parameters come from ``generator`` (same device)."""
    n, device = len(pixels), pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, device=device, generator=generator) * (high - low) + low

    def chosen(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    x = pixels.float() / 255
    x = torch.where(_column(chosen(config.flip)), x.flip(3), x)
    jittered = chosen(config.jitter)
    spans = ((adjust_brightness, config.brightness), (adjust_contrast, config.contrast))
    for adjust, amount in (*spans, (adjust_saturation, config.saturation)):
        x = adjust(x, torch.where(jittered, uniform(max(0.0, 1 - amount), 1 + amount), torch.ones(n, device=device)))
    x = adjust_hue(x, torch.where(jittered, uniform(-config.hue, config.hue), torch.zeros(n, device=device)))
    x = torch.where(_column(chosen(config.grey)), to_grey(x), x)
    if config.blur:
        kernel = max(3, pixels.shape[3] // 10 // 2 * 2 + 1)
        x = torch.where(_column(chosen(config.blur)), gaussian_blur(x, uniform(0.1, 2.0), kernel), x)
    return normalise(x)
