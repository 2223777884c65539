"""Weighted k-nearest-neighbour classification of frozen features (Wu et al., arXiv 1805.01978, section 3.4).

A vote of exp(cosine / T) from each of the k nearest training images. k 200, T 0.1 as lightly's ResNet-50 benchmark;
k 20 for the small profiles, whose classes have 20 to 300 images.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Published, Result, Settings, Setup, Task
from benchmarks.tasks.linear import TOP1

if TYPE_CHECKING:
    from benchmarks.run import Context

TEMPERATURE = 0.1


def settings(setup: Setup) -> Settings:
    """The settings of the vote and of the evaluation crop."""
    profile = PROFILES[setup.profile]
    vote = {"k": profile.neighbours, "temperature": TEMPERATURE}
    return Settings(values={**vote, **dataclasses.asdict(profile.view)}, precision="fp32")


def run(context: Context) -> Result:
    """Top-1 in percent on the val split."""
    import numpy as np
    import torch

    from pretrain.common.device import best_device
    from pretrain.common.knn import KnnConfig, knn_predict

    device, found = best_device(), context.features()
    resolved = settings(Setup(profile=context.spec.profile))
    config = KnnConfig(k=resolved.values["k"], temperature=resolved.values["temperature"])
    x = {split: part.tensor(np.arange(len(part.y)), device) for split, part in found.items()}
    y = {split: torch.tensor(part.y, device=device) for split, part in found.items()}
    predicted = knn_predict(x["train"], y["train"], x["val"], found["val"].classes, config)
    top1 = 100 * (predicted == y["val"]).double().mean().item()
    return Result(
        metrics={"top1": top1}, test_images=len(predicted), config=resolved.values, precision=resolved.precision
    )


TASK = Task(
    name="knn",
    title="kNN",
    kind="frozen",
    layout="imagenet",
    version=2,
    metrics=(TOP1,),
    deterministic=True,
    reference="weighted k nearest neighbours of Wu et al. (arXiv 1805.01978), cosine similarity",
    settings=settings,
    run=run,
    published=Published(detector="", schedule="k=200 t=0.1", headings={"kNN top-1": ("imagenet_knn", "top1")}),
)
