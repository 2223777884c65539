"""Bounds of the superfluous terms against double loops, closed forms and scipy."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from pretrain.information import superfluous, vmf
from tests.pretrain.conftest import directions, mean_cosine


def gaussians(n, d, count, seed=0):
    """``count`` pairs (mu, sigma), each (n, d) float64."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2 * count)]
    return [(mu, (0.5 * log_sigma).exp()) for mu, log_sigma in zip(draws[::2], draws[1::2], strict=True)]


def density(z, mu, sigma):
    return float(stats.norm(mu.numpy(), sigma.numpy()).logpdf(z.numpy()).sum())


def test_gaussian_kl_is_the_double_loop():
    (mu1, s1), (mu2, s2) = gaussians(4, 3, 2)
    for i, found in enumerate(superfluous.gaussian_kl(mu1, s1, mu2, s2)):
        truth = 0.0
        for j in range(3):
            a, b = float(s1[i, j]) ** 2, float(s2[i, j]) ** 2
            truth += 0.5 * (math.log(b / a) + (a + float(mu1[i, j] - mu2[i, j]) ** 2) / b - 1)
        assert float(found) == pytest.approx(truth)
    mean = superfluous.cross_view_gaussian(mu1, s1, mu2, s2)
    assert float(mean) == pytest.approx(float(superfluous.gaussian_kl(mu1, s1, mu2, s2).mean()))
    rate = superfluous.rate_normal(mu1, s1)
    torch.testing.assert_close(rate, superfluous.gaussian_kl(mu1, s1, torch.zeros(3).double(), torch.ones(3).double()))


