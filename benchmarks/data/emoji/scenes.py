"""The content of one image of the embedded data set: configuration, classification image, scene. Writes nothing.

Every image has its own random generator, SeedSequence([seed, split, index]). Drawings and recipe: drawing.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data.drawing import RECIPE, Placed, expose, ground, paint, place, visible
from benchmarks.data.emoji import Pretraining
from benchmarks.data.emoji.annotate import SMALLEST, longer_side
from benchmarks.data.emoji.sharing import image_drawings, scene_drawings
from pretrain.common.errors import InputError

SPLITS = ("imagenet-train", "imagenet-val", "scenes-train", "scenes-val")
REQUIRED = (1, 3, 2, 2)  # objects of scheduled classes in scene 0, 1, 2, 3 of each four: 8 slots, so 20 scenes hold 40


@dataclass(frozen=True, kw_only=True)
class EmojiConfig:
    """Everything that decides the files: change one field and it is another data set."""

    seed: int = 0
    train_images: int = 400
    val_images: int = 200
    train_scenes: int = 64
    """The first half becomes VOC2007 trainval, the rest VOC2012 trainval; all of them COCO train."""
    val_scenes: int = 24
    image_size: int = 96
    scene_size: int = 128
    scene_objects: tuple[float, float] = (0.22, 0.6)
    """Longer side of an object in a scene, fraction of the scene."""
    crowd_rate: float = 0.1
    """Fraction of the scenes with a group of tiny objects: COCO's iscrowd, too small for VOC."""
    jpeg_quality: int = 92
    pretraining: Pretraining = "all"
    """Which drawings the classification images show, and whether the scenes show a part of all: sharing.py."""

    def __post_init__(self) -> None:
        if min(self.train_images, self.val_images) < 40 or self.train_scenes < 40 or self.val_scenes < 20:
            raise InputError(
                "the emoji set needs at least 40 train and 40 val images, 40 train and 20 val scenes: "
                "with fewer a class has no two instances in some split"
            )
        if self.seed < 0 or self.image_size < 32 or self.scene_size < 64:
            raise InputError("the emoji set needs seed >= 0, image_size >= 32 and scene_size >= 64")

    def identity(self) -> dict[str, Any]:
        """The fields; without those that earlier sets had not, where they have their default."""
        values = asdict(self)
        if self.pretraining == "all":
            del values["pretraining"]
        return values


def generator(config: EmojiConfig, split: str, index: int) -> np.random.Generator:
    """The random generator of image ``index`` of ``split``; nothing else ever draws from it."""
    return np.random.default_rng(np.random.SeedSequence([config.seed, SPLITS.index(split), index]))


def classification_image(config: EmojiConfig, split: str, index: int) -> tuple[Image.Image, dict[str, Any]]:
    """Image ``index`` (classes in turn) and its factors: one object near the middle, nothing in front of it."""
    rng, recipe, drawings = generator(config, split, index), RECIPE, image_drawings(config.pretraining)
    name, picture = ground(recipe, config.image_size, rng)
    scale = rng.uniform(*recipe.size)
    placed = place(class_of(config, index), recipe, config.image_size, scale, None, rng, drawings)
    picture, light = expose(paint(picture, [placed]), recipe, rng)
    return picture, placed.factors | {"ground": name} | light


def class_of(config: EmojiConfig, index: int) -> str:
    """The class of classification image ``index``."""
    classes = tuple(image_drawings(config.pretraining))
    return classes[index % len(classes)]


def scheduled(config: EmojiConfig, split: str, index: int) -> list[str]:
    """The classes that scene ``index`` must show: slots of a sequence that runs through all classes again and again.

    Each run through the classes has its own order, so that no two classes always appear together.
    """
    first = index // 4 * sum(REQUIRED) + sum(REQUIRED[: index % 4])
    names, classes = [], tuple(scene_drawings(config.pretraining))
    for slot in range(first, first + REQUIRED[index % 4]):
        order = np.random.default_rng([config.seed, SPLITS.index(split), 2**32, slot // len(classes)])
        names.append(classes[int(order.permutation(len(classes))[slot % len(classes)])])
    return names


def scene(config: EmojiConfig, split: str, index: int) -> tuple[Image.Image, list[Placed], list[Placed]]:
    """Scene ``index``: the picture, its 1–5 objects and its crowd (perhaps empty), each from back to front.

    Placements are drawn again until every scheduled class shows more than 30 % of itself: it counts in any evaluation.
    """
    rng, recipe, size = generator(config, split, index), RECIPE, config.scene_size
    name, backdrop = ground(recipe, size, rng)
    low, high = np.log(config.scene_objects)
    required, drawings = scheduled(config, split, index), scene_drawings(config.pretraining)
    classes = tuple(drawings)

    def anywhere(class_name: str) -> Placed:
        scale, x, y = float(np.exp(rng.uniform(low, high))), *rng.uniform(0.08, 0.92, 2)
        return place(class_name, recipe, size, scale, (float(x), float(y)), rng, drawings)

    while True:
        extra = [str(rng.choice(classes)) for _ in range(rng.integers(0, 3))]
        objects = [anywhere(one) for one in extra + required[::-1]]
        kept = list(zip(objects, visible(objects), strict=True))[len(extra) :]
        if all(shown.sum() > 0.3 * one.whole and longer_side(shown) >= SMALLEST + 2 for one, shown in kept):
            break
    crowd = []
    if rng.random() < config.crowd_rate:
        member, middle = str(rng.choice(classes)), rng.uniform(0.2, 0.8, 2)
        for x, y in rng.normal(middle, 0.08, (int(rng.integers(6, 11)), 2)):
            scale = float(rng.uniform(7, 11)) / size
            crowd.append(place(member, recipe, size, scale, (float(x), float(y)), rng, drawings))
    picture, light = expose(paint(backdrop, crowd + objects), recipe, rng)
    for placed in crowd + objects:
        placed.factors.update(ground=name, **light)
    return picture, objects, crowd
