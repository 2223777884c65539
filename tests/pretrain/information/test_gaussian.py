"""The bounds where every information is known..

Margins are those that draws of this size need: where a bound is tight a strict inequality is luck.
"""

import math

import numpy as np
import pytest
import torch

from pretrain.information.superfluous import gaussian_kl
from tools.gaussian_table import World, main, measure

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


def test_the_command_prints_a_table(capsys):
    assert main(["--anchors", "128"]) == 0
    lines = capsys.readouterr().out.splitlines()
    columns = lines[0].replace("\\|", "").count("|")
    assert len(lines) == 2 + 5 * 2 and all(line.count("|") == columns for line in lines[1:])
    with pytest.raises(SystemExit):
        main(["--anchors", "100"])
