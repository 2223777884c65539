"""Images from folders as uint8 crops, in an order and with crops that depend on (seed, epoch, index) alone.

A folder is an ImageFolder (one subfolder a class) or flat (images at the top, no labels). A run that starts again at
any step, with any number of loader workers, sees exactly the images and crops an undisturbed run sees.
Tested by ``python -m pytest tests/pretrain/test_data.py``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrain.errors import InputError
from pretrain.files import fingerprint

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})
SPLITS = frozenset({"train", "val", "valid", "validation", "test"})
_ORDER, _CROPS = 0, 1  # separate random streams of one seed
Sample = tuple[Tensor, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of a folder: paths relative to ``root``, sorted; labels (class numbers), or None in a flat folder."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def list_images(root: Path) -> ImageList:
    """The images under ``root``, hidden files left out. InputError if there are none, or both layouts at once."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give an ImageFolder or a flat folder of images as --data")
    found = sorted(
        Path(folder, name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )
    if not found:
        raise InputError(f"no images in {root} (looked for {' '.join(sorted(SUFFIXES))}, in subfolders too)")
    flat = [path for path in found if "/" not in path]
    if not flat:
        classes = tuple(sorted({path.split("/")[0] for path in found}))
        if set(classes) <= SPLITS:
            raise InputError(f"{root} holds the splits {', '.join(classes)}, not classes: give one of them as --data")
        number = {name: i for i, name in enumerate(classes)}
        return ImageList(
            root=root, paths=tuple(found), labels=tuple(number[path.split("/")[0]] for path in found), classes=classes
        )
    if len(flat) < len(found):
        raise InputError(f"{root} holds both images ({flat[0]}) and class folders with images: keep one of the two")
    return ImageList(root=root, paths=tuple(found), labels=None, classes=())


def describe(images: ImageList) -> dict[str, Any]:
    """Name, size (images) and fingerprint of the data set, for the checkpoint's meta.

    A folder of a prepared data root (data.json at most two levels up, as ``python -m benchmarks prepare`` writes it)
    goes by the root's name and recorded fingerprint, and is not hashed again. InputError for a file without a readable
    target or with a name that is not UTF-8.
    """
    folder = images.root.resolve()
    for parent in (folder, *folder.parents[:2]):
        root, inside = _prepared_root(parent / "data.json"), folder.relative_to(parent).as_posix()
        section = root.get(inside.split("/")[0])
        if isinstance(section, dict) and "fingerprint" in section:
            extra = {"folder": inside, "synthetic": bool(root["synthetic"])}
            return {"name": root["name"], "size": len(images), "fingerprint": section["fingerprint"], **extra}
    try:
        return {"name": folder.name, "size": len(images), "fingerprint": fingerprint(folder)}
    except UnicodeEncodeError as error:
        name = ascii(str(error.object).split("\0")[0])
        raise InputError(f"{folder}: the name of the file {name} is not UTF-8: rename it") from None
    except OSError as error:
        raise InputError(f"cannot read {error.filename} ({error.strerror}): repair or remove it") from None


def _prepared_root(record: Path) -> dict[str, Any]:
    """The content of a data.json of ours; {} if there is none, or somebody else's."""
    try:
        root = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return root if isinstance(root, dict) and {"name", "synthetic", "config"} <= set(root) else {}


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of a crop with area share in ``scale`` and aspect ratio in [3/4, 4/3].

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


def decode(path: Path) -> Image.Image:
    """The image at ``path`` in RGB. InputError that names a file which cannot be read."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path} ({error}): repair or remove it") from error


class CropDataset(Dataset[Sample | InputError]):
    """Key (epoch, index) to (views×3×size×size uint8, index, label or −1); one decode serves all views."""

    def __init__(self, images: ImageList, *, size: int, views: int, scale: tuple[float, float], seed: int) -> None:
        self.images, self.size, self.views, self.scale, self.seed = images, size, views, scale, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample | InputError:
        epoch, index = key
        path = self.images.root / self.images.paths[index]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _CROPS, epoch, index]))
        try:
            image = decode(path)
        except InputError as error:
            # Returned, not raised: a loader worker would wrap it in a traceback of its own.
            return error
        crops = [
            np.array(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))
            for box in (random_crop_box(*image.size, self.scale, rng) for _ in range(self.views))
        ]
        label = self.images.labels[index] if self.images.labels is not None else -1
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), index, label


class StepSampler:
    """Lists of (epoch, index), one for each step in [start, stop): a permutation an epoch, whole batches only."""

    def __init__(self, size: int, batch_size: int, *, seed: int, start: int, stop: int) -> None:
        self.size, self.batch_size, self.seed, self.start, self.stop = size, batch_size, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.size // self.batch_size
        current, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            epoch, batch = divmod(step, per_epoch)
            if epoch != current:
                current = epoch
                order = np.random.default_rng(np.random.SeedSequence([self.seed, _ORDER, epoch])).permutation(self.size)
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def collate(samples: list[Sample | InputError]) -> tuple[Tensor, Tensor, Tensor] | InputError:
    """Samples to (N×views×3×size×size uint8, index (N,), label (N,)), or the first unreadable image's error."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
        good.append(sample)
    crops, index, label = zip(*good, strict=True)
    return torch.stack(crops), torch.tensor(index), torch.tensor(label)


def load_batches(
    dataset: CropDataset, sampler: StepSampler, *, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches in the sampler's order (see collate); InputError that names an unreadable image. 0 workers: inline."""
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        # The loader draws its workers' base seed; from the global RNG it would shift everything drawn after it.
        generator=torch.Generator().manual_seed(dataset.seed),
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch
