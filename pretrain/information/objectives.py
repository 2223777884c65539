"""Contrastive losses (in-batch, queue, memory bank) and the bounds on I(z1; z2) that they give, as pure functions.

N image pairs, d embedding dimensions, m stored candidates; z1, z2 (N, d) are the (sampled) embeddings of the two views,
mu1, mu2 (N, d) the directions of the encoder's distributions. Nats; sums over d, means over the batch; float32 also
inside autocast. Each function returns its loss with either a *bound*, true in expectation when the candidates are
draws of p(z2) independent of the anchor's pair, or a *score*, a number on the same scale that bounds nothing.
The superfluous terms are in superfluous.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def to_float32(*tensors: Tensor) -> list[Tensor]:
    """Float32 versions of half-precision tensors; float64 stays, for gradient checks."""
    return [tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in tensors]


def nt_xent(
    z1: Tensor, z2: Tensor, temperature: float, keys: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """SimCLR's loss (arXiv 2002.05709, eq. 1) and its score log(2N−1) − loss, both scalars in nats.

    Unit vectors in. Each of the 2N anchors has 2N−1 candidates: its own other view (the positive) and both views of
    every other image. ``keys`` = (mu1, mu2) are the candidates when they are not the anchors themselves, as for sampled
    z; an anchor's own key is left out either way, so keys = (z1, z2) is SimCLR exactly. The score is NOT a bound on
    I(z1; z2): it is false for views with different marginals. log N − loss is one, and without ``keys`` at most the
    cap that docs/information.md gives for N candidates.
    """
    with torch.autocast(z1.device.type, enabled=False):
        anchors = torch.cat(to_float32(z1, z2))
        candidates = torch.cat(to_float32(*keys)) if keys is not None else anchors
        n = len(z1)
        logits = anchors @ candidates.T / temperature
        logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z1.device), -math.inf)
        positives = torch.arange(2 * n, device=z1.device).roll(n)
        loss = F.cross_entropy(logits, positives)
        return loss, math.log(2 * n - 1) - loss


def info_nce(logits12: Tensor, logits21: Tensor) -> tuple[Tensor, Tensor]:
    """Two-tower InfoNCE over in-batch candidates and its lower bound log N − loss on I(z1; z2), scalars in nats.

    logits12[i, k] scores z1 of image i against view 2 of image k, logits21[i, k] z2 of image i against view 1 of image
    k; the diagonals are the positives (van den Oord et al., arXiv 1807.03748, eq. 4; mean of both directions). Where
    the candidates are the means of view 2 (or μ of a von Mises–Fisher), it bounds I(z1; v2), which is no less. With a
    cosine critic over τ the bound has a cap under 1/τ nats (docs/information.md): fine to train with, little to report.
    """
    with torch.autocast(logits12.device.type, enabled=False):
        logits12, logits21 = to_float32(logits12, logits21)
        target = torch.arange(len(logits12), device=logits12.device)
        loss = (F.cross_entropy(logits12, target) + F.cross_entropy(logits21, target)) / 2
        return loss, math.log(len(logits12)) - loss


def info_nce_memory(anchors: Tensor, positives: Tensor, stored: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE with one positive (N, d) an anchor (N, d) and stored negatives; its score log(1+m) − loss, in nats.

    Unit vectors in. ``stored`` is (m, d) for all anchors, a momentum queue (MoCo, arXiv 1911.05722, eq. 1), or
    (N, m, d), each anchor's own draws from a memory bank (InstDis, arXiv 1805.01978; CMC, arXiv 1906.05849, eq. 5).
    The score is NOT a bound: stored keys were made by earlier encoders and are no draws of today's p(z2).
    """
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, positives, stored = to_float32(anchors, positives, stored)
        own = (anchors * positives).sum(1, keepdim=True)
        others = anchors @ stored.T if stored.dim() == 2 else torch.einsum("nd,nmd->nm", anchors, stored)
        logits = torch.cat([own, others], 1) / temperature
        loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        return loss, math.log(logits.shape[1]) - loss


def embedding_std(directions: Tensor) -> Tensor:
    """Standard deviation over the batch, summed over dimensions (root of the total variance), of unit vectors (N, d).

    A scalar in [0, 1]: 1 for directions spread evenly over the sphere, 0 when all are the same (collapse).
    """
    with torch.autocast(directions.device.type, enabled=False):
        return to_float32(directions.detach())[0].var(0, correction=0).sum().sqrt()
