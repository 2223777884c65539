"""Upper bounds of the superfluous information I(v1; z1 | v2), as pure functions; swap the views for I(v2; z2 | v1).

For stochastic z1 ~ p(z1|v1) and ANY q, I(v1; z1 | v2) ≤ E KL(p(z1|v1) ‖ q(z1|v2)), with equality for the true
conditional. *cross_view* takes the encoder's distribution of the other view for q, *learned* a fitted one; *rate* is
I(v1; z1 | v2) ≤ R − I_nce, R = E KL(p(z1|v1) ‖ r) for a prior r that knows neither view. None is always the smallest,
and for a deterministic z all are infinite.

N image pairs, d dimensions; mu1, sigma1, mu2, sigma2 (N, d) of p(z|v) = N(μ, diag σ²), unit vectors for von
Mises–Fisher. Nats; sums over d, means over the batch; float32 also inside autocast; gradients reach every argument.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pretrain.information import vmf
from pretrain.information.objectives import to_float32


def gaussian_kl(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> Tensor:
    """(N,) KL(N(μ1, σ1²) ‖ N(μ2, σ2²)) = ½ Σ [log σ2² − log σ1² + (σ1² + (μ1−μ2)²)/σ2² − 1]; (d,) arguments too."""
    with torch.autocast(mu1.device.type, enabled=False):
        mu1, sigma1, mu2, sigma2 = to_float32(mu1, sigma1, mu2, sigma2)
        ratio = (sigma1 / sigma2).square()
        return (((mu1 - mu2) / sigma2).square() + ratio - ratio.log() - 1).sum(-1) / 2


def cross_view_gaussian(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> Tensor:
    """Upper bound on I(v1; z1 | v2), a scalar in nats ≥ 0: the mean KL(p(z1|v1) ‖ p(z2|v2)), q from the same encoder.

    Federici et al., arXiv 2002.07017. Its gap to the truth does not shrink with the batch.
    """
    return gaussian_kl(mu1, sigma1, mu2, sigma2).mean()


def cross_view_vmf(z1: Tensor, mu1: Tensor, mu2: Tensor, kappa_e: float, kappa_b: float) -> Tensor:
    """One-sample estimate of an upper bound on I(v1; z1 | v2), a scalar in nats.

    log vMF(z1; mu1, κe) − log vMF(z1; mu2, κb) with z1 ~ vMF(mu1, κe): KL(p(z1|v1) ‖ q(z1|v2)) with q from the same
    encoder, the residual term of C-SimCLR (Lee et al., arXiv 2109.12909). The estimate of one draw can be negative, its
    expectation cannot. The gradient flows into every argument.
    """
    with torch.autocast(z1.device.type, enabled=False):
        z1, mu1, mu2 = to_float32(z1, mu1, mu2)
        return (vmf.log_prob(z1, mu1, kappa_e) - vmf.log_prob(z1, mu2, kappa_b)).mean()


def cross_view_vmf_floor(d: int, kappa_e: float, kappa_b: float) -> float:
    """The expectation of ``cross_view_vmf`` where both views' means agree, in nats: the least it can be.

    log C_d(κe) − log C_d(κb) + (κe − κb) A_d(κe), a constant of the noise; at means with cosine c the expectation is
    κb A_d(κe) (1 − c) more. At κe 1024, κb 10, d 256: 184.7 of at most 193.5 for orthogonal means.
    """
    normalisers = vmf.log_normaliser(d, kappa_e) - vmf.log_normaliser(d, kappa_b)
    return normalisers + (kappa_e - kappa_b) * vmf.mean_resultant(d, kappa_e)


def rate_normal(mu1: Tensor, sigma1: Tensor) -> Tensor:
    """(N,) R = KL(p(z1|v1) ‖ N(0, I)) in nats ≥ 0: in the mean an upper bound on I(v1; z1)."""
    return gaussian_kl(mu1, sigma1, torch.zeros_like(mu1), torch.ones_like(sigma1))


def rate_mixture(own: Tensor, densities: Tensor) -> Tensor:
    """(N,) one-sample R with a mixture over OTHER images as prior, in nats; in the mean an upper bound on I(v1; z1).

    ``own`` (N,) is log p(z1|v1); ``densities`` (N, M·N) is log p(z1 of image i | a view of image k), column k or
    N + k or …: both views of image i itself are left out, so that the prior does not know them. Tight only
    when N ≫ e^I(v1; z1).
    """
    with torch.autocast(own.device.type, enabled=False):
        own, densities = to_float32(own, densities)
        n = len(own)
        same = torch.eye(n, dtype=torch.bool, device=own.device).repeat(1, densities.shape[1] // n)
        others = densities.masked_fill(same, -math.inf)
        return own - (torch.logsumexp(others, 1) - math.log(densities.shape[1] - densities.shape[1] // n))


def superfluous_rate(rate: Tensor, predictive: Tensor) -> Tensor:
    """R − I_nce: an upper bound on I(v1; z1 | v2) = I(v1; z1) − I(v2; z1), in nats.

    ``predictive`` must be an unclipped lower bound on I(v2; z1) for the SAME sampled z1; a bound on I(z1; z2) will do
    (and loses I(v2; z1 | z2)), one between means will not. As a loss it is no new kind of term: L_nce + λa S12 + λb S21
    is then (1+λa+λb) L_nce + λa R1 + λb R2 up to constants, InfoNCE with a rate penalty of weight λ/(1+λa+λb).
    """
    return rate - predictive


def log_normal(z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """(N, K) log-densities of z (N, d) under K Gaussians μ, σ (K, d), in nats.

    By matrix products, without an N×K×d tensor: the error is float32's of the largest Σ (z/σ)², 1e-3 nats at 1e4.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, mu, sigma = to_float32(z, mu, sigma)
        weight = sigma.square().reciprocal()
        square = z.square() @ weight.T - 2 * z @ (mu * weight).T + (mu.square() * weight).sum(1)
        return -(square / 2 + sigma.log().sum(1) + z.shape[1] / 2 * math.log(2 * math.pi))
