"""Weighted k-nearest-neighbour classification of features (Wu et al., arXiv 1805.01978, section 3.4).

The probe of a pretraining run and the kNN task (``python -m benchmarks run --task knn``) both vote by it.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = 2**26  # that exist at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """``k`` neighbours, ``temperature`` T of the vote."""

    k: int
    temperature: float = 0.1


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, classes: int, config: KnnConfig) -> Tensor:
    """Predicted class (M,) of ``test`` M×D from ``train`` N×D with ``labels`` (N,) in [0, classes)."""
    lengths = train.norm(dim=1).clamp(min=1e-12)  # divided out of the products: ImageNet's features fit once, not twice
    predicted = []
    for rows in torch.split(F.normalize(test), max(1, min(256, SIMILARITIES // len(train)))):
        similarity, neighbours = (rows @ train.T).div_(lengths).topk(min(config.k, len(train)))
        votes = (similarity / config.temperature).exp()
        scores = torch.zeros(len(rows), classes, device=rows.device).scatter_add_(1, labels[neighbours], votes)
        predicted.append(scores.argmax(1))
    return torch.cat(predicted)
