"""p(z|v), the distribution of a view's embedding: von Mises–Fisher on the sphere, or Gaussian with its own noise.

For candidates from any source, draw z once, use ``directions`` and ``keys`` for the contrast, and ``superfluous`` with
the SAME z. N views, d dimensions; nats; float32 also inside autocast.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, Self, TypeVar

import torch
from torch import Tensor

from pretrain.information import superfluous as bounds
from pretrain.information import vmf
from pretrain.information.objectives import embedding_std
from pretrain.methods.heads import l2_normalize
from pretrain.runtime.distributed import gather

Bound = Literal["cross_view", "rate-normal", "rate-mixture"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VMF:
    """vMF(μ, κe) of N views, one per row of μ (N, d) on the unit sphere; as q(z | other view) with κb."""

    mu: Tensor
    kappa_e: float
    kappa_b: float

    def apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same distributions with ``change`` applied to each of their tensors."""
        return dataclasses.replace(self, mu=change(self.mu))

    def gather(self) -> Self:
        """The distributions of every rank's views, in rank order; sample after this, so that all draw the same z."""
        return self.apply(gather)

    def halves(self) -> tuple[Self, Self]:
        """The first N/2 rows and the rest: the two views of one pass."""
        first, second = self.mu.chunk(2)
        return dataclasses.replace(self, mu=first), dataclasses.replace(self, mu=second)

    def sample(self) -> Tensor:
        """One z per row, (N, d), from the global RNG."""
        return vmf.sample(self.mu, self.kappa_e)

    def directions(self, z: Tensor) -> Tensor:
        """(N, d) unit anchors of the contrast: z itself, which is on the sphere."""
        return z

    def keys(self, z: Tensor) -> Tensor:
        """(N, d) for the other view's anchors: μ, as z1·μ2 κb is log vMF(z1; μ2, κb) up to a constant."""
        return self.mu

    def log_density(self, z: Tensor) -> Tensor:
        """(N,) log p(z of row i | row i)."""
        return vmf.log_prob(z, self.mu, self.kappa_e)

    def log_densities(self, z: Tensor) -> Tensor:
        """(M, N) log p(z of row i | row k) for z (M, d)."""
        with torch.autocast(z.device.type, enabled=False):
            return vmf.log_normaliser(z.shape[1], self.kappa_e) + self.kappa_e * (z @ self.mu.T)

    def cross_view(self, other: Self, z: Tensor) -> Tensor:
        """One-sample estimate of an upper bound on I(v; z | other view): see superfluous.py."""
        return bounds.cross_view_vmf(z, self.mu, other.mu, self.kappa_e, self.kappa_b)

    @property
    def cross_view_floor(self) -> float:
        """The least expectation of ``cross_view``, in nats, whatever the means are."""
        return bounds.cross_view_vmf_floor(self.mu.shape[1], self.kappa_e, self.kappa_b)

    def rate_normal(self) -> Tensor:
        """Raise ValueError: no normal prior on the sphere, and the rate to its uniform one is a constant."""
        raise ValueError("rate-normal is for Gaussian embeddings")

    def noise(self) -> dict[str, Tensor]:
        """ "snr" alone: the noise is fixed by κe. The mean of z is A μ, A = ``mean_resultant``; its variance 1 − A²."""
        resultant = vmf.mean_resultant(self.mu.shape[1], self.kappa_e)
        return {"snr": (resultant * embedding_std(self.mu)).square() / (1 - resultant**2)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """N(μ, diag σ²) of N views, one per row of μ and σ (N, d); σ is between ``low`` and ``high``."""

    mu: Tensor
    sigma: Tensor
    low: float
    high: float

    def apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same distributions with ``change`` applied to each of their tensors."""
        return dataclasses.replace(self, mu=change(self.mu), sigma=change(self.sigma))

    def gather(self) -> Self:
        """See VMF."""
        return self.apply(gather)

    def halves(self) -> tuple[Self, Self]:
        """The first N/2 rows and the rest: the two views of one pass."""
        (mu1, mu2), (sigma1, sigma2) = self.mu.chunk(2), self.sigma.chunk(2)
        return dataclasses.replace(self, mu=mu1, sigma=sigma1), dataclasses.replace(self, mu=mu2, sigma=sigma2)

    def sample(self) -> Tensor:
        """One z per row, (N, d), from the global RNG."""
        return self.mu + self.sigma * torch.randn_like(self.mu)

    def directions(self, z: Tensor) -> Tensor:
        """(N, d) unit anchors of the contrast."""
        return l2_normalize(z)

    def keys(self, z: Tensor) -> Tensor:
        """(N, d) directions of z, which the other view's anchors are compared with and a queue or bank stores."""
        return l2_normalize(z)

    def log_density(self, z: Tensor) -> Tensor:
        """(N,) log p(z of row i | row i)."""
        whitened = (z - self.mu) / self.sigma
        return -(whitened.square() / 2 + self.sigma.log()).sum(1) - z.shape[1] / 2 * math.log(2 * math.pi)

    def log_densities(self, z: Tensor) -> Tensor:
        """(M, N) log p(z of row i | row k) for z (M, d)."""
        return bounds.log_normal(z, self.mu, self.sigma)

    def cross_view(self, other: Self, z: Tensor) -> Tensor:
        """Upper bound on I(v; z | other view); the KL in closed form, so z is not read."""
        return bounds.cross_view_gaussian(self.mu, self.sigma, other.mu, other.sigma)

    @property
    def cross_view_floor(self) -> float:
        """A KL's: 0, where both distributions are the same."""
        return 0.0

    def rate_normal(self) -> Tensor:
        """(N,) KL to N(0, I)."""
        return bounds.rate_normal(self.mu, self.sigma)

    def noise(self) -> dict[str, Tensor]:
        """ "snr" (mean over dimensions), "sigma" (mean) and "sigma_at_bound", the share of σ within 1 % of a bound."""
        mu, sigma = self.mu.detach(), self.sigma.detach()
        at_bound = (sigma < 1.01 * self.low) | (sigma > 0.99 * self.high)
        snr = mu.var(0, correction=0) / sigma.square().mean(0)
        return {"snr": snr.mean(), "sigma": sigma.mean(), "sigma_at_bound": at_bound.float().mean()}


def bounded(raw_mu: Tensor, raw_sigma: Tensor, low: float, high: float) -> Gaussian:
    """μ = √d · raw_mu/‖raw_mu‖, σ = low^(1−s) · high^s with s = sigmoid(raw_sigma): neither can run away.

    Both (N, d). At raw_sigma = 0 σ is the geometric mean of the bounds. Scaling raw_mu changes nothing.
    """
    with torch.autocast(raw_mu.device.type, enabled=False):
        s = raw_sigma.float().sigmoid()
        sigma = ((1 - s) * math.log(low) + s * math.log(high)).exp()
        return Gaussian(mu=math.sqrt(raw_mu.shape[1]) * l2_normalize(raw_mu), sigma=sigma, low=low, high=high)


Embedding = VMF | Gaussian
E = TypeVar("E", VMF, Gaussian)


def superfluous(bound: Bound, own: E, other: E, z: Tensor, predictive: Tensor) -> Tensor:
    """Upper bound on I(v; z | other view), a scalar in nats, for z (N, d) drawn from ``own``.

    ``predictive``, read by the rates alone, is a lower bound on I(other view; z) with its gradient. The prior of
    rate-mixture is the mixture of both views of the other images.
    """
    if bound == "cross_view":
        return own.cross_view(other, z)
    if bound == "rate-normal":
        return bounds.superfluous_rate(own.rate_normal().mean(), predictive)
    densities = torch.cat([own.log_densities(z), other.log_densities(z)], 1)
    return bounds.superfluous_rate(bounds.rate_mixture(own.log_density(z), densities).mean(), predictive)


def logged(bound: Bound, embedding: Embedding, s12: Tensor, s21: Tensor) -> dict[str, Tensor]:
    """The log's scalars of the two superfluous terms, in nats: "superfluous12" and "superfluous21".

    Beside each "excess12" and "excess21", what it has above the least that this noise allows: for vMF's cross-view
    bound alone, because elsewhere the least is 0 or not known.
    """
    terms = {"superfluous12": s12.detach(), "superfluous21": s21.detach()}
    if bound == "cross_view" and embedding.cross_view_floor:
        terms |= {f"excess{way}": terms[f"superfluous{way}"] - embedding.cross_view_floor for way in ("12", "21")}
    return terms
