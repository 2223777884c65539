"""Contrastive losses and bounds of the information terms, as pure functions.

N image pairs, d embedding dimensions; z1, z2 (N, d) are the (sampled) embeddings of the two views, mu1, mu2 (N, d) the
directions of the encoder's distributions. Nats; sums over d, means over the batch; float32 also inside autocast.
Tested against double loops: ``python -m pytest tests/pretrain/test_objectives.py``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain import vmf


def _exact(*tensors: Tensor) -> list[Tensor]:
    """Float32 versions of half-precision tensors; float64 stays, for gradient checks."""
    return [tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in tensors]


def nt_xent(
    z1: Tensor, z2: Tensor, temperature: float, keys: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """SimCLR's loss (arXiv 2002.05709, eq. 1) and its score log(2N−1) − loss, both scalars in nats.

    Unit vectors in. Each of the 2N anchors has 2N−1 candidates: its own other view (the positive) and both views of
    every other image. ``keys`` = (mu1, mu2) are the candidates when they are not the anchors themselves, as for sampled
    z; an anchor's own key is left out either way, so keys = (z1, z2) is SimCLR exactly. The score is NOT a bound on
    I(z1; z2) (superinfo.md); log N − loss is.
    """
    with torch.autocast(z1.device.type, enabled=False):
        anchors = torch.cat(_exact(z1, z2))
        candidates = torch.cat(_exact(*keys)) if keys is not None else anchors
        n = len(z1)
        logits = anchors @ candidates.T / temperature
        logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z1.device), -math.inf)
        positives = torch.arange(2 * n, device=z1.device).roll(n)
        loss = F.cross_entropy(logits, positives)
        return loss, math.log(2 * n - 1) - loss


def info_nce(logits12: Tensor, logits21: Tensor) -> tuple[Tensor, Tensor]:
    """Two-tower InfoNCE over in-batch candidates and its lower bound log N − loss on I(z1; z2), scalars in nats.

    logits12[i, k] scores z1 of image i against view 2 of image k, logits21[i, k] z2 of image i against view 1 of image
    k; the diagonals are the positives (van den Oord et al., arXiv 1807.03748, eq. 4; mean of both directions). With a
    cosine critic over τ it stays under about log N − log(1 + (N−1)e^(−1/τ)): fine to train with, little to report.
    """
    with torch.autocast(logits12.device.type, enabled=False):
        logits12, logits21 = _exact(logits12, logits21)
        target = torch.arange(len(logits12), device=logits12.device)
        loss = (F.cross_entropy(logits12, target) + F.cross_entropy(logits21, target)) / 2
        return loss, math.log(len(logits12)) - loss


def superfluous_vmf(
    z1: Tensor, z2: Tensor, mu1: Tensor, mu2: Tensor, kappa_e: float, kappa_b: float
) -> tuple[Tensor, Tensor]:
    """(S12, S21): one-sample estimates of upper bounds on I(v1; z1 | v2) and I(v2; z2 | v1), scalars in nats.

    S12 = log vMF(z1; mu1, κe) − log vMF(z1; mu2, κb) with z1 ~ vMF(mu1, κe): the cross_view bound KL(p(z1|v1) ‖
    q(z1|v2)) with q from the same encoder, the residual term of C-SimCLR (Lee et al., arXiv 2109.12909). The estimate
    of one draw can be negative, its expectation cannot. The gradient flows into both arguments.
    """
    with torch.autocast(z1.device.type, enabled=False):
        z1, z2, mu1, mu2 = _exact(z1, z2, mu1, mu2)
        s12 = (vmf.log_prob(z1, mu1, kappa_e) - vmf.log_prob(z1, mu2, kappa_b)).mean()
        s21 = (vmf.log_prob(z2, mu2, kappa_e) - vmf.log_prob(z2, mu1, kappa_b)).mean()
        return s12, s21


def spread(directions: Tensor) -> Tensor:
    """Standard deviation over the batch, summed over dimensions (root of the total variance), of unit vectors (N, d).

    A scalar in [0, 1]: 1 for directions spread evenly over the sphere, 0 when all are the same (collapse).
    """
    with torch.autocast(directions.device.type, enabled=False):
        return _exact(directions.detach())[0].var(0, correction=0).sum().sqrt()
