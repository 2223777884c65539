"""Intervals of differences: the truth is inside as often as they say, and equal rows are seldom told apart."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.paired import Error, Side, difference, draws, holm

IMAGES, DRAWS = 300, 200


def sides(rng, *, seeds, runs, seed_sd, run_sd, effect):
    """Two recipes whose runs classify images of differing difficulty; ``effect`` on the first one's logit."""
    difficulty, weights = 1.5 * rng.normal(size=IMAGES), draws(IMAGES, DRAWS, int(rng.integers(2**31)))
    made = []
    for shift in (effect, 0.0):
        scores, drawn = [], []
        for _ in range(runs):
            run = shift + run_sd * rng.normal()
            logits = [difficulty + run + seed_sd * rng.normal() + 0.5 * rng.normal(size=IMAGES) for _ in range(seeds)]
            correct = [(rng.random(IMAGES) < 1 / (1 + np.exp(-one))).astype(float) for one in logits]
            scores.append([float(one.mean()) for one in correct])
            drawn.append([weights @ one / IMAGES for one in correct])
        made.append(Side(scores=scores, seeds=[list(range(seeds))] * runs, drawn=drawn))
    return made


def population(seed_sd, run_sd, effect):
    """The expected difference over images, seeds and runs, by quadrature: all terms of the logit are normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(1.5**2 + 0.5**2 + seed_sd**2 + run_sd**2)
    means = [weights @ (1 / (1 + np.exp(-(shift + spread * nodes)))) / weights.sum() for shift in (effect, 0.0)]
    return means[0] - means[1]


CASES = [  # seeds, runs, their standard deviations on the logit
    (1, 1, 0.0, 0.0),
    (3, 1, 0.1, 0.0),
    (3, 1, 0.3, 0.0),
    (5, 1, 0.1, 0.0),
    (3, 3, 0.1, 0.2),
    (1, 3, 0.1, 0.2),
]


@pytest.mark.parametrize(("seeds", "runs", "seed_sd", "run_sd"), CASES)
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, runs, seed_sd, run_sd):
    rng, truth, tries = np.random.default_rng(0), population(seed_sd, run_sd, 0.3), 400
    given = {"seeds": seeds, "runs": runs, "seed_sd": seed_sd, "run_sd": run_sd, "effect": 0.3}
    found = [difference(*sides(rng, **given)) for _ in range(tries)]
    inside = sum(one.interval[0] <= truth <= one.interval[1] for one in found) / tries
    assert 0.917 <= inside <= 0.983  # 95 % ± 3 standard errors of 400 tries
    assert found[0].levels == ("images", *(("runs",) if runs > 1 else ("seeds",) if seeds > 1 else ()))


def test_a_plain_bootstrap_over_three_runs_would_be_too_narrow():
    """The reason for the closed form: percentiles over three resampled runs hold the truth far less often."""
    rng, truth, tries, inside = np.random.default_rng(0), population(0.1, 1.0, 0.3), 200, 0
    for _ in range(tries):
        a, b = sides(rng, seeds=1, runs=3, seed_sd=0.1, run_sd=1.0, effect=0.3)
        drawn = [np.array([run[0] for run in side.drawn]) for side in (a, b)]  # runs × draws
        chosen = rng.integers(3, size=(2, 3, DRAWS))
        deltas = drawn[0][chosen[0], np.arange(DRAWS)].mean(0) - drawn[1][chosen[1], np.arange(DRAWS)].mean(0)
        low, high = np.quantile(deltas, [0.025, 0.975])
        inside += low <= truth <= high
    assert inside / tries < 0.85


def test_equal_rows_are_told_apart_in_one_of_twenty_at_most():
    rng, tries = np.random.default_rng(1), 400
    given = {"seeds": 3, "runs": 1, "seed_sd": 0.2, "run_sd": 0.0, "effect": 0.0}
    found = [difference(*sides(rng, **given)) for _ in range(tries)]
    assert sum(one.p < 0.05 for one in found) / tries < 0.05 + 3 * (0.05 * 0.95 / tries) ** 0.5


def test_seeds_alone_are_students_paired_and_welchs_test():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=5).tolist(), rng.normal(size=5).tolist()
    paired = difference(Side(scores=[a], seeds=[[0, 1, 2, 3, 4]]), Side(scores=[b[::-1]], seeds=[[4, 3, 2, 1, 0]]))
    expected = stats.ttest_rel(a, b)
    assert paired.p == pytest.approx(expected.pvalue) and paired.levels == ("seeds",)
    interval = expected.confidence_interval(0.95)
    assert paired.interval == pytest.approx((interval.low, interval.high))
    other = difference(Side(scores=[a], seeds=[[0, 1, 2, 3, 4]]), Side(scores=[b[:4]], seeds=[[5, 6, 7, 8]]))
    assert other.p == pytest.approx(stats.ttest_ind(a, b[:4], equal_var=False).pvalue)
    runs = difference(
        Side(scores=[[one] for one in a], seeds=[[0]] * 5), Side(scores=[[one] for one in b[:3]], seeds=[[0]] * 3)
    )
    assert runs.p == pytest.approx(stats.ttest_ind(a, b[:3], equal_var=False).pvalue) and runs.levels == ("runs",)


def test_one_run_without_predictions_has_no_interval_and_no_difference_has_none_wide():
    alone = difference(Side(scores=[[3.0]], seeds=[[0]]), Side(scores=[[1.0]], seeds=[[0]]))
    assert (alone.value, alone.interval, alone.p, alone.levels) == (2.0, None, None, ())
    same = Side(scores=[[0.5, 0.5]], seeds=[[0, 1]], drawn=[[np.full(9, 0.5)] * 2])
    equal = difference(same, same)
    assert (equal.value, equal.interval, equal.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("freedom", [1, 2, 4, 30])
def test_the_error_is_a_normal_part_plus_a_students_part(freedom):
    rng, error = np.random.default_rng(0), Error(1.0, 0.7, freedom)
    drawn = np.abs(rng.normal(size=400_000) + 0.7 * rng.standard_t(freedom, size=400_000))
    for value in (0.5, 2.0, 4.0):
        assert error.beyond(value) == pytest.approx((drawn >= value).mean(), abs=0.003)
    assert error.beyond(error.width(0.95)) == pytest.approx(0.05, abs=1e-5)
    assert error.width(0.95) == pytest.approx(np.quantile(drawn, 0.95), rel=0.02)


def test_draws_are_bootstrap_draws_and_the_same_every_time():
    found = draws(50, 2000)
    assert found.shape == (2000, 50) and (found.sum(1) == 50).all()
    assert abs(found.var() - (1 - 1 / 50)) < 0.02
    np.testing.assert_array_equal(found, draws(50, 2000))


def test_holm_by_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    rng = np.random.default_rng(0)
    wrong = sum(min(holm(rng.random(6).tolist())) < 0.05 for _ in range(2000)) / 2000
    assert wrong < 0.065  # 5 % of families of true null hypotheses, whatever their number
