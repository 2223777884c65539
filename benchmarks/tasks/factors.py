"""How much of each factor of an image a linear probe reads from frozen features: nuisances, and the class beside them.

factors         known factors (benchmarks/data/factors.py): the embedded set's recipe, or the user's CSV. Where the list
                has groups (drawings), tested on images of other ones than the probe was fitted on
factors-image   factors of any image: a random crop's place and size, JPEG quality, and the brightness, contrast, colour
                and sharpness of the pixels seen

A number is R² of ridge regression, a category accuracy above chance (compute/factors.py), in percent. The record has
95 % intervals of a bootstrap over the test images, and the score of each probe fitted on permutations of its factor,
which must be near 0. A high score says that the factor can be read off, not that it is used.

Of a pretraining run of this project, whose folder has the head, ``z …`` are the same probes of the embedding z that the
loss compares; all else is of the features h that transfer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.factors import LAYER, SPLITS, Factor, check_factors, factors_digest, factors_of
from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from pretrain.common.errors import printable

if TYPE_CHECKING:
    from benchmarks.run import Context

KNOWN = {  # factor of the embedded set → label; the class is no nuisance
    "position": "position",
    "scale": "size",
    "rotation": "rotation",
    "flip": "flip",
    "hue": "hue",
    "exposure": "exposure",
    "haze": "haze",
    "ground": "ground",
    "drawing": "drawing",
    "class": "class",
}
Z = LAYER  # before the name of a factor, of the embedding
IMAGE = ("position", "crop size", "JPEG quality", "brightness", "contrast", "colour", "sharpness")
AT_ONCE = 8192  # images under a head
# Images fitted on and tested on.
IMAGES = {"smoke": (200, 100), "demo": (2000, 1000), "small": (2000, 1000), "paper": (10_000, 5_000)}


def check(root: DataRoot, profile: str) -> None:
    """InputError where the root has no usable list of factors."""
    check_factors(root)


def settings(setup: Setup) -> Settings:
    """The evaluation crop and the probe."""
    return Settings(values={**_probe_values(), **dataclasses.asdict(PROFILES[setup.profile].view)}, precision="fp32")


def image_settings(setup: Setup) -> Settings:
    """The distortions, the number of images and the probe."""
    fitted, tested = IMAGES[setup.profile]
    values = {"size": PROFILES[setup.profile].view.crop, "fit_images": fitted, "test_images": tested}
    return Settings(values={**_probe_values(), **values, "distortions": 1}, precision="fp32")


def _probe_values() -> dict[str, object]:
    return {"probe": "ridge, leave-one-out penalty per factor", "alphas": [-1, 6], "at_most": 20_000}


def run(context: Context) -> Result:
    """The scores of the root's factors on the features of its own splits."""
    from benchmarks.tasks.compute.features import labelled_images
    from benchmarks.tasks.compute.labels import names_below

    folder = context.root.folder("imagenet")
    names = {split: names_below(labelled_images(context.root, split)[0], folder / split) for split in SPLITS}
    factors, groups = factors_of(context.root, names)
    found = context.features()
    resolved = settings(Setup(profile=context.spec.profile))
    return _result(context, found["train"].x, found["val"].x, factors, groups, resolved)


def image_run(context: Context) -> Result:
    """The scores of distortions drawn by the seed and of values of the pixels."""
    from benchmarks.tasks.compute.features import labelled_images
    from benchmarks.tasks.compute.image_factors import as_factors, image_features

    resolved, seed = image_settings(Setup(profile=context.spec.profile)), context.spec.seed
    counts = (resolved.values["fit_images"], resolved.values["test_images"])
    x, parts = [], []
    for part, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        images, _ = labelled_images(context.root, split)
        found, factors = image_features(
            context.backbone(), images, context.spec.data_fingerprint, seed, part, count, resolved.values["size"]
        )
        x.append(found)
        parts.append(factors)
    return _result(context, x[0], x[1], as_factors(parts), None, resolved)


def _layers(context: Context) -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Prefix and layer of features N×D: the features themselves, and the run's embedding where there is a head."""
    import torch

    from pretrain.embedding import load_embedding
    from transfer.checkpoints.families.superinfo import FAMILY

    stored = context.checkpoint.stored
    embed = load_embedding(stored.source.parent) if stored.family == FAMILY.name else None
    if embed is None:
        return [("", lambda x: x)]

    def embedded(x: np.ndarray) -> np.ndarray:
        # In parts: a head's hidden layer of ImageNet's images takes 20 GB.
        parts = (np.array(x[begun : begun + AT_ONCE]) for begun in range(0, len(x), AT_ONCE))
        return np.concatenate([embed(torch.from_numpy(part)).numpy() for part in parts])

    return [("", lambda x: x), (Z, embedded)]


def _result(
    context: Context,
    fit: np.ndarray,
    test: np.ndarray,
    factors: Mapping[str, Factor],
    groups: np.ndarray | None,
    resolved: Settings,
) -> Result:
    """The scores of every layer of features ``fit`` (n×D) and ``test`` (m×D); a deterministic task's seed is 0."""
    from benchmarks.tasks.compute.factors import probe

    scores = {
        prefix + name: score
        for prefix, change in _layers(context)
        for name, score in probe(change(fit), change(test), factors, groups, context.spec.seed).items()
    }
    return Result(
        metrics={name: None if one.value is None else 100 * one.value for name, one in scores.items()},
        test_images=len(test),
        config=resolved.values | {"factors": {name: one.summary() for name, one in scores.items()}},
        precision=resolved.precision,
    )


def _metric(key: str, label: str) -> Metric:
    """Neither high nor low is better: whether a factor is a nuisance depends on the task."""
    unit = "percent above chance: R², or accuracy"
    return Metric(key=key, label=label, unit=unit, higher_is_better=None, shown=not key.startswith(Z))


def _other(key: str) -> Metric:
    """Of a user's own factor."""
    return _metric(key, printable(key))


HOW = "of the probes not measured; 2,048 × 4 bytes per image"
TASKS = (
    Task(
        name="factors",
        title="factors",
        kind="frozen",
        layout="imagenet",
        version=1,
        metrics=tuple(_metric(before + key, before + label) for before in ("", Z) for key, label in KNOWN.items()),
        deterministic=True,
        reference="ridge probes of known factors: R² or accuracy above chance, on images of other drawings",
        settings=settings,
        run=run,
        check=check,
        fingerprint=factors_digest,
        open_metrics=_other,
        data="an ImageFolder with a CSV of factors (`prepare imagenet --factors`), or the embedded set",
        cost=Cost(gpu_hours=0.5, disk_gb=10.9, how=f"features shared with linear; cost {HOW}"),
    ),
    Task(
        name="factors-image",
        title="image factors",
        kind="frozen",
        layout="imagenet",
        version=1,
        metrics=tuple(_metric(before + key, before + key) for before in ("", Z) for key in IMAGE),
        deterministic=False,
        reference="ridge probes of drawn distortions and of the pixels' own statistics: R²",
        settings=image_settings,
        run=image_run,
        open_metrics=_other,
        data="any ImageFolder; ImageNet-1k for paper, of which 15,000 images are drawn",
        cost=Cost(gpu_hours=0.1, disk_gb=0.2, how=f"15,000 forward passes; cost {HOW}"),
    ),
)
