"""Estimate predictive and superfluous information of frozen features: bounds with bootstrap intervals, in nats.

Of features h (n images, 2 views, D) this fits, on one half of the images, a head to z = μ(h) + σ ε, the learned
q(z1|v2), a critic, a prior r and τ, and reports on the other half I_nce ≤ I(v2; z1), the rate R ≥ I(v1; z1) and three
upper bounds of I(v1; z1 | v2), of which the fitting half chooses the smallest (docs/information.md, "Which bound is
smallest"). All of it is about this z: nothing bounds I(v1; h | v2). The head is linear, closed form: the directions
whose correlation between the views is largest.

d dimensions of z, μ of unit variance, σ the same for all; nats, means over images and both directions; float64.
two_views.py makes the views that h comes from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.information.superfluous import gaussian_kl, log_normal, rate_mixture

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)  # shares of the features' mean variance
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)
HEAD_SHARE = 3 / 4  # of the fitting half goes to the head, the rest to what must not be fitted on the same images
IMAGES_PER_DIMENSION = 32  # four go to critic, q, prior and τ; with one the nats are absurd (I_nce below −9)
LEAST_SPREAD = 0.01  # of the features' mean standard deviation: one that varies less is left out
BOUNDS = ("cross_view", "learned", "rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the 2.5 and 97.5 percentiles of its bootstrap over images."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Information:
    """Nats of z on the reporting half; ``superfluous`` names the bound that was smallest on the fitting half."""

    predictive: Interval  # I_nce, lower bound of I(v2; z1)
    cap: float  # log K: I_nce cannot show more
    carried: Interval  # R, upper bound of I(v1; z1), with the prior that was smaller on the fitting half
    cross_view: Interval  # upper bounds of I(v1; z1 | v2)
    learned: Interval
    rate: Interval  # R − I_nce
    superfluous: str
    prior: str  # normal or mixture
    candidates: int  # K, images of the reporting half
    temperature: float
    ridge: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """μ(h) = h @ weight + offset."""

    weight: Tensor  # (D, d)
    offset: Tensor  # (d,)
    ridge: float

    def __call__(self, h: Tensor) -> Tensor:
        """(n, 2, D) to (n, 2, d)."""
        return h @ self.weight + self.offset

    def rescaled(self, h: Tensor) -> Head:
        """With mean 0 and variance 1 on these images, which it was not fitted on."""
        mu = self(h).flatten(0, 1)
        std = mu.std(0).clamp_min(1e-6)
        return Head(weight=self.weight / std, offset=(self.offset - mu.mean(0)) / std, ridge=self.ridge)


def spreads(rows: Tensor) -> Tensor:
    """(D,) standard deviations of the features (n, D) by which they are scaled; infinite where one hardly varies.

    A unit that is dead on the images fitted on and not on another one would be thousands of deviations away there, and
    that one image would decide every mean.
    """
    found = rows.std(0)
    return found.where(found > LEAST_SPREAD * found.mean() + 1e-12, math.inf)


def fit_heads(h: Tensor, dim: int) -> Iterator[Head]:
    """One Head per ridge: canonical directions of the two views of (n, 2, D), the same map for both.

    Solves C12 w = ρ (C + ridge) w with the symmetrised covariance C12 between the views and C of both, on features
    scaled to unit variance; for Gaussian views no other d numbers share more information (Hotelling 1936).
    """
    rows = h.flatten(0, 1)
    centre, scale = rows.mean(0), spreads(rows)
    _, singular, basis = torch.linalg.svd((rows - centre) / scale, full_matrices=False)
    variance, basis = singular.square() / len(rows), (basis / scale).T
    first, second = ((h[:, view] - centre) @ basis for view in (0, 1))
    between = (first.T @ second + second.T @ first) / (2 * len(h))
    for ridge in RIDGES:
        shrunk = (variance + ridge * variance.mean() + 1e-12).rsqrt()
        _, vectors = torch.linalg.eigh(shrunk[:, None] * between * shrunk)
        weight = basis @ (shrunk[:, None] * vectors[:, -dim:])
        yield Head(weight=weight, offset=-centre @ weight, ridge=ridge)


def fit_q(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The learned q(z1|v2) = N(a μ2 + b, s²), each (d,), by least squares over both directions of (n, 2, d).

    The slope is diagonal: canonical coordinates of different number do not correlate, and a full matrix fitted on a
    hundred images costs more nats than it finds.
    """
    x, y = torch.cat([mu[:, 1], mu[:, 0]]), torch.cat([mu[:, 0], mu[:, 1]])
    centre = x.mean(0)  # of y as well
    a = ((x - centre) * (y - centre)).sum(0) / ((x - centre).square().sum(0) + 1e-12)
    b = (1 - a) * centre
    return a, b, ((y - a * x - b).square().mean(0) + sigma.square()).sqrt()


