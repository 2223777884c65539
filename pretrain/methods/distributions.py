"""p(z|v), the distribution of a view's embedding: von Mises–Fisher on the sphere, or Gaussian with its own noise.

What a contrast and a superfluous term need of it, whatever the candidates come from: draw z once, read ``directions``
and ``keys`` for the contrast, and ``superfluous`` with the SAME z. N views, d dimensions; nats; float32 also
inside autocast.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor

from pretrain.information import superfluous as bounds
from pretrain.information import vmf
from pretrain.information.objectives import spread
from pretrain.methods.heads import unit
from pretrain.runtime.distributed import gather

Bound = Literal["cross_view", "rate-normal", "rate-mixture"]


class Embedding(ABC):
    """The distributions of N views' embeddings, one a row of ``mu`` (N, d)."""

    mu: Tensor

    @abstractmethod
    def apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same distributions with ``change`` made to each of their tensors."""

    @abstractmethod
    def halves(self) -> tuple[Self, Self]:
        """The first N/2 rows and the rest: the two views of one pass."""

    @abstractmethod
    def sample(self) -> Tensor:
        """One z a row (N, d), from the global RNG."""

    @abstractmethod
    def keys(self, z: Tensor) -> Tensor:
        """(N, d) unit vectors that the other view's anchors are compared with, and that a queue or bank stores."""

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """(N,) log p(z of row i | row i)."""

    @abstractmethod
    def log_densities(self, z: Tensor) -> Tensor:
        """(M, N) log p(z of row i | row k) for z (M, d)."""

    @abstractmethod
    def cross_view(self, other: Self, z: Tensor) -> Tensor:
        """Upper bound (for vMF its one-sample estimate) on I(v; z | other view): see superfluous.py."""

    @property
    @abstractmethod
    def cross_view_floor(self) -> float:
        """The least expectation of ``cross_view``, in nats, whatever the means are."""

    @abstractmethod
    def rate_normal(self) -> Tensor:
        """(N,) KL to N(0, I)."""

    @abstractmethod
    def noise(self) -> dict[str, Tensor]:
        """Scalars for the log: "snr", the batch variance of μ over that of the noise, and what else says how much."""

    def directions(self, z: Tensor) -> Tensor:
        """(N, d) unit anchors of the contrast."""
        return unit(z)

    def gather(self) -> Self:
        """The distributions of every rank's views, in rank order; sample after this, so that all draw the same z."""
        return self.apply(gather)

    def detach(self) -> Self:
        """Without gradient, as the keys of a momentum encoder."""
        return self.apply(Tensor.detach)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VMF(Embedding):
    """vMF(μ, κe) on the unit sphere; read as q(z | other view) its concentration is κb."""

    mu: Tensor
    kappa_e: float
    kappa_b: float

    def apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """See Embedding."""
        return dataclasses.replace(self, mu=change(self.mu))

    def halves(self) -> tuple[Self, Self]:
        """See Embedding."""
        first, second = self.mu.chunk(2)
        return dataclasses.replace(self, mu=first), dataclasses.replace(self, mu=second)

    def sample(self) -> Tensor:
        """See Embedding."""
        return vmf.sample(self.mu, self.kappa_e)

    def directions(self, z: Tensor) -> Tensor:
        """Z itself, which is on the sphere."""
        return z

    def keys(self, z: Tensor) -> Tensor:
        """The mean directions: z1·μ2 κb is log vMF(z1; μ2, κb) up to a constant."""
        return self.mu

    def log_density(self, z: Tensor) -> Tensor:
        """See Embedding."""
        return vmf.log_prob(z, self.mu, self.kappa_e)

    def log_densities(self, z: Tensor) -> Tensor:
        """See Embedding."""
        with torch.autocast(z.device.type, enabled=False):
            return vmf.log_normaliser(z.shape[1], self.kappa_e) + self.kappa_e * (z @ self.mu.T)

    def cross_view(self, other: Self, z: Tensor) -> Tensor:
        """See Embedding."""
        return bounds.cross_view_vmf(z, self.mu, other.mu, self.kappa_e, self.kappa_b)

    @property
    def cross_view_floor(self) -> float:
        """See Embedding."""
        return bounds.cross_view_vmf_floor(self.mu.shape[1], self.kappa_e, self.kappa_b)

    def rate_normal(self) -> Tensor:
        """Raise ValueError: no normal prior on the sphere, and the rate to its uniform one is a constant."""
        raise ValueError("rate-normal is for Gaussian embeddings")

    def noise(self) -> dict[str, Tensor]:
        """ "snr" alone: the noise is fixed by κe. The mean of z is A μ, A = ``mean_resultant``; its variance 1 − A²."""
        resultant = vmf.mean_resultant(self.mu.shape[1], self.kappa_e)
        return {"snr": (resultant * spread(self.mu)).square() / (1 - resultant**2)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian(Embedding):
    """N(μ, diag σ²), σ (N, d) between ``low`` and ``high``."""

    mu: Tensor
    sigma: Tensor
    low: float
    high: float

    def apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        """See Embedding."""
        return dataclasses.replace(self, mu=change(self.mu), sigma=change(self.sigma))

    def halves(self) -> tuple[Self, Self]:
        """See Embedding."""
        (mu1, mu2), (sigma1, sigma2) = self.mu.chunk(2), self.sigma.chunk(2)
        return dataclasses.replace(self, mu=mu1, sigma=sigma1), dataclasses.replace(self, mu=mu2, sigma=sigma2)

    def sample(self) -> Tensor:
        """See Embedding."""
        return self.mu + self.sigma * torch.randn_like(self.mu)

    def keys(self, z: Tensor) -> Tensor:
        """The directions of the other view's own sample."""
        return unit(z)

    def log_density(self, z: Tensor) -> Tensor:
        """See Embedding."""
        whitened = (z - self.mu) / self.sigma
        return -(whitened.square() / 2 + self.sigma.log()).sum(1) - z.shape[1] / 2 * math.log(2 * math.pi)

    def log_densities(self, z: Tensor) -> Tensor:
        """See Embedding."""
        return bounds.log_normal(z, self.mu, self.sigma)

    def cross_view(self, other: Self, z: Tensor) -> Tensor:
        """See Embedding; the KL in closed form, so z is not read."""
        return bounds.cross_view_gaussian(self.mu, self.sigma, other.mu, other.sigma)

    @property
    def cross_view_floor(self) -> float:
        """A KL's: 0, where both distributions are the same."""
        return 0.0

    def rate_normal(self) -> Tensor:
        """See Embedding."""
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
        return Gaussian(mu=math.sqrt(raw_mu.shape[1]) * unit(raw_mu), sigma=sigma, low=low, high=high)


FREE_START, FREE_LOG_RANGE = 0.1, 5.0  # σ at raw_sigma = 0; |log σ| at most, where weights 1/σ² are e^±10


def free(raw_mu: Tensor, raw_sigma: Tensor) -> Gaussian:
    """μ = raw_mu and log σ = raw_sigma + log 0.1, clamped to ±5; both (N, d).

    For comparison only: scaling (μ, σ) together changes neither the contrast (cosines of z) nor the cross-view term,
    and σ is free to grow where μ shrinks.
    """
    with torch.autocast(raw_mu.device.type, enabled=False):
        log_sigma = (raw_sigma.float() + math.log(FREE_START)).clamp(-FREE_LOG_RANGE, FREE_LOG_RANGE)
        low, high = math.exp(-FREE_LOG_RANGE), math.exp(FREE_LOG_RANGE)
        return Gaussian(mu=raw_mu.float(), sigma=log_sigma.exp(), low=low, high=high)


def superfluous(bound: Bound, own: Embedding, other: Embedding, z: Tensor, predictive: Tensor) -> Tensor:
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
