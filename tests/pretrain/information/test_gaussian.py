"""The bounds in a world where every information is known in closed form.

Views v1, v2 of unit variance with correlation ρ in each of d dimensions, z = w v + σ ε. Margins are those that draws of
this size need: where a bound is tight a strict inequality is luck.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.information.objectives import info_nce
from pretrain.information.superfluous import (
    cross_view_gaussian,
    gaussian_kl,
    log_normal,
    rate_normal,
    superfluous_rate,
)

PAGE = Path(__file__).parents[3] / "docs" / "information.md"


def fit_conditional(mu2, mu1, sigma1, ridge=1e-3):
    """The *learned* q(z1|v2) = N(A μ2 + b, s²) as (A (d, d), b (d,), s (d,)): least squares over N pairs.

    s² counts z1's own noise σ1². ``ridge`` is a share of μ2's mean variance. ``gaussian_kl(mu1, sigma1, mu2 @ A.T + b,
    s)`` on OTHER pairs is then an upper bound on I(v1; z1 | v2), exact where views and z are jointly Gaussian; on the
    pairs it was fitted on it is too small.
    """
    centre1, centre2 = mu1.mean(0), mu2.mean(0)
    x, y = mu2 - centre2, mu1 - centre1
    gram = x.T @ x
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    a = torch.linalg.solve(gram, x.T @ y).T
    residual = y - x @ a.T
    return a, centre1 - a @ centre2, (residual.square() + sigma1.square()).mean(0).sqrt()


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Closed forms (nats, all d dimensions) and draws of the Gaussian world."""

    d: int
    rho: float
    w: float = 1.0
    sigma: float = 0.5

    @property
    def x(self):
        """Signal over noise, w²/σ²."""
        return (self.w / self.sigma) ** 2

    @property
    def r(self):
        """Correlation of z1 and z2."""
        return self.rho * self.x / (1 + self.x)

    @property
    def predictive(self):
        """I(z1; z2)."""
        return -self.d / 2 * math.log(1 - self.r**2)

    @property
    def shared(self):
        """I(v2; z1)."""
        return self.d / 2 * math.log((1 + self.x) / (1 + self.x * (1 - self.rho**2)))

    @property
    def superfluous(self):
        """I(v1; z1 | v2)."""
        return self.d / 2 * math.log(1 + self.x * (1 - self.rho**2))

    @property
    def cross_view(self):
        """The cross-view bound."""
        return self.d * self.x * (1 - self.rho)

    @property
    def rate(self):
        """R with r = N(0, I)."""
        return self.d / 2 * (self.w**2 + self.sigma**2 - 1 - math.log(self.sigma**2))

    def draw(self, n, seed):
        """mu1, mu2, z1, z2, each (n, d) float64."""
        generator = torch.Generator().manual_seed(seed)
        a, b, e1, e2 = (torch.randn(n, self.d, dtype=torch.float64, generator=generator) for _ in range(4))
        mu1, mu2 = self.w * a, self.w * (self.rho * a + math.sqrt(1 - self.rho**2) * b)
        return mu1, mu2, mu1 + self.sigma * e1, mu2 + self.sigma * e2

    def nce(self, z1, z2, k, *, means):
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


def measure(world, k, anchors, seed=0):
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


WORLDS = [World(d=8, rho=0.5), World(d=2, rho=0.8), World(d=8, rho=0.8), World(d=4, rho=0.95)]
NCE, CROSS, LEARNED = 0.2, 0.25, 0.10  # nats


def entropy(covariance):
    """Of a Gaussian, up to the constants that cancel in differences of as many dimensions on each side."""
    return 0.5 * np.linalg.slogdet(np.atleast_2d(covariance))[1]


