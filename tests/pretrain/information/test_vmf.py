"""vMF normaliser and sampler against mpmath and scipy."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from pretrain.information import vmf
from tests.pretrain.conftest import mean_cosine

SPHERES = [(2, 0.5), (3, 1.0), (3, 200.0), (16, 10.0), (128, 5.0), (256, 10.0), (256, 1024.0), (2048, 3.0)]


def north(n, d):
    mu = torch.zeros(n, d)
    mu[:, 0] = 1
    return mu


@pytest.mark.parametrize(("d", "kappa"), SPHERES)
def test_log_bessel_is_mpmaths_where_scipy_underflows_too(d, kappa):
    with mpmath.workdps(40):
        truth = float(mpmath.log(mpmath.besseli(d / 2 - 1, kappa)))
    assert vmf.log_bessel(d / 2 - 1, kappa) == pytest.approx(truth, rel=1e-12, abs=1e-11)
    scaled = special.ive(d / 2 - 1, kappa)
    if scaled > 0:
        assert vmf.log_bessel(d / 2 - 1, kappa) == pytest.approx(math.log(scaled) + kappa, rel=1e-11, abs=1e-10)


def test_scipy_underflows_where_ours_does_not():
    assert special.ive(1023, 3.0) == 0 and math.isfinite(vmf.log_normaliser(2048, 3.0))


@pytest.mark.parametrize(("d", "kappa"), [(3, 1.0), (16, 10.0), (256, 1024.0)])
def test_log_prob_is_scipys(d, kappa):
    z = torch.nn.functional.normalize(
        torch.randn(5, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    mu = z[0].numpy()
    truth = stats.vonmises_fisher(mu, kappa).logpdf(z.numpy())
    np.testing.assert_allclose(vmf.log_prob(z, z[:1], kappa).numpy(), truth, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(("d", "kappa"), SPHERES)
def test_cosine_has_its_closed_form_distribution(d, kappa):
    """The density of t = μ·z is ∝ exp(κt)(1−t²)^((d−3)/2), here integrated by scipy's quadrature in the angle."""
    cosine = vmf.sample_angle(4000, d, kappa, torch.device("cpu"), torch.Generator().manual_seed(1)).cos().numpy()
    mode = mean_cosine(d, kappa)

    def density(angle):
        return math.exp(kappa * (math.cos(angle) - mode) + (d - 2) * math.log(max(math.sin(angle), 1e-300) / peak))

    peak = math.sqrt(1 - mode**2)
    edges = np.linspace(math.acos(cosine.max()), math.acos(cosine.min()), 200)
    inner = [integrate.quad(density, a, b)[0] for a, b in itertools.pairwise(edges)]
    outer = integrate.quad(density, 0, edges[0])[0], integrate.quad(density, edges[-1], math.pi)[0]
    cdf = (outer[0] + np.concatenate([[0], np.cumsum(inner)])) / (sum(inner) + sum(outer))
    assert stats.kstest(np.arccos(cosine), lambda x: np.interp(x, edges, cdf)).pvalue > 0.01


@pytest.mark.parametrize(("d", "kappa"), [(3, 20.0), (16, 10.0), (128, 1024.0)])
def test_samples_are_distributed_as_scipys(d, kappa):
    """Cosine with μ and one coordinate orthogonal to it, against scipy's own sampler; length 1."""
    mu = torch.full((1, d), d**-0.5).expand(4000, d)
    z = vmf.sample(mu, kappa, torch.Generator().manual_seed(2)).double()
    theirs = stats.vonmises_fisher(np.full(d, d**-0.5), kappa, seed=3).rvs(4000)
    assert (z.norm(dim=1) - 1).abs().max() < 1e-5
    orthogonal = np.zeros(d)
    orthogonal[:2] = 2**-0.5, -(2**-0.5)
    for axis in (np.full(d, d**-0.5), orthogonal):
        assert stats.ks_2samp(z.numpy() @ axis, theirs @ axis).pvalue > 0.01


@pytest.mark.parametrize(("d", "kappa"), [(3, 1.0), (128, 1024.0), (256, 10.0)])
def test_mean_resultant_length(d, kappa):
    mean = vmf.sample(north(20_000, d), kappa, torch.Generator().manual_seed(4)).mean(0)
    truth = mean_cosine(d, kappa)
    assert float(mean[0]) == pytest.approx(truth, abs=0.01)
    assert float(mean[1:].norm()) < 2.5 / math.sqrt(20_000) * math.sqrt(d) / math.sqrt(max(1, d - 1)) + 0.01


def test_draws_are_the_generators():
    mu = north(8, 16)
    first, again, other = (vmf.sample(mu, 50.0, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_gradient_reaches_mu():
    """The pathwise gradient of E[a·z] is A_d(κ)·a on the tangent space: the mean of z is A_d(κ) μ."""
    d, kappa, n = 8, 20.0, 40_000
    mu = torch.zeros(1, d, dtype=torch.float64)
    mu[0, 0] = 1
    mu.requires_grad_(True)
    a = torch.arange(d, dtype=torch.float64)
    z = vmf.sample(mu.expand(n, d), kappa, torch.Generator().manual_seed(5))
    (gradient,) = torch.autograd.grad((z @ a).mean(), mu)
    np.testing.assert_allclose(gradient[0, 1:], mean_cosine(d, kappa) * a[1:], atol=0.05)


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_no_singular_direction(direction):
    mu = (direction * north(4, 16)).requires_grad_(True)
    z = vmf.sample(mu, 1024.0, torch.Generator().manual_seed(6))
    z.sum().backward()
    assert torch.isfinite(mu.grad).all() and ((z * mu).sum(1) > 0.9).all()
