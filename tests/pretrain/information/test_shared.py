"""The bound of I(v1; v2) where the truth is known: Gaussian views, the same view twice, views of other images."""

import math

import pytest
import torch

from pretrain.common.errors import InputError
from pretrain.information.shared import LEAST, Maps, fit_maps, measure_shared


def draws(n, rho, d, seed=0):
    """(n, 2, d) with correlation ρ between the views in each dimension."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=generator) for _ in range(2))
    return torch.stack([a, rho * a + math.sqrt(1 - rho**2) * b], 1)


def gaussian(n, rho, d, width=24, seed=0, alike=True):
    """(n, 2, width): ``draws`` mixed by one map, or by one for each view."""
    views, generator = draws(n, rho, d, seed), torch.Generator().manual_seed(seed + 1)
    first, second = (torch.randn(d, width, generator=generator) for _ in range(2))
    return torch.stack([views[:, 0] @ first, views[:, 1] @ (first if alike else second)], 1) + 5


def truth(rho, d):
    return -d / 2 * math.log(1 - rho**2)


def with_the_true_critic(views, rho):
    """InfoNCE of (n, 2, d) by a loop over anchors, with the exact log p(z1 | z2)."""
    total = 0.0
    for first, second in ((views[:, 0], views[:, 1]), (views[:, 1], views[:, 0])):
        for number, anchor in enumerate(first):
            scores = -((anchor - rho * second) ** 2).sum(1) / (2 * (1 - rho**2))
            total += float(scores[number] - scores.logsumexp(0)) / (2 * len(views))
    return math.log(len(views)) + total


@pytest.mark.parametrize(("rho", "d"), [(0.6, 4), (0.8, 4), (0.8, 10), (0.9, 6)])
@pytest.mark.parametrize("alike", [True, False])
def test_the_bound_is_below_the_truth_and_near_that_of_the_true_critic(rho, d, alike):
    found = measure_shared({"h": gaussian(1000, rho, d, alike=alike)}, resamples=200)
    reported = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).chunk(2)[1]
    best = with_the_true_critic(draws(1000, rho, d)[reported].double(), rho)
    assert best < truth(rho, d) + 0.1
    assert best - 0.2 < found.bound.value < min(best, truth(rho, d)) + 0.05
    assert found.candidates == 500 and found.cap == math.log(500) and not found.at_cap
    assert found.bound.low < found.bound.value < found.bound.high < found.bound.low + 0.6


def test_an_estimate_above_the_logarithm_of_a_batch_of_64():
    assert measure_shared({"h": gaussian(1000, 0.8, 10)}, resamples=100).bound.low > math.log(64)


def test_the_same_view_twice_is_at_the_cap_and_says_so():
    same = torch.randn(400, 1, 60, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1)
    found = measure_shared({"h": same}, resamples=100)
    assert found.bound.value == pytest.approx(math.log(200), abs=0.01) and found.at_cap
    assert found.bound.value <= found.cap


@pytest.mark.parametrize("seed", range(4))
def test_views_of_other_images_share_nothing(seed):
    """More features than images, and pairs in another order: a critic that remembered them would see nats."""
    generator = torch.Generator().manual_seed(seed)
    h = gaussian(400, 0.9, 6, width=600, seed=seed)
    permuted = torch.stack([h[:, 0], h[torch.randperm(400, generator=generator), 1]], 1)
    noise = torch.randn(400, 2, 600, generator=generator)
    for one in (permuted, noise):
        bound = measure_shared({"h": one}, resamples=200, seed=seed).bound
        assert -0.3 < bound.low < bound.high and bound.low < 0.03 and bound.value < 0.06


def test_the_layer_that_shows_more_is_chosen():
    h = gaussian(600, 0.9, 4)
    weak = h + 3 * torch.randn(h.shape, generator=torch.Generator().manual_seed(1))
    found = measure_shared({"h": weak, "z": h[..., :12]}, resamples=100)
    alone = measure_shared({"h": weak}, resamples=100)
    assert found.layer == "z" and alone.layer == "h" and found.bound.value > alone.bound.value + 0.5


def test_a_collapsed_network_shares_nothing():
    found = measure_shared({"h": torch.full((200, 2, 16), 3.0)}, resamples=100)
    assert found.bound.value == pytest.approx(0, abs=1e-6)


def test_the_seed_draws_the_halves():
    h = gaussian(200, 0.7, 4)
    assert measure_shared({"h": h}, resamples=100) == measure_shared({"h": h}, resamples=100)
    assert measure_shared({"h": h}, resamples=100) != measure_shared({"h": h}, resamples=100, seed=1)
    with pytest.raises(InputError, match=f"63 images are too few .*: give {LEAST}"):
        measure_shared({"h": h[:63]})


def test_the_first_direction_of_two_maps_is_the_strongest_correlation():
    """Without a ridge to speak of, on many images: canonical correlation, whose strongest one is known."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5000, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    rho = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    h = torch.stack([a, rho * a + (1 - rho**2).sqrt() * b], 1) * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    two: Maps = next(one for one in fit_maps(h) if one.kind == "two")
    z = two.rescaled(h)(h)
    assert z.mean(0).abs().max() < 1e-9 and z.std(0).sub(1).abs().max() < 1e-9
    found = [float(torch.corrcoef(z[..., k].T)[0, 1]) for k in range(3)]
    assert found == pytest.approx([0.9, 0.5, 0.2], abs=0.04)


def test_a_feature_that_only_reported_images_have_does_not_decide_the_mean():
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(400, 8, generator=generator) for _ in range(2))
    h = torch.cat([torch.stack([a, 0.8 * a + 0.6 * b], 1), 1e-4 * torch.randn(400, 2, 1, generator=generator)], 2)
    usual = measure_shared({"h": h}, resamples=100).bound
    reporting = torch.randperm(400, generator=torch.Generator().manual_seed(0)).chunk(2)[1]
    h[reporting[:3], :, -1] = 5
    found = measure_shared({"h": h}, resamples=100).bound
    assert found.value == pytest.approx(usual.value, abs=0.1) and found.high - found.low < 1
