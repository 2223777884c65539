"""ssl-transfer's few-shot episodes: five classes, few images of each, the nearest class mean of frozen features.

Ericsson et al., arXiv 2011.13377; linusericsson/ssl-transfer:few_shot.py, datasets/few_shot_dataset.py. An episode
draws five classes and of each some images to average ("shots") and 15 others to classify by the squared Euclidean
distance; 600 episodes for each number of shots. Train and test images are drawn from together. Images are squashed to
257 × 257 px bilinearly and cropped to 224; features are not normalised. The accuracy's 95 % interval is 1.96 population
standard deviations of the episodes over the root of their number. 5, 20 and 50 shots are published, 1 is an addition.
The seed draws the episodes, by NumPy and not by torch as in the source, whose seed is 0. The accuracies of all episodes
are in episodes.npz beside the record.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from pretrain.common.errors import InputError
from pretrain.data import is_image

if TYPE_CHECKING:
    from benchmarks.run import Context
    from benchmarks.tasks.compute.features import FeatureView

EPISODES = {"smoke": 20, "demo": 200, "small": 600, "paper": 600}
"""Episodes of each profile; the small profiles also have smaller images (profiles.py), and nothing else."""
ENLARGED = 1.15
"""Side of the squashed image, in crops (few_shot_dataset.py, TransformLoader)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """``episodes`` of ``ways`` classes with each number of ``shots``, and ``queries`` images per class to classify."""

    episodes: int
    ways: int = 5
    shots: tuple[int, ...] = (1, 5, 20, 50)
    queries: int = 15
    distance: str = "squared Euclidean"
    interval_factor: float = 1.96


def config_of(profile: str) -> FewShotConfig:
    """The episodes of ``profile``."""
    return FewShotConfig(episodes=EPISODES[profile])


def settings(setup: Setup) -> Settings:
    """The settings of the episodes and of the crop; in fp32, as the features are."""
    crop = PROFILES[setup.profile].view.crop
    view = {"resize": int(crop * ENLARGED), "crop": crop, "squash": True, "interpolation": "bilinear"}
    return Settings(values={**dataclasses.asdict(config_of(setup.profile)), **view}, precision="fp32")


def view_of(profile: str) -> FeatureView:
    """The crop of ``settings``."""
    from benchmarks.tasks.compute.features import FeatureView

    crop = PROFILES[profile].view.crop
    return FeatureView(resize=int(crop * ENLARGED), crop=crop, squash=True)


def check(root: DataRoot, profile: str) -> None:
    """InputError unless five classes have images for the fewest shots."""
    config, folder = config_of(profile), root.folder("imagenet")
    least = min(config.shots) + config.queries
    counts = Counter[str]()
    for split in ("train", "val"):
        for label in root.section("imagenet")["classes"]:
            counts[label] += _images(folder / split / label)
    usable = sum(count >= least for count in counts.values())
    if usable < config.ways:
        raise InputError(
            f"few-shot needs {config.ways} classes of {least} images or more, train and val together, and data set "
            f"{root.name} has {usable}: add images, or leave out few-shot"
        )


def _images(folder: Path) -> int:
    return sum(sum(map(is_image, names)) for _, _, names in os.walk(folder, followlinks=True))


def run(context: Context) -> Result:
    """Mean accuracy of the episodes in percent for each number of shots, and half the width of its 95 % interval."""
    import numpy as np

    from benchmarks.tasks.compute.few_shot import accuracies, save, summary, usable_classes

    profile, resolved = context.spec.profile, settings(Setup(profile=context.spec.profile))
    config, found = config_of(profile), context.features(view_of(profile))
    x = [part.x for part in found.values()]
    y = np.concatenate([part.y for part in found.values()])
    done = {shots: accuracies(x, y, shots, config, context.spec.seed) for shots in config.shots}
    save(done, context.folder)
    classes = {shots: len(usable_classes(y, shots, config)) for shots in config.shots}
    return Result(
        metrics=summary(done, config),
        test_images=len(y),
        config=resolved.values | {"classes": {str(shots): number for shots, number in classes.items()}},
        precision=resolved.precision,
        notes=tuple(_notes(classes, found["train"].classes, config)),
    )


def _notes(classes: dict[int, int], whole: int, config: FewShotConfig) -> list[str]:
    """The numbers of shots that the data cannot give, and those that not every class can."""
    found = []
    for shots, number in classes.items():
        least = shots + config.queries
        if number < config.ways:
            found.append(f"{shots}-shot is undefined: {number} classes have the {least} images that it takes")
        elif number < whole:
            found.append(f"{shots}-shot is of the {number} of {whole} classes with {least} images")
    return found


def _metrics() -> tuple[Metric, ...]:
    """The published 5 shots first, then 20 and 50; 1 and the intervals are in the CSV."""
    order = sorted(FewShotConfig(episodes=1).shots, key=lambda shots: (shots == 1, shots))
    values = [Metric(key=f"shot{shots}", label=f"{shots}-shot", shown=shots > 1) for shots in order]
    return (
        *values,
        *(Metric(key=f"ci95_{shots}", label=f"{shots}-shot ±", decimals=2, shown=False) for shots in order),
    )


TASK = Task(
    name="few-shot",
    title="5-way",
    kind="frozen",
    layout="imagenet",
    version=1,
    metrics=_metrics(),
    deterministic=False,
    reference="nearest class mean of frozen features, 600 episodes: linusericsson/ssl-transfer:few_shot.py (its "
    "readme.md: DeepCluster-v2 on EuroSAT, 5 shots, 88.39 ± 0.49)",
    settings=settings,
    run=run,
    check=check,
    data="the sets of many-shot; EuroSAT, CropDiseases, ISIC, ChestX or any other five classes as an ImageFolder",
    settings_table="fewshot",
    cost=Cost(
        gpu_hours=0.05, disk_gb=0.9, how="a guess: features of 101,000 images (Food101, the largest), then seconds"
    ),
)
