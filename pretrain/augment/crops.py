"""Random resized crops of a decoded image: their boxes and how they are cut.

Two backends for the same boxes. ``torch`` cuts the box out and resizes it with torch's antialiased bilinear kernel for
uint8, which is torchvision's RandomResizedCrop to the pixel. ``pillow`` resamples the box within the whole image, whose
pixels just outside the box enter its border; elsewhere the two differ by rounding. ``torch`` is the faster:
``python -m benchmarks.perf data``.
"""

from __future__ import annotations

import dataclasses
import itertools
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
    """A random crop: ``size`` in pixels when resized, and the range of its share of the image's area.

    With ``apart`` it is the crop before it, moved right and down by this share of its width and height.
    """

    size: int
    scale: tuple[float, float]
    apart: float | None = None


def crop_boxes(width: int, height: int, crops: Sequence[Crop], rng: np.random.Generator) -> list[Box]:
    """A box for each of ``crops``; one that is ``apart`` follows the one that it is moved from."""
    boxes: list[Box] = []
    for crop, after in itertools.zip_longest(crops, crops[1:]):
        if crop.apart is None:
            room = (after.apart or 0.0) if after else 0.0
            boxes.append(random_crop_box(width, height, crop.scale, rng, room))
        else:
            left, top, right, bottom = boxes[-1]
            dx = min(round(crop.apart * (right - left)), width - right)  # less in an image of a few pixels alone
            dy = min(round(crop.apart * (bottom - top)), height - bottom)
            boxes.append((left + dx, top + dy, right + dx, bottom + dy))
    return boxes


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator, room: float = 0.0
) -> Box:
    """A crop with area share in ``scale`` and aspect ratio in [3/4, 4/3].

    The distribution of torchvision's RandomResizedCrop: ten tries, then the largest central crop of a fitting ratio.
    ``room``, shares of the crop's width and height, is free to the right of it and below.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        area, ratio = width * height * rng.uniform(*scale), math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        across, down = w + round(room * w), h + round(room * h)
        if min(w, h) > 0 and across <= width and down <= height:
            left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
            return left, top, left + w, top + h
    most_w, most_h = (max(1, math.floor(side / (1 + room))) for side in (width, height))
    w, h = min(most_w, round(most_h * 4 / 3)), min(most_h, round(most_w * 4 / 3))
    left, top = max(0, width - w - round(room * w)) // 2, max(0, height - h - round(room * h)) // 2
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
