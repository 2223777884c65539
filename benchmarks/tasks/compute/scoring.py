"""Accuracies of class scores: the same for a linear classifier, a head and a whole network."""

from __future__ import annotations

import torch
from torch import Tensor


def best_first(scores: Tensor) -> Tensor:
    """N×5 (or the number of classes): those of the highest of N×C ``scores``; of equal ones the same, whoever asks."""
    return scores.topk(min(5, scores.shape[1])).indices


def top1_top5(best: Tensor, y: Tensor, classes: int) -> tuple[float, float | None]:
    """Top-1 and, with more than five classes, top-5 in percent of ``best``, as best_first has them; ``y`` (N,)."""
    hit = best == y[:, None]
    top5 = 100 * hit.any(1).double().mean().item() if classes > 5 else None
    return 100 * hit[:, 0].double().mean().item(), top5


def confidence(scores: Tensor, predicted: Tensor) -> Tensor:
    """(N,) probabilities of the ``predicted`` classes: the softmax itself may make close scores equal."""
    return torch.softmax(scores, dim=1).gather(1, predicted[:, None])[:, 0]
