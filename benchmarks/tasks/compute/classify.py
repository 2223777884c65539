"""Classify test images by a trained network, over the processes of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tasks.compute import features
from benchmarks.tasks.compute.features import FeatureView
from benchmarks.tasks.compute.scoring import best_first, confidence, top1_top5
from pretrain.runtime.distributed import all_gather_object, rank, world_size
from transfer.checkpoints.backbone import Backbone

BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classified:
    """Top-1 and top-5 (None with five classes or fewer) in percent; of the N images the predicted classes and the
    network's probability of them."""

    top1: float
    top5: float | None
    predicted: Tensor
    confidence: Tensor


def classify(
    network: nn.Module,
    backbone: Backbone,
    view: FeatureView,
    images: Sequence[Path],
    y: np.ndarray,
    classes: int,
    *,
    autocast: torch.autocast,
    workers: int,
) -> Classified:
    """Test ``network`` in eval mode on ``images`` of class numbers ``y`` (N,); it is left in training mode.

    Each process classifies a part of the images. InputError for the first that cannot be read.
    """
    own = [images[place] for place in np.array_split(np.arange(len(images)), world_size())[rank()]]
    device, network_input = next(network.parameters()).device, features.network_input(backbone.input)
    found: list[tuple[Tensor, Tensor]] = []  # confidence, best five
    network.eval()
    with torch.no_grad():
        for batch in features.byte_batches(own, view, workers, BATCH):
            x = network_input(batch.to(device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
            with autocast:
                scores = network(x).float()
            best = best_first(scores)
            found.append((confidence(scores, best[:, 0]).cpu(), best.cpu()))
    network.train()
    parts = all_gather_object([torch.cat(same) for same in zip(*found, strict=True)] if found else [])
    sure, best = (torch.cat(same) for same in zip(*filter(None, parts), strict=True))
    top1, top5 = top1_top5(best, torch.from_numpy(y), classes)
    return Classified(top1=top1, top5=top5, predicted=best[:, 0], confidence=sure)
