"""Predictive and superfluous nats of frozen features: bounds of pretrain/information/estimate.py, by the seed.

Two augmented views of each image drawn from the val split, which no network here was trained on; half of the images are
fitted on, half reported on.
The record's config has every bound with its 95 % interval of a bootstrap over images.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.run import Context
    from pretrain.information.two_views import InformationConfig

IMAGES_PER_DIMENSION = 32  # as estimate.py requires
LABELS = {
    "predictive": "I(v2;z1) ≥",
    "superfluous": "I(v1;z1|v2) ≤",
    "carried": "I(v1;z1) ≤",
    "cross_view": "cross_view",
    "learned": "learned",
    "rate": "rate",
}


def information_config(profile: str, seed: int = 0) -> InformationConfig:
    """The settings of ``profile``; compare only results of the same.

    Views are those of its SimCLR preset, since they decide what two views share; of ImageNet's crops at 224 px for
    paper.
    """
    from pretrain.information.two_views import InformationConfig
    from pretrain.presets import PRESETS

    about, preset = PROFILES[profile], PRESETS.get(f"{profile}-simclr")
    sized = InformationConfig(
        images=about.information_images, dim=about.information_dim, image_size=about.view.crop, seed=seed
    )
    return dataclasses.replace(sized, image_size=preset.image_size, views=preset.views) if preset else sized


def check(root: DataRoot, profile: str) -> None:
    """InputError where the val split has too few images."""
    needed, count = (
        IMAGES_PER_DIMENSION * PROFILES[profile].information_dim,
        root.section("imagenet")["counts"]["val"],
    )
    if count < needed:
        raise InputError(f"data set {root.name} has {count} val images, and information takes at least {needed}")


def settings(setup: Setup) -> Settings:
    """All but the seed, which draws images, views and halves."""
    values = dataclasses.asdict(information_config(setup.profile))
    del values["seed"]
    return Settings(values=values, precision="fp32")


def run(context: Context) -> Result:
    """Nats, means over the reporting half."""
    from benchmarks.tasks.compute.features import labelled_images
    from benchmarks.tasks.compute.information import two_view_features
    from pretrain.information.estimate import measure, table

    config = information_config(context.spec.profile, context.spec.seed)
    images, _ = labelled_images(context.root, "val")
    h = two_view_features(context.backbone(), images, context.spec.data_fingerprint, config)
    found = measure(h, dim=config.dim, noise=config.noise, resamples=config.resamples, seed=config.seed)
    print(table(found), file=sys.stderr)  # into the run's log
    resolved = settings(Setup(profile=context.spec.profile))
    smallest = getattr(found, found.superfluous)
    return Result(
        metrics={key: (smallest if key == "superfluous" else getattr(found, key)).value for key in LABELS},
        test_images=found.candidates,
        config=resolved.values | {"information": dataclasses.asdict(found)},
        precision=resolved.precision,
    )


TASK = Task(
    name="information",
    title="information",
    kind="frozen",
    layout="imagenet",
    version=2,
    metrics=tuple(
        Metric(key=key, label=label, unit="nats", decimals=2, shown=number < 2, higher_is_better=key == "predictive")
        for number, (key, label) in enumerate(LABELS.items())
    ),
    deterministic=False,
    reference="bounds of docs/information.md on a linear head's z; nats, half of the images reported on",
    settings=settings,
    run=run,
    check=check,
    data="ImageNet-1k's val split (50,000 images, of which 1,000 are drawn); 6.3 GB",
    cost=Cost(
        gpu_hours=0.1,
        disk_gb=0.02,
        how="2,000 forward passes and the fits of a few small heads, not measured; disk: their features",
    ),
)
