"""Weighted k-nearest-neighbour classification of features (Wu et al., arXiv 1805.01978, section 3.4).

The probe of a pretraining run and the kNN tasks (``python -m benchmarks run --task knn``) vote by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = 2**26  # that exist at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """``k`` neighbours, ``temperature`` T of the vote."""

    k: int
    temperature: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vote:
    """Of M images: ``predicted`` (M,) class, ``share`` (M,) of all votes that it has, above 0 to 1."""

    predicted: Tensor
    share: Tensor


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, classes: int, config: KnnConfig) -> Tensor:
    """Predicted class (M,) of ``test`` M×D from ``train`` N×D with ``labels`` (N,) in [0, classes)."""
    return knn_votes(train, labels, test, classes, [config])[0].predicted


def knn_votes(train: Tensor, labels: Tensor, test: Tensor, classes: int, configs: Sequence[KnnConfig]) -> list[Vote]:
    """The vote of each of ``configs``, from one pass over the similarities; arguments as of ``knn_predict``."""
    lengths = train.norm(dim=1).clamp(min=1e-12)  # divided out of the products: ImageNet's features fit once, not twice
    most = min(max(config.k for config in configs), len(train))
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in configs]
    for rows in torch.split(F.normalize(test), max(1, min(256, SIMILARITIES // len(train)))):
        similarity, neighbours = (rows @ train.T).div_(lengths).topk(most)  # sorted: the first k are the k nearest
        for config, votes_of in zip(configs, found, strict=True):
            votes = (similarity[:, : config.k] / config.temperature).exp()
            near = labels[neighbours[:, : config.k]]
            scores = torch.zeros(len(rows), classes, device=rows.device).scatter_add_(1, near, votes)
            predicted = scores.argmax(1)
            share = scores.gather(1, predicted[:, None])[:, 0] / votes.sum(1)
            votes_of.append((predicted, share.clamp(max=1)))  # the two sums are rounded differently
    parts = [list(zip(*several, strict=True)) for several in found]
    return [Vote(predicted=torch.cat(classes_of), share=torch.cat(shares)) for classes_of, shares in parts]