def test_gaussian_kl_is_the_mean_log_ratio_of_scipys_densities():
    (mu1, s1), (mu2, s2) = gaussians(1, 4, 2, seed=3)
    z = mu1 + s1 * torch.randn(40_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratio = stats.norm(mu1, s1).logpdf(z).sum(1) - stats.norm(mu2, s2).logpdf(z).sum(1)
    assert float(superfluous.gaussian_kl(mu1, s1, mu2, s2)[0]) == pytest.approx(ratio.mean(), rel=0.02)


def test_cross_view_vmf_is_scipys_density_ratio():
    z1, mu1, mu2 = directions(4, 16, 3)
    truth = np.mean(
        [
            stats.vonmises_fisher(m, 30).logpdf(x) - stats.vonmises_fisher(o, 4).logpdf(x)
            for x, m, o in zip(z1.numpy(), mu1.numpy(), mu2.numpy(), strict=True)
        ]
    )
    assert float(superfluous.cross_view_vmf(z1, mu1, mu2, 30.0, 4.0)) == pytest.approx(truth, rel=1e-9)


def test_cross_view_vmf_averages_to_the_closed_form_kl():
    """KL(vMF(μ1, κe) ‖ vMF(μ2, κb)) = log C(κe) − log C(κb) + A(κe)(κe − κb μ1·μ2)."""
    d, kappa_e, kappa_b, n = 16, 60.0, 5.0, 50_000
    mu1, mu2 = (v.expand(n, d) for v in directions(1, d, 2))
    z1 = vmf.sample(mu1, kappa_e, torch.Generator().manual_seed(1))
    found = superfluous.cross_view_vmf(z1, mu1, mu2, kappa_e, kappa_b)
    overlap = float(mu1[0] @ mu2[0])
    truth = vmf.log_normaliser(d, kappa_e) - vmf.log_normaliser(d, kappa_b)
    truth += mean_cosine(d, kappa_e) * (kappa_e - kappa_b * overlap)
    assert float(found) == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(
    ("d", "kappa_e", "kappa_b", "published"),
    [(256, 1024.0, 10.0, 184.684), (128, 1024.0, 5.0, 132.164), (16, 60.0, 5.0, None)],
)
def test_the_floor_of_cross_view_vmf_is_its_closed_form_at_equal_means(d, kappa_e, kappa_b, published):
    """By mpmath's Bessel functions: log C(κe) − log C(κb) + (κe − κb) A(κe), and κb A(κe) more for orthogonal means."""

    def log_normaliser(kappa):
        order = d / 2 - 1
        return order * mpmath.log(kappa) - d / 2 * mpmath.log(2 * mpmath.pi) - mpmath.log(mpmath.besseli(order, kappa))

    with mpmath.workdps(40):
        truth = float(log_normaliser(kappa_e) - log_normaliser(kappa_b)) + (kappa_e - kappa_b) * mean_cosine(d, kappa_e)
    floor = superfluous.cross_view_vmf_floor(d, kappa_e, kappa_b)
    assert floor == pytest.approx(truth, abs=1e-9) and (
        published is None or floor == pytest.approx(published, abs=5e-4)
    )


def test_the_excess_of_cross_view_vmf_grows_with_the_angle_of_the_means():
    d, kappa_e, kappa_b, n = 16, 60.0, 5.0, 50_000
    mu1 = directions(1, d, 1)[0].expand(n, d)
    z1 = vmf.sample(mu1, kappa_e, torch.Generator().manual_seed(1))
    for cosine in (1.0, 0.3, -1.0):
        side = torch.zeros(d, dtype=torch.float64)
        side[0], side[1] = -mu1[0, 1], mu1[0, 0]  # orthogonal to mu1
        mu2 = cosine * mu1 + math.sqrt(1 - cosine**2) * side / side.norm()
        found = float(superfluous.cross_view_vmf(z1, mu1, mu2, kappa_e, kappa_b))
        excess = found - superfluous.cross_view_vmf_floor(d, kappa_e, kappa_b)
        assert excess == pytest.approx(kappa_b * mean_cosine(d, kappa_e) * (1 - cosine), abs=0.05)


def test_log_normal_is_scipys():
    (z, _), (mu, sigma) = (gaussians(n, 6, 1, seed=n)[0] for n in (5, 3))
    found = superfluous.log_normal(z, mu, sigma)
    truth = [[density(x, m, s) for m, s in zip(mu, sigma, strict=True)] for x in z]
    np.testing.assert_allclose(found.numpy(), truth, rtol=1e-10)


def test_rate_mixture_leaves_out_both_views_of_the_image_itself():
    (mu1, s1), (mu2, s2) = gaussians(5, 3, 2)
    z = mu1 + 0.1
    own = superfluous.log_normal(z, mu1, s1).diagonal()
    densities = torch.cat([superfluous.log_normal(z, mu1, s1), superfluous.log_normal(z, mu2, s2)], 1)
    for i, found in enumerate(superfluous.rate_mixture(own, densities)):
        others = [math.exp(density(z[i], mu[k], s[k])) for mu, s in ((mu1, s1), (mu2, s2)) for k in range(5) if k != i]
        assert float(found) == pytest.approx(density(z[i], mu1[i], s1[i]) - math.log(sum(others) / 8))


def test_rate_bound_is_the_difference_and_moves_both():
    rate, predictive = torch.tensor([3.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    bound = superfluous.superfluous_rate(rate, predictive)
    bound.backward()
    assert bound.item() == 2 and float(rate.grad) == 1 and float(predictive.grad) == -1


def test_permutation_and_symmetry():
    (mu1, s1), (mu2, s2) = gaussians(7, 4, 2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    s12, s21 = superfluous.cross_view_gaussian(mu1, s1, mu2, s2), superfluous.cross_view_gaussian(mu2, s2, mu1, s1)
    assert torch.allclose(s12, superfluous.cross_view_gaussian(mu1[order], s1[order], mu2[order], s2[order]))
    assert not torch.allclose(s12, s21) and not torch.allclose(
        s12, superfluous.cross_view_gaussian(mu1, s1, mu2[order], s2[order])
    )
    z1, m1, m2 = directions(7, 8, 3)
    vmf12 = superfluous.cross_view_vmf(z1, m1, m2, 9.0, 2.0)
    assert torch.allclose(vmf12, superfluous.cross_view_vmf(z1[order], m1[order], m2[order], 9.0, 2.0))
    densities = superfluous.log_normal(mu1, mu2, s2)
    rates = superfluous.rate_mixture(densities.diagonal(), densities)
    again = superfluous.log_normal(mu1[order], mu2[order], s2[order])
    torch.testing.assert_close(rates[order], superfluous.rate_mixture(again.diagonal(), again))


def test_gradients():
    (mu1, s1), (mu2, s2) = gaussians(3, 4, 2)
    inputs = [tensor.requires_grad_(True) for tensor in (mu1, s1, mu2, s2)]
    assert torch.autograd.gradcheck(superfluous.cross_view_gaussian, inputs)
    assert torch.autograd.gradcheck(superfluous.rate_normal, inputs[:2])
    assert torch.autograd.gradcheck(superfluous.log_normal, inputs[:3:2] + inputs[3:])

    def mixture(mu, sigma, other_mu, other_sigma):
        densities = superfluous.log_normal(mu, other_mu, other_sigma)
        return superfluous.rate_mixture(superfluous.log_normal(mu, mu, sigma).diagonal(), densities)

    assert torch.autograd.gradcheck(mixture, inputs)
    unit = [v.requires_grad_(True) for v in directions(3, 4, 3)]
    assert torch.autograd.gradcheck(lambda *v: superfluous.cross_view_vmf(*v, 8.0, 2.0), unit)


def test_float32_inside_autocast():
    z1, z2 = directions(8, 32, 2, dtype=torch.float32)
    sigma = torch.full_like(z1, 0.3)

    def values():
        densities = superfluous.log_normal(z1, z2, sigma)
        return [
            superfluous.cross_view_vmf(z1, z2, z1, 1024.0, 10.0),
            superfluous.cross_view_gaussian(z1, sigma, z2, sigma),
            superfluous.rate_mixture(densities.diagonal(), densities),
        ]

    plain = values()
    with torch.autocast("cpu", torch.bfloat16):
        inside = values()
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
