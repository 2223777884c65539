"""Logistic regression on features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.profiles import HALF_DECADES
from benchmarks.tasks.compute import logistic
from benchmarks.tasks.compute.features import Features
from benchmarks.tasks.compute.logistic import Choice, choose_decay, evaluate, fit, held_out, standardise, subset
from benchmarks.tasks.linear import LinearConfig
from pretrain.common.errors import InputError


def blobs(rows, seed, classes=4, dim=12, noise=2.5):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim)) * 2
    y = np.arange(rows) % classes
    return (centres[y] + noise * generator.normal(size=(rows, dim))).astype(np.float32), y


def tight(**changes):
    return LinearConfig(**{"decays": HALF_DECADES, "tolerance": 1e-7, **changes})


@pytest.mark.parametrize("decay", [1.0, 1e-1, 1e-3])
def test_fit_reaches_scikit_learns_solution(decay):
    x, y = blobs(300, 1)
    fitted = fit(torch.tensor(x), torch.tensor(y), 4, decay, tight())
    reference = LogisticRegression(C=1 / (decay * len(x)), max_iter=5000, tol=1e-9).fit(x.astype(np.float64), y)
    assert fitted.converged and fitted.gradient <= 1e-7 and 0 < fitted.iterations <= fitted.evaluations
    assert fitted.objective == pytest.approx(objective(x, y, reference.coef_, reference.intercept_, decay), abs=1e-9)
    assert fitted.objective == pytest.approx(
        objective(x, y, fitted.weight.numpy(), fitted.bias.numpy(), decay), abs=1e-12
    )
    np.testing.assert_allclose(fitted.weight.numpy(), reference.coef_, atol=1e-4)


def objective(x, y, weight, bias, decay):
    logits = x.astype(np.float64) @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return nll.mean() + decay / 2 * np.square(weight, dtype=np.float64).sum()


def alike(rows, seed, rank=5, dim=200, classes=4):
    """Features as a network's: many that say nearly the same, some of no variance, means far from 0."""
    generator, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    few, y = blobs(rows, seed, classes, rank, noise=4.0)
    x = few @ fixed.normal(size=(rank, dim)) + 0.05 * generator.normal(size=(rows, dim)) + 30 * fixed.normal(size=dim)
    x[:, 0] = 7.0
    return x.astype(np.float32), y


def test_a_fit_ends_at_the_tolerance_and_not_where_the_budget_does():
    """On ill-conditioned features: the fit that 100 iterations used to end is far from the optimum, and says so."""
    x, y = alike(300, 1)
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    standardise(x)
    short = fit(x, y, 4, 1e-4, tight(tolerance=1e-5, max_iterations=4))
    whole = fit(x, y, 4, 1e-4, tight(tolerance=1e-5))
    assert not short.converged and short.gradient > 1e-5 and short.iterations == 4
    assert whole.converged and whole.gradient <= 1e-5 and whole.iterations > 4
    assert whole.objective < short.objective - 1e-4


