"""Classify test images by a trained network, over the processes of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.tasks.compute.features import FeatureView, eval_transform
from pretrain.common.errors import InputError
from pretrain.common.signals import leave_signals_to_parent
from pretrain.data import decode
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


class _Images(Dataset[tuple[Tensor, str]]):
    """The images at ``paths`` through ``transform``, and "" or why one could not be read: an error raised in a loader
    process comes wrapped in a traceback."""

    def __init__(self, paths: Sequence[Path], view: FeatureView, backbone: Backbone) -> None:
        self.paths, self.transform, self.size = paths, eval_transform(view, backbone), view.crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            return self.transform(decode(self.paths[index])), ""
        except InputError as error:
            return torch.zeros(3, self.size, self.size), str(error)


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
    own = np.array_split(np.arange(len(images)), world_size())[rank()]
    loader = DataLoader(
        _Images([images[place] for place in own], view, backbone),
        batch_size=BATCH,
        num_workers=workers,
        worker_init_fn=leave_signals_to_parent,
        generator=torch.Generator().manual_seed(0),  # or its processes' seed would be drawn from the global one
    )
    device = next(network.parameters()).device
    found: list[tuple[Tensor, Tensor, Tensor]] = []  # confidence, predicted, best five
    network.eval()
    with torch.no_grad():
        for x, reasons in loader:
            if reason := next(filter(None, reasons), None):
                raise InputError(reason)
            with autocast:
                scores = network(x.to(device, memory_format=torch.channels_last)).float()
            best = scores.topk(min(5, classes)).indices
            confidence, predicted = scores.softmax(1).max(1)
            found.append((confidence.cpu(), predicted.cpu(), best.cpu()))
    network.train()
    parts = all_gather_object([torch.cat(same) for same in zip(*found, strict=True)] if found else [])
    confidence, predicted, best = (torch.cat(same) for same in zip(*filter(None, parts), strict=True))
    truth = torch.from_numpy(y)
    return Classified(
        top1=100 * (predicted == truth).double().mean().item(),
        top5=100 * (best == truth[:, None]).any(1).double().mean().item() if classes > 5 else None,
        predicted=predicted,
        confidence=confidence,
    )
