"""Estimate I(v1; v2), the nats that two views of an image share: InfoNCE with a critic fitted on other images.

Of features (n images, 2 views, D), of one layer or of several, a critic is fitted on one half of the images and its
InfoNCE reported on the other half, a lower bound of I(v1; v2) of at most log K, K the images reported on; without the
noise of estimate.py, whose z carries a few nats alone. The critic is linear in the features: d canonical directions of
the two views, by one map for both views or one for each, a Gaussian q(z1|z2) between them and a temperature. Layer,
maps, ridge, d and temperature are those that score best on a quarter of the fitting half.

A bound says how much there is at least: a better critic finds more. Nats, mean of both directions, float64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.information.estimate import (
    HEAD_SHARE,
    RIDGES,
    Interval,
    bootstrap_weights,
    fit_heads,
    fit_q,
    interval,
    logits,
    nce_bounds,
    spreads,
)

DIMS = (1, 2, 4, 8, 16, 32, 64, 128)
TEMPERATURES = (
    0.35,
    0.5,
    0.7,
    1.0,
    1.4,
    2.0,
    2.8,
    4.0,
    8.0,
    16.0,
    64.0,
    math.inf,
)  # the last: a critic that knows nothing
LEAST = 64  # images: a quarter of half of them chooses the critic
NEAR = 0.9  # of the cap: an estimate above it says that there is more, not how much


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
    """A lower bound of I(v1; v2) on ``candidates`` images, and the critic that gave it."""

    bound: Interval
    cap: float  # log K: the bound cannot show more
    candidates: int  # K
    layer: str
    maps: str  # "one" for both views, or "two"
    dim: int
    ridge: float
    temperature: float

    @property
    def at_cap(self) -> bool:
        """Whether the estimate is within a tenth of the most that it can show."""
        return self.bound.value > NEAR * self.cap


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps:
    """Of each view z = h @ weight + offset, (2, D, d) and (2, d), the strongest correlation first."""

    kind: str
    ridge: float
    weight: Tensor
    offset: Tensor

    def __call__(self, h: Tensor) -> Tensor:
        """(n, 2, D) to (n, 2, d)."""
        return torch.einsum("nvd,vdk->nvk", h, self.weight) + self.offset

    def rescaled(self, h: Tensor) -> Maps:
        """With mean 0 and variance 1 on these images: of both views together where one map serves both."""
        z = self(h)
        if self.kind == "one":
            z = z.flatten(0, 1)[:, None]
        mean, std = z.mean(0), z.std(0).clamp_min(1e-6)
        return dataclasses.replace(self, weight=self.weight / std[:, None], offset=(self.offset - mean) / std)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Critic:
    """``layer`` and what is done to it; ``predictive`` is the InfoNCE that chose it."""

    layer: str
    maps: Maps
    dim: int
    temperature: float
    predictive: float


def fit_maps(h: Tensor) -> Iterator[Maps]:
    """The Maps of each kind and ridge for (n, 2, D), n above 1."""
    most = min(DIMS[-1], h.shape[2], len(h) - 1)
    for head in fit_heads(h, most):
        weight, offset = head.weight.flip(1), head.offset.flip(0)
        yield Maps(kind="one", ridge=head.ridge, weight=weight.expand(2, -1, -1), offset=offset.expand(2, -1))
    yield from _two_maps(h, most)


def _two_maps(h: Tensor, most: int) -> Iterator[Maps]:
    """Canonical correlation with a ridge (Hotelling 1936; Vinod 1976): a map of its own for each view."""
    centre, bases, variances = h.mean(0), [], []
    for view in (0, 1):
        scale = spreads(h[:, view])
        _, singular, basis = torch.linalg.svd((h[:, view] - centre[view]) / scale, full_matrices=False)
        variances.append(singular.square() / len(h))
        bases.append((basis / scale).T)
    first, second = ((h[:, view] - centre[view]) @ bases[view] for view in (0, 1))
    between = first.T @ second / len(h)
    for ridge in RIDGES:
        shrunk = [(one + ridge * one.mean() + 1e-12).rsqrt() for one in variances]
        left, _, right = torch.linalg.svd(shrunk[0][:, None] * between * shrunk[1], full_matrices=False)
        sides = (left[:, :most], right.T[:, :most])
        parts = zip(bases, shrunk, sides, strict=True)
        weight = torch.stack([basis @ (scale[:, None] * side) for basis, scale, side in parts])
        offset = -torch.einsum("vd,vdk->vk", centre, weight)
        yield Maps(kind="two", ridge=ridge, weight=weight, offset=offset)


def choose(layers: Mapping[str, Tensor], for_maps: Tensor, for_rest: Tensor) -> Critic:
    """The best critic whose maps are fitted on the images ``for_maps`` (indices), judged on ``for_rest``.

    There each half is judged by a q fitted on the other one, or many directions would seem better than few.
    """
    best: Critic | None = None
    halves = torch.arange(len(for_rest)) % 2 == 0
    once = torch.ones(1, len(for_rest), dtype=torch.float64)
    for layer, h in layers.items():
        for fitted in fit_maps(h[for_maps]):
            maps = fitted.rescaled(h[for_rest])
            z = maps(h[for_rest])
            for dim in _dims(z.shape[2]):
                scores = _crossed(z[..., :dim], halves)
                for temperature in TEMPERATURES:
                    value = float(nce_bounds(scores / temperature, once))
                    if best is None or value > best.predictive:
                        critic = Critic(layer=layer, maps=maps, dim=dim, temperature=temperature, predictive=value)
                        best = critic
    assert best is not None
    return best


def _dims(most: int) -> list[int]:
    return [dim for dim in DIMS if dim <= most] or [most]


def _q(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q between the two views of (n, 2, d); its spread has a floor, for views that are the same."""
    a, b, s = fit_q(z, torch.zeros_like(z[0, 0]))
    return a, b, s.clamp_min(1e-3)