@pytest.mark.parametrize("world", [*WORLDS, World(d=3, rho=0.6, w=0.7, sigma=0.4)])
def test_closed_forms_are_determinants_of_the_joint_covariance(world):
    """One dimension's (v1, v2, z1, z2) as a 4×4 covariance; informations as sums of log-determinants."""
    rho, w = world.rho, world.w
    views = np.array([[1, rho], [rho, 1]])
    joint = np.block([[views, w * views], [w * views, w**2 * views + world.sigma**2 * np.eye(2)]])

    def h(*which):
        return entropy(joint[np.ix_(which, which)])

    v1, v2, z1, z2 = range(4)
    assert world.predictive == pytest.approx(world.d * (h(z1) + h(z2) - h(z1, z2)))
    assert world.shared == pytest.approx(world.d * (h(z1) + h(v2) - h(z1, v2)))
    assert world.superfluous == pytest.approx(world.d * (h(v1, v2) + h(z1, v2) - h(v1, v2, z1) - h(v2)))


def test_the_values_that_were_worked_out_by_hand():
    world = World(d=8, rho=0.8)
    assert world.predictive == pytest.approx(2.108, abs=5e-4)
    assert world.superfluous == pytest.approx(3.57, abs=5e-3) and world.cross_view == pytest.approx(6.40)


@pytest.mark.parametrize("world", WORLDS)
def test_info_nce_is_below_the_truth_and_closes_in_with_k(world):
    few, some, many = (measure(world, k, 4096).nce for k in (16, 128, 1024))
    assert few < math.log(16) and some < math.log(128)
    assert few < some < many + 0.02 < world.predictive + NCE / 2
    assert many == pytest.approx(world.predictive, abs=NCE)
    assert few < world.predictive - 0.1 or world.predictive < 1


@pytest.mark.parametrize("world", WORLDS)
def test_the_upper_bounds(world):
    found = measure(world, 1024, 4096, seed=1)
    assert found.cross_view == pytest.approx(world.cross_view, abs=CROSS)
    assert found.learned == pytest.approx(world.superfluous, abs=LEARNED)
    assert found.rate > world.superfluous - LEARNED
    assert found.rate == pytest.approx(world.rate - world.shared, abs=NCE)
    assert found.cross_view > world.superfluous - CROSS


def test_the_rate_loosens_where_candidates_are_few():
    world = World(d=8, rho=0.8)
    few, many = (measure(world, k, 4096).rate for k in (16, 1024))
    assert few > many + 0.3 > world.superfluous


def test_the_true_conditional_is_no_worse_than_any_other():
    """q = N(ρ μ2, σ² + w²(1−ρ²)) gives the truth; other slopes and widths give more."""
    world = World(d=8, rho=0.8)
    mu1, mu2, _, _ = world.draw(20_000, seed=2)
    sigma = torch.full((8,), world.sigma, dtype=torch.float64)

    def bound(slope, variance):
        return float(gaussian_kl(mu1, sigma, slope * mu2, torch.full((8,), variance**0.5).double()).mean())

    exact = bound(0.8, 0.25 + 0.36)
    assert exact == pytest.approx(world.superfluous, abs=0.05)
    assert all(bound(0.8 + a, 0.61 + b) > exact + 0.01 for a, b in ((0.2, 0), (-0.2, 0), (0, 0.3), (0, -0.2)))


TABLE = tuple(World(d=d, rho=rho) for rho, d in ((0.5, 8), (0.8, 2), (0.8, 8), (0.8, 16), (0.95, 4)))
CANDIDATES = (16, 128, 1024, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("world", TABLE)
def test_the_table_of_the_docs(world):
    """Rows of the table in docs/information.md, on 8,192 draws; its row of 4,096 candidates for one world alone."""
    table = PAGE.read_text(encoding="utf-8")
    for k in CANDIDATES if world == World(d=8, rho=0.8) else CANDIDATES[:-1]:
        found = measure(world, k, 8192)
        row = (
            f"| {world.rho:g} | {world.d} | {k} | {world.predictive:.3f} | {found.nce:.3f} | "
            f"{world.predictive - found.nce:.3f} | {world.superfluous:.3f} | {found.cross_view:.3f} "
            f"({world.cross_view:.3f}) | {found.learned:.3f} | {found.rate:.3f} |"
        )
        print(row)
        assert row in table
