"""Information in frozen features against closed forms and loops."""

import math

import numpy as np
import pytest
import torch

from pretrain.common.errors import InputError
from pretrain.information.estimate import measure, nce_bounds, table


def gaussian_features(n, rho, seed=0, d=8, width=24):
    """(n, 2, width): d dimensions with correlation ρ between the views, linearly mixed and offset."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=generator) for _ in range(2))
    views = torch.stack([a, rho * a + math.sqrt(1 - rho**2) * b], 1)
    return views @ torch.randn(d, width, generator=generator) + 5


@pytest.fixture(scope="module")
def known():
    return measure(gaussian_features(2000, 0.8), dim=8, noise=1.0, resamples=300)


def test_predictive_is_below_the_truth_and_near_it(known):
    truth = 4 * math.log(2 / (1 + 1 - 0.8**2))
    assert truth - 0.25 < known.predictive.value < truth + 0.1
    assert known.predictive.low < known.predictive.value < known.predictive.high < known.cap == math.log(1000)


def test_superfluous_bounds_are_the_closed_forms(known):
    truth = 4 * math.log(1 + 1 - 0.8**2)
    assert known.learned.value == pytest.approx(truth, abs=0.1)
    assert known.cross_view.value == pytest.approx(8 * 0.2, abs=0.15)
    assert known.carried.value == pytest.approx(4 * math.log(2), abs=0.1) and known.prior == "normal"
    assert truth - 0.1 < known.rate.value < truth + 0.4
    assert known.rate.value == pytest.approx(known.carried.value - known.predictive.value)
    assert known.superfluous in ("learned", "rate")
    assert known.learned.low < truth + 0.1 and known.learned.high > truth - 0.1
    assert 0 < known.learned.high - known.learned.low < 0.2


def test_views_that_share_nothing_and_views_that_share_all():
    """Few images and many features: a head that only remembered its images would see information here."""
    noise = torch.randn(400, 2, 600, generator=torch.Generator().manual_seed(0))
    nothing = measure(noise, dim=8, resamples=100)
    assert nothing.predictive.value < 0.05
    same = noise[:, :1].expand(-1, 2, -1)
    everything = measure(same, dim=8, resamples=100)
    assert everything.cross_view.value == pytest.approx(0, abs=1e-9) and everything.superfluous != "rate"
    assert everything.predictive.value > 1.5


def test_a_collapsed_checkpoint_carries_nothing():
    found = measure(torch.full((200, 2, 32), 3.0), dim=4, resamples=100)
    assert found.predictive.value == pytest.approx(0, abs=1e-6) and found.learned.value == pytest.approx(0, abs=1e-6)
    assert found.carried.value == pytest.approx(0, abs=1e-6)


def test_the_same_seed_measures_the_same_and_another_another():
    h = gaussian_features(200, 0.5)
    assert measure(h, dim=4, resamples=100) == measure(h, dim=4, resamples=100)
    assert measure(h, dim=4, resamples=100) != measure(h, dim=4, resamples=100, seed=1)


def test_too_few_images():
    with pytest.raises(InputError, match=r"30 images are too few for --dim 4: give 128"):
        measure(gaussian_features(30, 0.5), dim=4)


def test_a_feature_that_only_reported_images_have_does_not_decide_the_means():
    """Such as a dead unit, which is without limit where it wakes if it is scaled by its spread elsewhere."""
    h = gaussian_features(400, 0.8)
    reporting = torch.randperm(400, generator=torch.Generator().manual_seed(0)).chunk(2)[1]
    rare = 1e-4 * torch.randn(400, 2, 1, generator=torch.Generator().manual_seed(1))
    usual = measure(torch.cat([h, rare], 2), dim=8, resamples=100)
    rare[reporting[:3]] = 5
    found = measure(torch.cat([h, rare], 2), dim=8, resamples=100)
    for name in ("predictive", "carried", "learned", "rate", "cross_view"):
        assert getattr(found, name).value == pytest.approx(getattr(usual, name).value, abs=0.05), name
        assert getattr(found, name).high - getattr(found, name).low < 1


@pytest.mark.parametrize("scale", [1, 3000])
def test_resampled_info_nce_is_the_loop_over_drawn_images(scale):
    """Images drawn with replacement; a copy of the anchor's own image is never its negative.

    With large scores all candidates that were drawn can be e^-1000 times the largest one that was not.
    """
    rng = np.random.default_rng(0)
    scores = scale * rng.normal(size=(2, 6, 6))
    drawn = [[0, 1, 2, 3, 4, 5], [0, 0, 2, 3, 3, 3], [5, 5, 5, 5, 5, 1]]
    weights = torch.tensor([[images.count(i) for i in range(6)] for images in drawn], dtype=torch.float64)
    found = nce_bounds(torch.tensor(scores), weights)
    for images, value in zip(drawn, found, strict=True):
        total = 0.0
        for tower in scores:
            for i in images:
                candidates = [tower[i, i], *(tower[i, k] for k in images if k != i)]
                most = max(candidates)
                total += math.log(len(candidates)) + tower[i, i] - most
                total -= math.log(sum(math.exp(s - most) for s in candidates))
        assert float(value) == pytest.approx(total / 12)


def test_the_table_names_the_smallest_bound(known):
    lines = table(known).splitlines()
    assert "log K = 6.91" in lines[2] and lines[2].startswith("| predictive: I_nce")
    (smallest,) = (line for line in lines if "smallest on the fitting half" in line)
    assert f"{getattr(known, known.superfluous).value:.2f} [" in smallest