def logits(z: Tensor, mu: Tensor, q: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(2, n, n): in both directions log q(z of image i | the other view of image k) for z and mu (n, 2, d)."""
    a, b, s = q
    towers = [log_normal(z[:, v], mu[:, 1 - v] * a + b, s.expand(len(z), -1)) for v in (0, 1)]
    return torch.stack(towers)


def nce_bounds(scores: Tensor, weights: Tensor) -> Tensor:
    """(R,) I_nce over each row of ``weights`` (R, n), how often an image was drawn; ``scores`` as ``logits``.

    A copy of an image is no negative of itself: an anchor drawn w times has 1 + n − w candidates, its own pair once.
    """
    n = scores.shape[1]
    total = torch.zeros(len(weights), dtype=scores.dtype)
    for tower in scores:
        shifted = tower - tower.max(1, keepdim=True).values
        terms, own = shifted.exp(), shifted.diagonal()
        sums = terms @ weights.T + (1 - weights.T) * own.exp()[:, None]
        logs = sums.log()
        for anchor in (sums < torch.finfo(sums.dtype).tiny * n).any(1).nonzero().flatten().tolist():
            # Its largest score is of an image that was not drawn, and next to it all others vanish.
            counts = weights.clone()
            counts[:, anchor] = 1
            logs[anchor] = torch.logsumexp(shifted[anchor] + counts.log(), 1)
        bounds = (1 + n - weights.T).log() + own[:, None] - logs
        total += (weights.T * bounds).sum(0) / n
    return total / len(scores)


def _normal_rate(mu: Tensor, sigma: Tensor, prior: tuple[Tensor, Tensor]) -> Tensor:
    """(n,) KL to the fitted N(mean, std²), mean of both views."""
    return torch.stack([gaussian_kl(mu[:, v], sigma, *prior) for v in (0, 1)]).mean(0)


def _mixture_rate(mu: Tensor, z: Tensor, sigma: Tensor, components: Tensor | None) -> Tensor:
    """(n,) one-sample rate to the mixture of p(z|v) of other images (M, d), or leave-one-out of these ones (None)."""
    rates = []
    for v in (0, 1):
        own = log_normal(z[:, v], mu[:, v], sigma.expand(len(z), -1)).diagonal()
        if components is None:
            both = torch.cat([mu[:, 0], mu[:, 1]])
            rates.append(rate_mixture(own, log_normal(z[:, v], both, sigma.expand(len(both), -1))))
        else:
            others = log_normal(z[:, v], components, sigma.expand(len(components), -1))
            rates.append(own - (torch.logsumexp(others, 1) - math.log(len(components))))
    return torch.stack(rates).mean(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """All that was fitted: on images the report does not see."""

    head: Head
    q: tuple[Tensor, Tensor, Tensor]  # a, b, s; over τ the critic as well
    temperature: float
    normal: tuple[Tensor, Tensor]  # mean and std of z
    components: Tensor  # (M, d) means of the mixture
    predictive: float  # I_nce on the images it was fitted on


def fit_rest(head: Head, h: Tensor, sigma: Tensor, z_noise: Tensor) -> Fit:
    """q, critic, τ and priors for ``head`` on images (n, 2, D) it was not fitted on."""
    head = head.rescaled(h)
    mu = head(h)
    z = mu + sigma * z_noise
    q = fit_q(mu, sigma)
    scores, once = logits(z, mu, q), torch.ones(1, len(h), dtype=h.dtype)
    found = {t: float(nce_bounds(scores / t, once)) for t in TEMPERATURES}
    best = max(found, key=lambda t: found[t])
    rows = mu.flatten(0, 1)
    normal = (rows.mean(0), (rows.var(0) + sigma.square()).sqrt())
    return Fit(head=head, q=q, temperature=best, normal=normal, components=rows, predictive=found[best])


def _terms(fit: Fit, mu: Tensor, z: Tensor, sigma: Tensor, mixture: Tensor | None) -> dict[str, Tensor]:
    """Per-image nats (n,): cross_view and learned bounds, and the rates R of both priors."""
    a, b, s = fit.q
    cross = gaussian_kl(mu[:, 0], sigma, mu[:, 1], sigma)
    learned = torch.stack([gaussian_kl(mu[:, v], sigma, mu[:, 1 - v] * a + b, s) for v in (0, 1)]).mean(0)
    rates = {"normal": _normal_rate(mu, sigma, fit.normal), "mixture": _mixture_rate(mu, z, sigma, mixture)}
    return {"cross_view": cross, "learned": learned, **rates}


def _choose(fit: Fit, h: Tensor, sigma: Tensor, noise: Tensor) -> tuple[str, str]:
    """The smaller prior and then the smallest bound, on the images that ``fit`` knows."""
    mu = fit.head(h)
    means = {name: float(value.mean()) for name, value in _terms(fit, mu, mu + sigma * noise, sigma, None).items()}
    prior = min(("normal", "mixture"), key=lambda name: means[name])
    means["rate"] = means[prior] - fit.predictive
    return prior, min(BOUNDS, key=lambda name: means[name])


def require_images(count: int, dim: int) -> None:
    """InputError where so few images cannot be measured in ``dim`` dimensions."""
    if count < IMAGES_PER_DIMENSION * dim:
        raise InputError(f"{count} images are too few for --dim {dim}: give {IMAGES_PER_DIMENSION * dim}, or lower it")


def measure(h: Tensor, *, dim: int = 16, noise: float = 1.0, resamples: int = 1000, seed: int = 0) -> Information:
    """Bounds for features ``h`` (n, 2, D) of n images' two views; half of the images, drawn by ``seed``, are fitted on.

    ``dim`` is d and ``noise`` σ: z carries at most about d/2 · log(1 + 1/σ²) nats. ``resamples`` of the bootstrap
    over images. InputError for fewer than IMAGES_PER_DIMENSION.
    """
    require_images(len(h), dim)
    generator = torch.Generator().manual_seed(seed)
    h, order = h.detach().cpu().double(), torch.randperm(len(h), generator=generator)
    fitting, reporting = order.chunk(2)
    for_head, for_rest = fitting[: round(HEAD_SHARE * len(fitting))], fitting[round(HEAD_SHARE * len(fitting)) :]
    sigma = torch.full((dim,), noise, dtype=h.dtype)
    epsilon = torch.randn(len(h), 2, dim, dtype=h.dtype, generator=generator)
    fits = [fit_rest(head, h[for_rest], sigma, epsilon[for_rest]) for head in fit_heads(h[for_head], dim)]
    fit = max(fits, key=lambda fit: fit.predictive)
    prior, superfluous = _choose(fit, h[for_rest], sigma, epsilon[for_rest])

    mu = fit.head(h[reporting])
    z = mu + sigma * epsilon[reporting]
    terms = _terms(fit, mu, z, sigma, fit.components)
    n = len(reporting)
    weights = bootstrap_weights(n, resamples, generator)
    predictive = nce_bounds(logits(z, mu, fit.q) / fit.temperature, weights)
    means = {name: weights @ value / n for name, value in terms.items()}
    return Information(
        predictive=interval(predictive),
        cap=math.log(n),
        carried=interval(means[prior]),
        cross_view=interval(means["cross_view"]),
        learned=interval(means["learned"]),
        rate=interval(means[prior] - predictive),
        superfluous=superfluous,
        prior=prior,
        candidates=n,
        temperature=fit.temperature,
        ridge=fit.head.ridge,
    )


def bootstrap_weights(n: int, resamples: int, generator: torch.Generator) -> Tensor:
    """(1 + resamples, n) float64: how often each of n images is drawn; once each in the first row."""
    drawn = torch.randint(n, (resamples, n), generator=generator)
    counts = torch.zeros(resamples, n, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return torch.cat([torch.ones(1, n, dtype=torch.float64), counts])


def interval(values: Tensor) -> Interval:
    """Of the estimate (the first value) and its resamples."""
    low, high = (float(values[1:].quantile(q)) for q in (0.025, 0.975))
    return Interval(value=float(values[0]), low=low, high=high)


def table(found: Information) -> str:
    """The result as Markdown: nats with 95 % intervals."""

    def cell(value: Interval) -> str:
        return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"

    def bound(name: str) -> str:
        return cell(getattr(found, name)) + (" ← smallest on the fitting half" if name == found.superfluous else "")

    rows = [
        ("predictive: I_nce ≤ I(v2; z1)", f"{cell(found.predictive)} of at most log K = {found.cap:.2f}"),
        (f"carried: R ≥ I(v1; z1), {found.prior} prior", cell(found.carried)),
        ("superfluous: I(v1; z1 \\| v2) ≤ cross_view", bound("cross_view")),
        ("… ≤ learned q", bound("learned")),
        ("… ≤ rate, R − I_nce", bound("rate")),
    ]
    head = f"| nats of the fitted z, {found.candidates} images | value [95 %] |\n|---|---|\n"
    return head + "\n".join(f"| {name} | {value} |" for name, value in rows)
