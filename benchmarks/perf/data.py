"""Two views of JPEGs on one core: our reader against PyContrast's, PIL and torchvision-v1 transforms.

Run: ``python -m benchmarks.perf data``.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.perf.timing import MEASURED_VIEWS, medians, processor, table, write_photographs
from pretrain.augment.crops import Crop, CropBackend
from pretrain.augment.views import make_views
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.data import ImageList, decode, list_images
from pretrain.loader import CropDataset, Samples, collate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Two views of 500×375 JPEGs on one core: our reader against PIL and torchvision-v1 transforms."""

    images: int = 64  # per round
    rounds: int = 7
    size: int = 224  # pixels of the views


def reference_transform(size: int) -> Callable[[Image.Image], Tensor]:
    """MoCo v2's view without the blur, as PyContrast builds it (pycontrast/datasets/util.py)."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=MEASURED_VIEWS.crop_scale),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def reference_batch(images: ImageList, transform: Callable[[Image.Image], Tensor]) -> list[Tensor]:
    """Two views of every image: one decode, everything else twice in PIL."""
    pairs = []
    for path in images.paths:
        image = decode(images.root / path)
        pairs.append((transform(image), transform(image)))
    return [torch.stack(view) for view in zip(*pairs, strict=True)]


def our_batch(images: ImageList, size: int, crop_backend: CropBackend) -> Samples:
    """Two crops of every image, as a loader process makes them."""
    dataset = CropDataset(
        images, (Crop(size=size, scale=MEASURED_VIEWS.crop_scale),) * 2, seed=0, crop_backend=crop_backend
    )
    return collate([dataset[0, index] for index in range(len(images))])


def measure(arguments: Arguments) -> str:
    """The table: images/s per core of each side, and the ratio to the reference."""
    torch.set_num_threads(1)
    transform, generator, size = reference_transform(arguments.size), torch.Generator(), arguments.size
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = write_photographs(Path(folder), arguments.images)
        images = list_images(Path(folder))

        def with_colour() -> list[Tensor]:
            crops = [crop.contiguous() for crop in our_batch(images, size, "torch").crops]
            return make_views(crops, MEASURED_VIEWS, None, False, generator)

        sides: dict[str, Callable[[], object]] = {
            "reference: PIL, torchvision v1, colour included": lambda: reference_batch(images, transform),
            "ours: decode, two crops, collate": lambda: our_batch(images, size, "torch"),
            "ours, --crop-backend pillow": lambda: our_batch(images, size, "pillow"),
            "ours, colour included": with_colour,
        }
        seconds = medians(sides, arguments.rounds)
    title = f"{arguments.images} JPEGs of 500×375, {kilobytes:.0f} kB each, to two views of {size} px; one core of "
    return table(title + processor(), arguments.images, seconds)