def test_the_gradient_is_autograds(monkeypatch):
    monkeypatch.setattr(logistic, "CHUNK", 17)
    x, y = (torch.tensor(one) for one in blobs(60, 2))
    weight, bias = torch.randn(4, 12, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    loss, *found = logistic.loss_and_gradient(x, y, weight, bias, 0.3)
    parts = [weight.requires_grad_(), bias.requires_grad_()]
    expected = torch.nn.functional.cross_entropy(x.double() @ weight.T + bias, y) + 0.15 * weight.square().sum()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(tuple(found), torch.autograd.grad(expected, parts))


def test_the_curvature_is_the_hessian_where_classes_are_two(monkeypatch):
    """Two classes have the same p (1 − p), so that the mean over them is no approximation."""
    monkeypatch.setattr(logistic, "CHUNK", 17)
    x, y = (torch.tensor(one) for one in blobs(60, 2, classes=2, dim=5))
    weight, bias = 0.1 * torch.randn(2, 5, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    found, of_bias = logistic._curvature(x, weight, bias, 0.3)

    def loss(row, shift):
        scores = x.double() @ torch.stack([row, weight[1]]).T + torch.stack([shift, bias[1]])
        return torch.nn.functional.cross_entropy(scores, y) + 0.15 * row.square().sum()

    blocks = torch.autograd.functional.hessian(loss, (weight[0], bias[0]))
    torch.testing.assert_close(found, blocks[0][0])
    assert of_bias == pytest.approx(blocks[1][1].item())


@pytest.mark.parametrize("decay", [1e-1, 1e-3, 1e-5])
def test_preconditioning_saves_most_evaluations_on_features_that_say_nearly_the_same(decay):
    x, y = alike(300, 1)
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    standardise(x)
    fitted = fit(x, y, 4, decay, tight(tolerance=1e-7))
    reference = LogisticRegression(C=1 / (decay * len(x)), max_iter=20000, tol=fitted.gradient).fit(x.numpy(), y)
    assert fitted.converged and fitted.evaluations < reference.n_iter_[0] / 2
    assert fitted.objective == pytest.approx(
        objective(x.numpy(), y.numpy(), reference.coef_, reference.intercept_, decay)
    )


def test_a_fit_that_takes_the_curvature_anew_ends_at_the_same_classifier(monkeypatch):
    x, y = map(torch.tensor, blobs(200, 4))
    whole = fit(x, y, 4, 1e-2, tight())
    monkeypatch.setattr(logistic, "ROUND", 3)
    rounds = fit(x, y, 4, 1e-2, tight())
    torch.testing.assert_close(rounds.weight, whole.weight, atol=1e-4, rtol=0)
    assert rounds.converged and rounds.iterations > 3
    short = fit(x, y, 4, 1e-2, tight(max_iterations=5))
    assert short.iterations == 5 and not short.converged


def test_the_limit_of_evaluations_is_that_of_the_whole_fit(monkeypatch):
    """A round whose line searches take many evaluations goes on to the next one."""
    x, y = map(torch.tensor, blobs(200, 4))
    allowed, run = [], logistic._Descent.run

    def kept(self, iterations, evaluations):
        allowed.append(evaluations)
        return run(self, iterations, evaluations)

    monkeypatch.setattr(logistic, "ROUND", 3)
    monkeypatch.setattr(logistic._Descent, "run", kept)
    fitted = fit(x, y, 4, 1e-2, tight())
    assert fitted.converged and len(allowed) > 2 and allowed[0] == 2 * tight().max_iterations
    assert allowed == sorted(allowed, reverse=True) and fitted.evaluations > allowed[0] - allowed[-1] > 6


def test_the_start_changes_nothing_but_the_time():
    x, y = map(torch.tensor, blobs(200, 4))
    cold = fit(x, y, 4, 1e-2, tight())
    warm = fit(x, y, 4, 1e-2, tight(), fit(x, y, 4, 3e-2, tight()))
    torch.testing.assert_close(cold.weight, warm.weight, atol=1e-4, rtol=0)
    assert warm.iterations < cold.iterations


def test_chunks_and_float32_features_change_nothing(monkeypatch):
    x, y = blobs(64, 2)
    whole = fit(torch.tensor(x).double(), torch.tensor(y), 4, 1e-2, tight())
    monkeypatch.setattr(logistic, "CHUNK", 17)
    chunked = fit(torch.tensor(x), torch.tensor(y), 4, 1e-2, tight())
    torch.testing.assert_close(chunked.weight, whole.weight, atol=1e-5, rtol=0)


def test_standardise_is_numpys_in_place(monkeypatch):
    monkeypatch.setattr(logistic, "CHUNK", 17)
    x, _ = alike(64, 3)
    mine = torch.tensor(x)
    mean, std = standardise(mine)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std.numpy()[1:], exact.std(0, ddof=1)[1:], rtol=1e-9)
    exact = exact[:, 1:]
    np.testing.assert_allclose(mine.numpy()[:, 1:], (exact - exact.mean(0)) / exact.std(0, ddof=1), atol=1e-5)
    assert (mine[:, 0] == 0).all()  # no variance


def test_the_held_out_fifth_is_of_every_class():
    y = np.repeat([0, 1, 2], [50, 23, 7])
    out = held_out(y, 0)
    assert [int(out[y == label].sum()) for label in range(3)] == [10, 4, 1]
    assert (held_out(y, 0) == out).all() and (held_out(y, 1) != out).any()


def test_decay_is_chosen_on_held_out_rows():
    x, y = alike(200, 3)
    config = tight(decays=(1.0, 1e-1, 1e-2, 1e-3, 1e-4), patience=5)
    out = held_out(y, 0)
    order = np.concatenate([np.flatnonzero(~out), np.flatnonzero(out)])
    scaled = (
        (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / np.maximum(x.std(0, ddof=1, dtype=np.float64), 1e-6)
    )[order]
    chosen = choose_decay(torch.tensor(scaled), torch.tensor(y[order]), int((~out).sum()), 4, config)
    reference = {}
    for decay in config.decays:
        model = LogisticRegression(C=1 / (decay * np.sum(~out)), max_iter=20000, tol=1e-8)
        model.fit(scaled[: np.sum(~out)], y[~out])
        reference[decay] = 100 * (model.predict(scaled[np.sum(~out) :]) == y[out]).mean()
    assert {one["decay"]: one["held_out_top1"] for one in chosen.tried} == pytest.approx(
        reference, abs=100.1 / out.sum()
    )
    assert chosen.decay == max(reference, key=lambda decay: (reference[decay], decay))


def test_the_search_ends_after_decays_that_are_no_better(monkeypatch):
    held = iter([50.0, 52.0, 51.0, 52.0, 53.0, 52.0, 53.0, 10.0])
    monkeypatch.setattr(logistic, "top1", lambda *rest: next(held))
    x, y = map(torch.tensor, blobs(40, 4))
    decays = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
    found = choose_decay(x, y, 32, 4, tight(decays=decays, patience=3))
    assert [one["decay"] for one in found.tried] == [*decays[:8]] and found.decay == 0.05 and found.notes() == []


def test_small_decays_have_a_tolerance_of_their_own():
    """Warm-started at ten times the decay, the fit is within 1e-5 at once, and far from its optimum."""
    x, y = map(torch.tensor, blobs(200, 4, noise=0.3))
    start = fit(x, y, 4, 1e-4, LinearConfig(decays=HALF_DECADES))
    fitted = fit(x, y, 4, 1e-6, LinearConfig(decays=HALF_DECADES), start)
    assert fitted.gradient <= 5e-8 and fitted.converged and fitted.iterations > 10
    reference = LogisticRegression(C=1 / (1e-6 * len(x)), max_iter=50000, tol=1e-10).fit(x.numpy().astype(float), y)
    np.testing.assert_allclose(fitted.weight.numpy(), reference.coef_, rtol=0.1, atol=0.05)  # the gradient / the decay


def choice(decay, converged=True):
    tried = [{"decay": one, "converged": converged or one == 1.0} for one in (1.0, 0.1, 0.01)]
    return Choice(decay=decay, grid=(1.0, 0.1, 0.01), start=None, tried=tried)


def test_a_choice_at_an_end_of_the_grid_or_by_short_fits_is_noted():
    assert choice(1.0).notes() == ["decay 1 is the largest of its grid"]
    assert choice(0.01).notes() == ["decay 0.01 is the smallest of its grid"]
    assert choice(0.1).notes() == []
    assert choice(0.1, converged=False).notes() == ["2 of the 3 fits used to choose the decay did not converge"]


def test_evaluate_is_right_on_separable_data_and_at_chance_on_shuffled_labels():
    x, y = blobs(400, 6, noise=0.3)
    good = evaluate(Features(x[:200], y[:200], 4), Features(x[200:], y[200:], 4), LinearConfig(decays=HALF_DECADES), 0)
    assert good.metrics == {"top1": 100.0, "top5": None} and good.settings["fit"]["converged"]
    shuffled = np.random.default_rng(1).permutation(y[:200])
    bad = evaluate(Features(x[:200], shuffled, 4), Features(x[200:], y[200:], 4), LinearConfig(decays=HALF_DECADES), 0)
    assert bad.metrics["top1"] < 55


def test_evaluate_is_scikit_learns_accuracy_and_says_where_a_fit_was_short(monkeypatch):
    x, y = alike(400, 8)
    train, test = Features(x[:300], y[:300], 4), Features(x[300:], y[300:], 4)
    mean, std = x[:300].mean(0), np.maximum(x[:300].std(0, ddof=1), 1e-6)
    model = LogisticRegression(C=1 / (1e-2 * 300), max_iter=20000, tol=1e-8).fit((x[:300] - mean) / std, y[:300])
    reference = 100 * model.score((x[300:] - mean) / std, y[300:])
    for bytes_, chunk in ((2**30, 8192), (0, 64)):  # float64 features; float32 ones in chunks
        monkeypatch.setattr(logistic, "DOUBLE_BYTES", bytes_)
        monkeypatch.setattr(logistic, "CHUNK", chunk)
        found = evaluate(train, test, tight(decays=(1e-2,)), 0)
        assert found.metrics["top1"] == pytest.approx(reference, abs=1.01) and found.notes == ()
    short = evaluate(train, test, tight(decays=(1e-2,), max_iterations=3), 0)
    assert [note.split(" gradient")[0] for note in short.notes] == ["not converged:"]


def test_subset_takes_that_many_of_each_class_by_seed():
    y = np.repeat(np.arange(5), 30)
    rows = subset(y, 10, 3)
    assert np.bincount(y[rows]).tolist() == [10] * 5 and len(set(rows)) == 50
    assert (subset(y, 10, 3) == rows).all() and (subset(y, 10, 4) != rows).any()
    with pytest.raises(InputError, match="class number 4 has 3"):
        subset(np.repeat(np.arange(5), [10, 10, 10, 10, 3]), 10, 0)