def _crossed(z: Tensor, halves: Tensor) -> Tensor:
    """(2, n, n) as ``logits``: the rows of each half of the images by the q of the other half."""
    scores = torch.empty(2, len(z), len(z), dtype=z.dtype)
    for own in (halves, ~halves):
        scores[:, own] = logits(z, z, _q(z[~own]))[:, own]
    return scores


def measure_shared(layers: Mapping[str, Tensor], *, resamples: int = 1000, seed: int = 0) -> Shared:
    """The bound for ``layers``, by name features (n, 2, D) of the same n images' two views; D may differ.

    Half of the images, drawn by ``seed``, are fitted on. ``resamples`` of the bootstrap over images. InputError for
    fewer than LEAST images.
    """
    count = len(next(iter(layers.values())))
    if count < LEAST:
        raise InputError(f"{count} images are too few for an estimate of what two views share: give {LEAST}")
    generator = torch.Generator().manual_seed(seed)
    layers = {name: h.detach().cpu().double() for name, h in layers.items()}
    fitting, reporting = torch.randperm(count, generator=generator).chunk(2)
    split = round(HEAD_SHARE * len(fitting))
    critic = choose(layers, fitting[:split], fitting[split:])
    h = layers[critic.layer]
    q = _q(critic.maps(h[fitting[split:]])[..., : critic.dim])
    z = critic.maps(h[reporting])[..., : critic.dim]
    weights = bootstrap_weights(len(reporting), resamples, generator)
    return Shared(
        bound=interval(nce_bounds(logits(z, z, q) / critic.temperature, weights)),
        cap=math.log(len(reporting)),
        candidates=len(reporting),
        layer=critic.layer,
        maps=critic.maps.kind,
        dim=critic.dim,
        ridge=critic.maps.ridge,
        temperature=critic.temperature,
    )
