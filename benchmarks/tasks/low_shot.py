"""Linear evaluation on ten training images per class, drawn by the seed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data.root import DataRoot
from benchmarks.tasks.base import Cost, Result, Settings, Setup, Task
from benchmarks.tasks.linear import (
    EXTRACTION,
    IMAGENET,
    TOP1,
    LinearConfig,
    evaluate_features,
    linear_config,
    logistic_settings,
)
from pretrain.common.errors import InputError
from pretrain.data import is_image

if TYPE_CHECKING:
    from benchmarks.run import Context

IMAGES_PER_CLASS = 10


def low_shot_config(profile: str) -> LinearConfig:
    """One decay for all draws: of ten images per class only two could be held out, too few to choose by."""
    return dataclasses.replace(linear_config(profile), labels_per_class=IMAGES_PER_CLASS, decays=(1e-1,))


def check(root: DataRoot, profile: str) -> None:
    """InputError that names the first class with too few training images."""
    for label in root.section("imagenet")["classes"]:
        count = _images(root.folder("imagenet") / "train" / label)
        if count < IMAGES_PER_CLASS:
            raise InputError(
                f"class {label} of data set {root.name} has {count} training images, and low-shot takes "
                f"{IMAGES_PER_CLASS} per class: add images, remove the class, or leave out low-shot"
            )


def _images(folder: Path) -> int:
    """Number of images in ``folder``, counted until there are enough."""
    count = 0
    for _, _, names in os.walk(folder, followlinks=True):
        count += sum(map(is_image, names))
        if count >= IMAGES_PER_CLASS:
            break
    return count


def settings(setup: Setup) -> Settings:
    """On ten labels per class."""
    return logistic_settings(low_shot_config(setup.profile), setup.profile)


def run(context: Context) -> Result:
    """Top-1 in percent on the val split."""
    return evaluate_features(context, low_shot_config(context.spec.profile))


TASK = Task(
    name="low-shot",
    title="10-shot",
    kind="frozen",
    layout="imagenet",
    version=3,
    metrics=(TOP1,),
    deterministic=False,
    reference="as linear, on 10 training images per class drawn by the seed, decay 0.1",
    settings=settings,
    run=run,
    check=check,
    data=IMAGENET,
    cost=Cost(
        gpu_hours=0.4,
        disk_gb=10.9,
        how=f"{EXTRACTION}, not measured; the fit of 10,000 rows takes minutes; disk: the features, shared by all "
        "tasks of this view",
    ),
)
