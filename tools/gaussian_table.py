"""The bounds in a world where every information is known, as a Markdown table.

    python -m tools.gaussian_table                  # every world and K: some seconds
    python -m tools.gaussian_table --anchors 2048   # fewer draws

Views v1, v2 of unit variance with correlation ρ in each of d dimensions, z = w v + σ ε. Columns in nats: the truth of
I(z1; z2), InfoNCE with K candidates and the exact critic (below it, closing in with K), the truth of I(v1; z1 | v2),
and its three upper bounds: cross_view (its own closed form in brackets), learned q (exact here), and rate at this K.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys

import torch
from torch import Tensor

from pretrain.information.objectives import info_nce
from pretrain.information.superfluous import (
    cross_view_gaussian,
    fit_conditional,
    gaussian_kl,
    log_normal,
    rate_normal,
    superfluous_rate,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Closed forms (nats, all d dimensions) and draws of the Gaussian world."""

    d: int
    rho: float
    w: float = 1.0
    sigma: float = 0.5

    @property
    def x(self) -> float:
        """Signal over noise, w²/σ²."""
        return (self.w / self.sigma) ** 2

    @property
    def r(self) -> float:
        """Correlation of z1 and z2."""
        return self.rho * self.x / (1 + self.x)

    @property
    def predictive(self) -> float:
        """I(z1; z2)."""
        return -self.d / 2 * math.log(1 - self.r**2)

    @property
    def shared(self) -> float:
        """I(v2; z1)."""
        return self.d / 2 * math.log((1 + self.x) / (1 + self.x * (1 - self.rho**2)))

    @property
    def superfluous(self) -> float:
        """I(v1; z1 | v2)."""
        return self.d / 2 * math.log(1 + self.x * (1 - self.rho**2))

    @property
    def cross_view(self) -> float:
        """The cross-view bound."""
        return self.d * self.x * (1 - self.rho)

    @property
    def rate(self) -> float:
        """R with r = N(0, I)."""
        return self.d / 2 * (self.w**2 + self.sigma**2 - 1 - math.log(self.sigma**2))

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """mu1, mu2, z1, z2, each (n, d) float64."""
        generator = torch.Generator().manual_seed(seed)
        a, b, e1, e2 = (torch.randn(n, self.d, dtype=torch.float64, generator=generator) for _ in range(4))
        mu1, mu2 = self.w * a, self.w * (self.rho * a + math.sqrt(1 - self.rho**2) * b)
        return mu1, mu2, mu1 + self.sigma * e1, mu2 + self.sigma * e2

    def nce(self, z1: Tensor, z2: Tensor, k: int, *, means: bool) -> float:
        """InfoNCE's bound with K = k candidates and the exact critic: log p(z1|z2), or log p(z1|v2) for ``means``.

        ``z2`` are then the means of view 2. Mean over blocks of k anchors, both directions for z alone.
        """
        own = self.w**2 + self.sigma**2
        slope = self.rho if means else self.r
        variance = self.sigma**2 + self.w**2 * (1 - self.rho**2) if means else own * (1 - self.r**2)
        scale = math.sqrt(variance)
        bounds = []
        for anchors, others in zip(z1.split(k), z2.split(k), strict=True):
            logits = log_normal(anchors, slope * others, torch.full_like(others, scale))
            back = logits if means else log_normal(others, slope * anchors, torch.full_like(anchors, scale))
            bounds.append(float(info_nce(logits, back)[1]))
        return sum(bounds) / len(bounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Nats measured on draws of a World."""

    nce: float
    cross_view: float
    learned: float
    rate: float


def measure(world: World, k: int, anchors: int, seed: int = 0) -> Measured:
    """All bounds on ``anchors`` pairs (a multiple of k); q is fitted on one half and read on the other."""
    mu1, mu2, z1, z2 = world.draw(anchors, seed)
    sigma = torch.full_like(mu1, world.sigma)
    half = anchors // 2
    a, b, s = fit_conditional(mu2[:half], mu1[:half], sigma[:half])
    shared = world.nce(z1, mu2, k, means=True)
    return Measured(
        nce=world.nce(z1, z2, k, means=False),
        cross_view=float(cross_view_gaussian(mu1, sigma, mu2, sigma)),
        learned=float(gaussian_kl(mu1[half:], sigma[half:], mu2[half:] @ a.T + b, s).mean()),
        rate=float(superfluous_rate(rate_normal(mu1, sigma).mean(), torch.tensor(shared))),
    )


WORLDS = tuple(World(d=d, rho=rho) for rho, d in ((0.5, 8), (0.8, 2), (0.8, 8), (0.8, 16), (0.95, 4)))
CANDIDATES = (16, 128, 1024, 4096)


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anchors", type=int, default=8192, help="pairs drawn, a multiple of every K shown")
    anchors = parser.parse_args(argv).anchors
    candidates = [k for k in CANDIDATES if k <= anchors and anchors % k == 0]
    if not candidates:
        parser.error(f"--anchors {anchors}: give a multiple of {CANDIDATES[0]}")
    print("| ρ | d | K | I(z1;z2) | InfoNCE | margin | I(v1;z1\\|v2) | cross_view (closed form) | learned | rate |")
    print("|---" * 10 + "|")
    for world in WORLDS:
        for k in candidates:
            found = measure(world, k, anchors)
            print(
                f"| {world.rho:g} | {world.d} | {k} | {world.predictive:.3f} | {found.nce:.3f} | "
                f"{world.predictive - found.nce:.3f} | {world.superfluous:.3f} | {found.cross_view:.3f} "
                f"({world.cross_view:.3f}) | {found.learned:.3f} | {found.rate:.3f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
