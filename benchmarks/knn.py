"""Weighted k-nearest-neighbour classification of frozen features (Wu et al., arXiv 1805.01978, section 3.4).

A vote of exp(cosine / T) from each of the k nearest training images. k 200, T 0.1 as lightly's ResNet-50 benchmark;
k 20 for the small profiles, whose classes have 20 to 300 images.
"""

from __future__ import annotations

import dataclasses

import torch

from benchmarks.features import VIEWS, eval_precision, features
from benchmarks.run import Context, Result
from pretrain.config import best_device
from pretrain.neighbours import KnnConfig, knn_predict

CONFIGS = {"smoke": KnnConfig(k=20), "demo": KnnConfig(k=20), "paper": KnnConfig(k=200)}


def run_knn(context: Context) -> Result:
    """Top-1 in percent on the val split."""
    config = CONFIGS[context.spec.profile]
    found = features(context.backbone(), context.root, context.spec.profile, context.loader_workers)
    device = best_device()
    x = {split: torch.tensor(part.x, device=device) for split, part in found.items()}
    y = {split: torch.tensor(part.y, device=device) for split, part in found.items()}
    predicted = knn_predict(x["train"], y["train"], x["val"], found["val"].classes, config)
    top1 = 100 * (predicted == y["val"]).double().mean().item()
    settings = {**dataclasses.asdict(config), **dataclasses.asdict(VIEWS[context.spec.profile])}
    return Result(metrics={"top1": top1}, test_images=len(predicted), config=settings, precision=eval_precision())
