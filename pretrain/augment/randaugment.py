"""RandAugment (Cubuk et al., arXiv 1909.13719) on a batch on its device, as PyContrast draws it for InfoMin and CMC v2.

One operation of the table a sample, each as likely, applied with probability 0.5, at a level drawn from
N(magnitude, 0.5) and clipped to [0, 10] ("rand-n2-m10-mstd0.5", pycontrast/datasets/RandAugment.py). What a shifted
image leaves empty is filled with ImageNet's mean colour; interpolation is bilinear (there: bilinear or bicubic).
Each operation agrees with torchvision's to 1/255.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.augment.color import adjust_brightness, adjust_contrast, adjust_saturation, solarize
from pretrain.common.tensors import IMAGENET_MEAN

TOP_LEVEL, LEVEL_STD, PROBABILITY = 10.0, 0.5, 0.5
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel of (N, 3, H, W) in [0, 1] to the whole range; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-12), x)


def equalize(x: Tensor) -> Tensor:
    """Equalise the histogram of each channel, in 256 levels and with PIL's rounding (PIL.ImageOps.equalize)."""
    levels = (x * 255).round().long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - brightest) // 255
    darker = counts.cumsum(2) - counts
    table = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return (table.gather(2, levels) / 255).to(x.dtype).view_as(x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the first ``bits`` (N,) in [0, 8] of each 8-bit value."""
    step = _column(torch.exp2(8 - bits.float()))
    return torch.floor((x * 255).round() / step) * step / 255


def adjust_sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by 3×3, borders as they are; ``factor`` (N,), 1 changes nothing."""
    kernel = torch.ones(3, 1, 3, 3, device=x.device, dtype=x.dtype) / 13
    kernel[:, :, 1, 1] = 5 / 13
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=3)
    return torch.lerp(smooth, x, _column(factor)).clamp(0, 1)


def transform(x: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel of the result at p, in pixels from the image's centre, is read at matrix·(p, 1); ``matrix`` (N, 2, 3).

    Bilinear; from outside the image comes the mean colour.
    """
    h, w = x.shape[2:]
    scale = matrix.new_tensor([[1.0, h / w, 2 / w], [w / h, 1.0, 2 / h]])
    grid = F.affine_grid(matrix * scale, list(x.shape), align_corners=False)
    fill = x.new_tensor([round(255 * value) / 255 for value in IMAGENET_MEAN]).view(1, 3, 1, 1)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill


def shear(x: Tensor, amount: Tensor, axis: int) -> Tensor:
    """Read along ``axis`` (0: x, 1: y) ``amount`` (N,) times the other coordinate further, from the top left corner."""
    matrix = _identity(x)
    matrix[:, axis, 1 - axis] = amount
    matrix[:, axis, 2] = amount * x.shape[2 + axis] / 2
    return transform(x, matrix)


def translate(x: Tensor, amount: Tensor, axis: int) -> Tensor:
    """Read along ``axis`` (0: x, 1: y) further by ``amount`` (N,) of the side."""
    matrix = _identity(x)
    matrix[:, axis, 2] = amount * x.shape[3 - axis]
    return transform(x, matrix)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre by ``degrees`` (N,)."""
    matrix, angle = _identity(x), degrees * math.pi / 180
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin(), angle.sin()
    return transform(x, matrix)


def _identity(x: Tensor) -> Tensor:
    return torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)


# level (N,) in [0, 1] of the strongest, sign (N,) −1 or 1. Thresholds lie between two 8-bit values.
_SHAPE: dict[str, Operation] = {
    "autocontrast": lambda x, level, sign: autocontrast(x),
    "rotate": lambda x, level, sign: rotate(x, sign * level * 30),
    "sharpness": lambda x, level, sign: adjust_sharpness(x, level * 1.8 + 0.1),
    "shear-x": lambda x, level, sign: shear(x, sign * level * 0.3, 0),
    "shear-y": lambda x, level, sign: shear(x, sign * level * 0.3, 1),
    "translate-x": lambda x, level, sign: translate(x, sign * level * 0.45, 0),
    "translate-y": lambda x, level, sign: translate(x, sign * level * 0.45, 1),
}
SHAPE_OPERATIONS = _SHAPE | {"identity": lambda x, level, sign: x}
OPERATIONS: dict[str, Operation] = _SHAPE | {
    "equalize": lambda x, level, sign: equalize(x),
    "invert": lambda x, level, sign: 1 - x,
    "posterize": lambda x, level, sign: posterize(x, (level * 4).floor()),
    "solarize": lambda x, level, sign: solarize(x, ((level * 256).floor() - 0.5) / 255),
    "solarize-add": lambda x, level, sign: torch.where(
        x < 127.5 / 255, (x + _column((level * 110).floor() / 255)).clamp(max=1), x
    ),
    "color": lambda x, level, sign: adjust_saturation(x, level * 1.8 + 0.1),
    "contrast": lambda x, level, sign: adjust_contrast(x, level * 1.8 + 0.1),
    "brightness": lambda x, level, sign: adjust_brightness(x, level * 1.8 + 0.1),
}


def draw(magnitude: float, operations: int, uniform: Callable[[float, float], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(which operation, −1 for none; level in [0, 1]; sign), each (N,); ``uniform(low, high)`` draws (N,)."""
    kind = uniform(0, operations).long().clamp(max=operations - 1)
    kind = torch.where(uniform(0, 1) < PROBABILITY, kind, torch.full_like(kind, -1))
    normal = math.sqrt(2) * torch.erfinv(uniform(-1, 1).clamp(-1 + 1e-6, 1 - 1e-6))
    level = (magnitude + LEVEL_STD * normal).clamp(0, TOP_LEVEL) / TOP_LEVEL
    return kind, level, torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)


def rand_augment(x: Tensor, magnitude: float, color: bool, uniform: Callable[[float, float], Tensor]) -> Tensor:
    """One round on (N, 3, H, W) in [0, 1]; ``color`` False leaves out the operations that change the colours."""
    table = list((OPERATIONS if color else SHAPE_OPERATIONS).values())
    kind, level, sign = draw(magnitude, len(table), uniform)
    x = x.clone()
    for number, operation in enumerate(table):
        chosen = (kind == number).nonzero().squeeze(1)
        if len(chosen):
            x[chosen] = operation(x[chosen], level[chosen], sign[chosen])
    return x
