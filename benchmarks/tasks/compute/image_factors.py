"""Factors that any image has: known distortions, drawn by the seed, and values computed from the distorted pixels.

A square crop of random size and place is resized to the profile's crop and stored as a JPEG of random quality; what the
network sees are the decoded pixels. Brightness and contrast are the mean and standard deviation of the luma, colour the
mean chroma (two numbers), sharpness the log variance of the luma's Laplacian (Pech-Pacheco et al., ICPR 2000).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import laplace
from torch import Tensor
from tqdm import tqdm

from benchmarks.data.factors import Factor
from benchmarks.tasks.compute.features import BATCH, FromBytes, build_backbone, extract
from pretrain.common.files import digest, locked, results_dir
from pretrain.data import decode
from transfer.checkpoints.backbone import Backbone

SMALLEST_CROP = 0.5  # of the shorter side
QUALITY = (10, 95)  # of the JPEG


def draw(total: int, images: int, seed: int, part: int) -> np.ndarray:
    """Ascending numbers of at most ``images`` of ``total`` images, of the split number ``part``."""
    return np.sort(np.random.default_rng([seed, part]).permutation(total)[:images])


def distorted(image: Image.Image, size: int, seed: int, part: int, index: int) -> tuple[np.ndarray, dict[str, Any]]:
    """(size, size, 3) uint8 RGB of image ``index`` of split ``part``, and its factors as lists of numbers."""
    rng = np.random.default_rng([seed, part, index])
    extent, x, y = rng.uniform(SMALLEST_CROP, 1), *rng.uniform(0, 1, 2)
    side = extent * min(image.size)
    left, top = x * (image.width - side), y * (image.height - side)
    cropped = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    stored = io.BytesIO()
    cropped.save(stored, "JPEG", quality=quality)
    with Image.open(stored) as opened:
        seen = opened.convert("RGB")
    middle = [(left + side / 2) / image.width, (top + side / 2) / image.height]
    return np.asarray(seen), {"crop size": [extent], "position": middle, "JPEG quality": [quality]} | computed(seen)


def computed(seen: Image.Image) -> dict[str, list[float]]:
    """The values of an image's own pixels, luma and chroma in 0 to 255."""
    luma, *chroma = (np.asarray(one, np.float64) for one in seen.convert("YCbCr").split())
    return {
        "brightness": [float(luma.mean())],
        "contrast": [float(luma.std())],
        "colour": [float(one.mean()) for one in chroma],
        "sharpness": [float(np.log(laplace(luma).var() + 1))],
    }


def image_features(
    backbone: Backbone, images: Sequence[Path], data: str, seed: int, part: int, count: int, size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features (n×D float32) of distorted images drawn from a split, and their factors, n×k each.

    Both are kept under results/features; ``data`` is the fingerprint of the images' data set.
    """
    drawn = draw(len(images), count, seed, part)
    asked = {"seed": seed, "part": part, "images": len(drawn), "size": size, "version": 1}
    key = digest([backbone.sha256, backbone.input.identity(), data, asked])[:16]
    folder = results_dir() / "features" / f"image-factors-{key}"
    target, found = folder / "features.npy", dict[str, list[list[float]]]()

    def batches() -> Iterator[Tensor]:
        for begun in range(0, len(drawn), BATCH):
            pixels = []
            for index in drawn[begun : begun + BATCH]:
                seen, factors = distorted(decode(images[index]), size, seed, part, int(index))
                pixels.append(torch.from_numpy(seen.copy()).permute(2, 0, 1))
                for name, values in factors.items():
                    found.setdefault(name, []).append(values)
            yield torch.stack(pixels)

    with locked(folder):
        if not target.exists():
            extract(FromBytes(build_backbone(backbone), backbone.input), batches(), len(drawn), target)
        else:
            for _ in tqdm(batches(), total=-(-len(drawn) // BATCH), desc="image factors", mininterval=5):
                pass
    return np.load(target), {name: np.array(values, np.float64) for name, values in found.items()}


def as_factors(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, Factor]:
    """The factors of several splits after each other."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        name: Factor(name=name, kind="number", values=values, known=np.ones(len(values), bool))
        for name, values in joined.items()
    }
