"""Colour operations on a batch of RGB images (N, 3, H, W) in [0, 1], each sample with its own parameter (N,).

Each agrees with torchvision.transforms.v2.functional to 1/255.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)


def to_grayscale(x: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N, 1, H, W): ITU-R 601 luma with torchvision's three decimals and a fourth."""
    return 0.2989 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """x·factor clipped to [0, 1]; ``factor`` (N,)."""
    return (x * _column(factor)).clamp(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean grey, clipped to [0, 1]; ``factor`` (N,), 1 changes nothing."""
    mean = to_grayscale(x).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _column(factor)).clamp(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's own grey, clipped to [0, 1]; ``factor`` (N,), 1 changes nothing."""
    return torch.lerp(to_grayscale(x), x, _column(factor)).clamp(0, 1)


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


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at or above ``threshold`` (N,)."""
    return torch.where(x >= _column(threshold), 1 - x, x)
