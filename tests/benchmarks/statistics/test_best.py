"""The best row and those told apart from it: seldom among equal rows, and found where they differ."""

import numpy as np
import pytest

from benchmarks.statistics.best import told_apart
from benchmarks.statistics.paired import Side, draws

IMAGES, DRAWS = 200, 100


def column(rng, *, rows, seeds, runs=1, images=True, seed_sd=0.2, run_sd=0.0, lead=0.0):
    """Equal recipes, the first ``lead`` (of the logit) ahead; without images a score is a normal number."""
    difficulty, weights = 1.5 * rng.normal(size=IMAGES), draws(IMAGES, DRAWS, int(rng.integers(2**31)))
    sides = []
    for number in range(rows):
        scores, drawn = [], []
        for _ in range(runs):
            run = lead * (number == 0) + run_sd * rng.normal()
            logits = [run + seed_sd * rng.normal() for _ in range(seeds)]
            if not images:
                scores.append(logits)
                continue
            noisy = [difficulty + one + 0.5 * rng.normal(size=IMAGES) for one in logits]
            correct = [(rng.random(IMAGES) < 1 / (1 + np.exp(-one))).astype(float) for one in noisy]
            scores.append([float(one.mean()) for one in correct])
            drawn.append([weights @ one / IMAGES for one in correct])
        sides.append(Side(scores=scores, seeds=[list(range(seeds))] * runs, drawn=drawn))
    return sides


@pytest.mark.parametrize(
    "given",
    [
        {"rows": 2, "seeds": 3},
        {"rows": 4, "seeds": 2},
        {"rows": 8, "seeds": 3},
        {"rows": 4, "seeds": 3, "runs": 3, "run_sd": 0.2},
        {"rows": 4, "seeds": 3, "images": False},
        {"rows": 8, "seeds": 5, "images": False},
        {"rows": 4, "seeds": 1, "runs": 3, "images": False, "run_sd": 1.0},
    ],
)
def test_equal_rows_are_told_apart_in_one_of_twenty_columns_at_most(given):
    tries = 200 if given.get("images", True) else 600
    rng = np.random.default_rng(0)
    wrong = sum(bool(found[1]) for _ in range(tries) if (found := told_apart(column(rng, **given))))
    assert wrong / tries <= 0.05 + 2 * (0.05 * 0.95 / tries) ** 0.5


def test_a_row_that_leads_is_found():
    rng = np.random.default_rng(1)
    found = [told_apart(column(rng, rows=4, seeds=5, seed_sd=0.1, lead=1.5)) for _ in range(20)]
    assert sum(one == (0, {1, 2, 3}) for one in found) >= 18


def one(*scores):
    return Side(scores=[list(scores)], seeds=[list(range(len(scores)))])


def test_few_values_are_neither_best_nor_told_apart():
    assert told_apart([one(90.0), one(10.0, 10.1)]) is None
    assert told_apart([one(90.0, 90.1), one(10.0)]) == (0, set())
    assert told_apart([one(90.0, 91.0, 90.5)]) is None
    assert told_apart([one(90.0, 90.1, 90.2, 90.1), one(10.0, 10.3, 10.2, 10.4)]) == (0, {1})
    assert told_apart([one(90.0, 90.1, 90.2, 90.1), one(10.0, 10.3, 10.2, 10.4)], higher_is_better=False) == (1, {0})


def test_rows_without_any_spread_are_apart_where_they_differ():
    assert told_apart([one(5.0, 5.0), one(5.0, 5.0), one(4.0, 4.0)]) == (0, {2})
