"""Linear evaluation on ten training images per class, drawn by the seed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.tasks.base import Result, Settings, Setup, Task
from benchmarks.tasks.linear import TOP1, LinearConfig, evaluate_features, linear_config, logistic_settings

if TYPE_CHECKING:
    from benchmarks.run import Context

IMAGES_PER_CLASS = 10


def low_shot_config(profile: str) -> LinearConfig:
    """One decay for all draws: of ten images per class only two could be held out, too few to choose by."""
    return dataclasses.replace(linear_config(profile), labels_per_class=IMAGES_PER_CLASS, decays=(1e-1,))


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
    version=2,
    metrics=(TOP1,),
    deterministic=False,
    reference="as linear, on 10 training images per class drawn by the seed, decay 0.1",
    settings=settings,
    run=run,
    images_per_class=IMAGES_PER_CLASS,
)
