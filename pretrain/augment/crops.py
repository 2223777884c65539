"""Random resized crops of a decoded image: where they lie and how they are cut.

Two readers of the same boxes. ``torch`` cuts the box out and resizes it with torch's antialiased bilinear kernel for
uint8, which is torchvision's RandomResizedCrop to the pixel. ``pillow`` resamples the box within the whole image, whose
pixels just outside the box enter its border; elsewhere the two differ by rounding. ``torch`` is the faster:
``python -m benchmarks.perf data``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CropBackend = Literal["torch", "pillow"]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
    """A random crop: ``size`` in pixels when resized, and the range of its share of the image's area."""

    size: int
    scale: tuple[float, float]


def random_crop_box(width: int, height: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """A crop with area share in ``scale`` and aspect ratio in [3/4, 4/3].

    The distribution of torchvision's RandomResizedCrop: ten tries, then the largest central crop of a fitting ratio.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        area, ratio = width * height * rng.uniform(*scale), math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def central_box(width: int, height: int) -> Box:
    """The largest central square."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def cut(image: Image.Image, boxes: Sequence[Box], sizes: Sequence[int], crop_backend: CropBackend) -> list[Tensor]:
    """The boxes of an RGB image, each resized to its size in pixels: (3, size, size) uint8, channels last in memory."""
    if crop_backend == "pillow":
        crops = [
            np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
            for box, size in zip(boxes, sizes, strict=True)
        ]
        return [torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return [
        F.interpolate(pixels[..., top:bottom, left:right], size, mode="bilinear", antialias=True).squeeze(0)
        for (left, top, right, bottom), size in zip(boxes, sizes, strict=True)
    ]
