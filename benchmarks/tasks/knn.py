"""Weighted k-nearest-neighbour classification of frozen features (Wu et al., arXiv 1805.01978, section 3.4).

A vote of exp(cosine / T) from each of the k nearest training images. k 200, T 0.1 as lightly's ResNet-50 benchmark;
k 20 for the small profiles, whose classes have 20 to 300 images.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.run import Context, Resolved, Result
from benchmarks.tasks.features import PRECISION, VIEWS, features
from pretrain.common.device import best_device
from pretrain.common.knn import KnnConfig, knn_predict

CONFIGS = {"smoke": KnnConfig(k=20), "demo": KnnConfig(k=20), "paper": KnnConfig(k=200)}


def resolve(task: str, protocol: str, profile: str, num_gpus: int | None, opts: tuple[str, ...]) -> Resolved:
    """The settings of the vote and of the crop; GPUs and detectron2's options do not reach them."""
    return Resolved(settings=_settings(profile), precision=PRECISION)


def _settings(profile: str) -> dict[str, Any]:
    return {**dataclasses.asdict(CONFIGS[profile]), **dataclasses.asdict(VIEWS[profile])}


def run(context: Context) -> Result:
    """Top-1 in percent on the val split."""
    spec, device = context.spec, best_device()
    found = features(context.backbone(), context.root, spec.profile, context.loader_workers)
    x = {split: part.tensor(np.arange(len(part.y)), device) for split, part in found.items()}
    y = {split: torch.tensor(part.y, device=device) for split, part in found.items()}
    predicted = knn_predict(x["train"], y["train"], x["val"], found["val"].classes, CONFIGS[spec.profile])
    top1 = 100 * (predicted == y["val"]).double().mean().item()
    settings = _settings(spec.profile)
    return Result(metrics={"top1": top1}, test_images=len(predicted), config=settings, precision=PRECISION)
