"""Ranks and Kendall's τ-b, against scipy and plain loops."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics import ranks as module
from benchmarks.statistics.paired import Side, draws, mean_error
from benchmarks.statistics.ranks import by_chance, correlation, mean_rank_intervals, ranks, redrawn, tau_b


def plain_tau_b(x, y):
    """Pair by pair, as defined."""
    agree = ties_x = ties_y = total = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        one, other = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        agree += one * other
        ties_x += one == 0
        ties_y += other == 0
        total += 1
    below = math.sqrt((total - ties_x) * (total - ties_y))
    return agree / below if below else math.nan


@pytest.mark.parametrize("size", [2, 5, 9, 30])
def test_tau_b_with_and_without_ties(size):
    rng = np.random.default_rng(size)
    for values in (lambda: rng.normal(size=size), lambda: rng.integers(3, size=size).astype(float)):
        for _ in range(20):
            x, y = values(), values()
            found = float(tau_b(x, y))
            assert found == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True)
            assert found == pytest.approx(plain_tau_b(x, y), nan_ok=True)


def test_tau_b_of_many_draws_at_once():
    x, y = np.random.default_rng(0).integers(4, size=(2, 7, 6)).astype(float)
    assert np.allclose(tau_b(x, y), [plain_tau_b(*pair) for pair in zip(x, y, strict=True)], equal_nan=True)


def test_ranks_share_ties():
    values = np.random.default_rng(1).integers(4, size=(5, 8)).astype(float)
    assert np.array_equal(ranks(values), stats.rankdata(-values, axis=-1))


def test_p_is_scipys_exact_one_without_ties():
    x, y = np.random.default_rng(2).normal(size=(2, 6))
    assert correlation(x, y).p == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue)


def test_p_of_more_rows_is_near_the_exact_one():
    rng = np.random.default_rng(3)
    x = rng.normal(size=12)
    y = x + rng.normal(size=12)
    exact = stats.kendalltau(x, y, method="exact").pvalue
    assert correlation(x, y).p == pytest.approx(exact, abs=4 * math.sqrt(exact / module.PERMUTATIONS))


def test_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
    """Normal values with correlation r have τ = 2/π·arcsin r."""
    monkeypatch.setattr(module, "PERMUTATIONS", 2)
    rng, true, inside = np.random.default_rng(4), 2 / math.pi * math.asin(0.5), 0
    for number in range(200):
        x, noise = rng.normal(size=(2, 12))
        low, high = correlation(x, 0.5 * x + math.sqrt(0.75) * noise, seed=number).interval
        inside += low <= true <= high
    assert 0.91 <= inside / 200 <= 1.0  # 95 % ± three standard errors; the percentile's interval is rather wide


def test_too_few_rows_have_no_interval_and_a_constant_column_no_tau():
    found = correlation(np.arange(4.0), np.arange(4.0))
    assert (found.tau, found.interval, found.n) == (1.0, None, 4) and found.p == pytest.approx(2 / 24)
    assert math.isnan(correlation(np.arange(9.0), np.ones(9)).tau)


def test_redrawn_means_have_the_error_of_the_mean():
    """Of seeds alone, and of images alone; equal images stay paired between two sides."""
    rng = np.random.default_rng(5)
    seeds = Side(scores=[[10.0, 12.0, 14.0, 11.0]], seeds=[[0, 1, 2, 3]])
    error, levels = mean_error(seeds)
    assert levels == ("seeds",) and error.between == pytest.approx(np.std([10, 12, 14, 11], ddof=1) / 2)
    low, high = np.quantile(redrawn(seeds, rng, 20_000), [0.025, 0.975])
    half = stats.t.ppf(0.975, 3) * error.between
    assert (low, high) == (pytest.approx(seeds.mean - half, rel=0.05), pytest.approx(seeds.mean + half, rel=0.05))
    correct = rng.random(200) < 0.6
    drawn = 100 * (draws(200) @ correct) / 200
    images = Side(scores=[[100 * correct.mean()]], seeds=[[0]], drawn=[[drawn]])
    assert np.allclose(redrawn(images, rng), images.mean + drawn - drawn.mean())
    assert mean_error(Side(scores=[[5.0]], seeds=[[0]])) == (None, ())
    assert set(redrawn(Side(scores=[[5.0]], seeds=[[0]]), rng)) == {5.0}


def test_the_error_of_several_runs_is_that_of_their_means():
    side = Side(scores=[[1.0, 3.0], [5.0, 7.0], [3.0, 3.0]], seeds=[[0, 1]] * 3)
    error, levels = mean_error(side)
    assert levels == ("runs",) and error.freedom == 2
    assert error.between == pytest.approx(np.std([2, 6, 3], ddof=1) / math.sqrt(3))


def test_mean_ranks_of_separate_rows_are_certain_and_of_equal_ones_not():
    rng = np.random.default_rng(6)
    drawn = rng.normal(size=(2000, 3, 4))
    drawn[..., 0] += 100
    first, *others = mean_rank_intervals(drawn)
    assert first == (1.0, 1.0) and all(low < 3 < high for low, high in others)


def test_by_chance_is_the_spread_of_a_mean_of_ranks():
    low, high = by_chance(np.tile(np.arange(1.0, 6.0), (100, 1)))
    error = 1.96 * math.sqrt((25 - 1) / 12 / 100)
    assert (low, high) == (pytest.approx(3 - error, abs=0.03), pytest.approx(3 + error, abs=0.03))
