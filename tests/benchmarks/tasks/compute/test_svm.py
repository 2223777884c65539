"""Support vector machines against scikit-learn's LinearSVC, run to its optimum."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from benchmarks.tasks.compute.svm import GRAM, Rows, choose_and_fit, fit, normalised, signs
from benchmarks.tasks.voc07_svm import SvmConfig

CPU = torch.device("cpu")
CONFIG = SvmConfig()


def overlapping(rows, dim, seed=0, rank=6):
    """Features as a network's, many that say nearly the same, and a class that cannot be told apart from the rest."""
    generator = np.random.default_rng(seed)
    present = generator.random(rows) < 0.2
    few = generator.normal(size=(rows, rank)) + 0.8 * present[:, None]
    x = few @ np.random.default_rng(9).normal(size=(rank, dim)) + 0.3 * generator.normal(size=(rows, dim)) + 2
    return np.maximum(x, 0).astype(np.float32), present


def liblinear(cost, **changes):
    values = {"C": cost, "class_weight": {1: 2, -1: 1}, "dual": True, "random_state": 0}
    return LinearSVC(**values | {"tol": 1e-10, "max_iter": 200_000} | changes)


@pytest.mark.parametrize(("rows", "dim"), [(60, 200), (90, 60), (300, 20)])  # the last by D×D systems
@pytest.mark.parametrize("cost", [0.01, 1.0, 50.0])
def test_a_fit_is_scikit_learns_solution(rows, dim, cost):
    x, present = overlapping(rows, dim)
    part = Rows.of(normalised(x, 1e-5, CPU))
    assert (part.gram is None) == (rows > GRAM * (dim + 1))
    found = fit(part, *signs(present, cost, CONFIG, CPU), CONFIG)
    reference = liblinear(cost).fit(part.x[:, :-1].numpy(), np.where(present, 1, -1))
    expected = np.append(reference.coef_[0], reference.intercept_[0])
    assert found.converged and found.gradient <= 1e-8 and 1 <= found.iterations < 30
    assert np.abs(found.weight.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
    least = objective(part.x, present, cost, torch.tensor(expected))
    assert objective(part.x, present, cost, found.weight) == pytest.approx(least, rel=1e-10)


def objective(x, present, cost, weight):
    slack = [
        max(0.0, 1 - (1 if is_there else -1) * float(row @ weight)) for row, is_there in zip(x, present, strict=True)
    ]
    loss = sum((2 if is_there else 1) * cost * one**2 for one, is_there in zip(slack, present, strict=True))
    return float(weight @ weight) / 2 + loss


def test_the_chosen_cost_and_its_precisions_are_scikit_learns():
    for seed in range(3):
        x, present = overlapping(120, 40, seed)
        part, y = Rows.of(normalised(x, 1e-5, CPU)), np.where(present, 1, -1)
        found = choose_and_fit(part, present, CONFIG)
        unit = part.x[:, :-1].numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = [
                cross_val_score(liblinear(cost, tol=1e-8), unit, y, cv=3, scoring="average_precision")
                for cost in CONFIG.costs
            ]
        np.testing.assert_allclose(found.tried, scores, atol=1e-9)
        assert found.cost == CONFIG.costs[int(np.argmax([one.mean() for one in scores]))]
        reference = liblinear(found.cost).fit(unit, y)
        np.testing.assert_allclose(part.x @ found.weight, reference.decision_function(unit), atol=1e-5)
        assert found.unconverged == 0 and found.gradient <= 1e-8


def test_the_published_tolerance_gives_nearly_the_same_where_it_is_reached():
    x, present = overlapping(120, 40)
    part = Rows.of(normalised(x, 1e-5, CPU))
    reference = liblinear(1.0, tol=1e-4, max_iter=2000).fit(part.x[:, :-1].numpy(), np.where(present, 1, -1))
    found = fit(part, *signs(present, 1.0, CONFIG, CPU), CONFIG)
    scores = reference.decision_function(part.x[:, :-1].numpy())
    np.testing.assert_allclose(part.x @ found.weight, scores, atol=5e-3)


@pytest.mark.parametrize("dim", [200, 20])
def test_rows_of_weight_zero_take_no_part_and_the_start_does_not_matter(dim):
    x, present = overlapping(90, dim)
    part = Rows.of(normalised(x, 1e-5, CPU))
    y, c = signs(present, 5.0, CONFIG, CPU)
    c[:30] = 0
    found = fit(part, y, c, CONFIG)
    alone = fit(Rows.of(part.x[30:]), y[30:], c[30:], CONFIG)
    far = fit(part, y, c, CONFIG, 10 * torch.randn(dim + 1, dtype=torch.float64, generator=torch.manual_seed(0)))
    for other in (alone, far):
        np.testing.assert_allclose(found.weight, other.weight, atol=1e-7)
        assert other.converged


def test_a_fit_that_ends_too_early_says_so():
    x, present = overlapping(90, 200)
    part = Rows.of(normalised(x, 1e-5, CPU))
    short = fit(part, *signs(present, 50.0, CONFIG, CPU), dataclasses.replace(CONFIG, max_iterations=1))
    assert not short.converged and short.iterations == 1 and short.gradient > 1e-8
    assert choose_and_fit(part, present, dataclasses.replace(CONFIG, max_iterations=1)).unconverged > 5


def test_features_have_unit_length_and_a_one(monkeypatch):
    x = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    found = normalised(x, 1e-5, CPU)
    np.testing.assert_allclose(found, [[3 / 5.00001, 4 / 5.00001, 1], [0, 0, 1]], rtol=1e-12)
    monkeypatch.setattr("benchmarks.tasks.compute.svm.CHUNK", 1)
    assert (normalised(x, 1e-5, CPU) == found).all()
