"""ssl-transfer's logistic regression against its own few lines of scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_recall_curve

from benchmarks.tasks.compute import many_shot
from benchmarks.tasks.compute.features import Features
from benchmarks.tasks.compute.many_shot import (
    Model,
    average_precisions,
    decays,
    evaluate,
    evaluate_labels,
    held_out_at_random,
    mean_per_class,
)
from benchmarks.tasks.many_shot import ManyShotConfig
from pretrain.common.errors import InputError

SHORT = ManyShotConfig(c_grid_points=6, max_iter=15)


def blobs(rows=240, classes=4, seed=0):
    x, y = make_classification(
        2 * rows, 12, n_informative=8, n_classes=classes, class_sep=0.8, flip_y=0.2, random_state=seed
    )
    x = x.astype(np.float32)
    return Features(x[:rows], y[:rows], classes), Features(x[rows:], y[rows:], classes)


def published(train, test, out, config, score):
    """linear.py's loop: one warm estimator, the first best of C from large to small, a refit, the test."""
    model = LogisticRegression(max_iter=config.max_iter, warm_start=True)
    best, chosen, scores = 0, None, []
    kept = ~out
    for wd in torch.logspace(-6, 5, config.c_grid_points):
        model.set_params(C=1.0 / wd.item(), tol=1e-4 / kept.sum()).fit(train.x[kept], train.y[kept])
        scores.append(score(train.y[out], model.predict(train.x[out])))
        if scores[-1] > best:
            best, chosen = scores[-1], 1.0 / wd.item()
    model.set_params(C=chosen, tol=1e-4 / len(train.x)).fit(train.x, train.y)
    return scores, chosen, model.predict(test.x), model.predict_proba(test.x).max(1)


def per_class(y, predicted):
    matrix = confusion_matrix(y, predicted)
    return 100.0 * (matrix.diagonal() / matrix.sum(axis=1)).mean()


def accuracy(y, predicted):
    return 100.0 * (y == predicted).mean()


@pytest.mark.parametrize(("name", "score"), [("top1", accuracy), ("mean-per-class", per_class)])
@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_the_search_is_scikit_learns_own_run(name, score, tmp_path):
    train, test = blobs()
    out = held_out_at_random(len(train.y), SHORT)
    scores, chosen, predicted, confidence = published(train, test, out, SHORT, score)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its own are not to reach the user
        found = evaluate(train, test, out, name, SHORT, tmp_path)
    assert [one["held_out_score"] for one in found.settings["tried"]] == pytest.approx(scores, abs=1e-9)
    assert found.settings["decay"] == pytest.approx(1 / chosen)
    assert (found.predictions.predicted == predicted).all() and (found.predictions.confidence == confidence).all()
    expected = {"score": score(test.y, predicted), "top1": accuracy(test.y, predicted)}
    assert found.metrics == pytest.approx(expected | {"mean_per_class": per_class(test.y, predicted)})
    short = found.settings["not_converged"]
    assert 0 < short <= 7 and f"{short} of 7 fits ended at 15 iterations, as published" in found.notes
    assert not list(tmp_path.iterdir())


def test_the_grid_is_that_of_the_published_commands():
    grid = decays(ManyShotConfig(c_grid_points=45))
    assert len(grid) == 45 and 1 / grid[0] == pytest.approx(1000000.0025247573, rel=1e-12)  # of run_linear.sh
    assert any(1 / one == pytest.approx(5623.413277133687, rel=1e-7) for one in grid) and grid[-1] == 1e5


def test_the_random_part_is_numpys_legacy_shuffle():
    expected = np.arange(57).tolist()
    np.random.RandomState(0).shuffle(expected)
    mask = held_out_at_random(57, SHORT)
    assert sorted(np.flatnonzero(mask)) == sorted(expected[:11]) and held_out_at_random(3, SHORT).sum() == 1


def test_two_classes_count_c_twice_as_the_multinomial_model_of_scikit_learn_022():
    """That model has a weight vector for each class, both penalised: minimised here by itself."""
    train, _ = blobs(classes=2)
    x, y, decay = train.x.astype(float), train.y, 3.0
    onehot = np.eye(2)[y]

    def objective(flat):
        weight, bias = flat[: 2 * x.shape[1]].reshape(2, -1), flat[2 * x.shape[1] :]
        scores = x @ weight.T + bias
        loss = -(onehot * log_softmax(scores, axis=1)).sum() + 0.5 * decay * (weight**2).sum()
        error = softmax(scores, axis=1) - onehot
        return loss, np.concatenate([(error.T @ x + decay * weight).ravel(), error.sum(0)])

    best = minimize(objective, np.zeros(2 * x.shape[1] + 2), jac=True, options={"gtol": 1e-6, "maxiter": 1000}).x
    shares = softmax(x @ best[: 2 * x.shape[1]].reshape(2, -1).T + best[2 * x.shape[1] :], axis=1)
    model = Model(ManyShotConfig(c_grid_points=1, max_iter=1000))
    model.fit(x, y, decay)
    assert np.allclose(model.model.predict_proba(x), shares, atol=1e-5)
    plain = LogisticRegression(C=1 / decay, max_iter=1000, tol=1e-8).fit(x, y)
    assert not np.allclose(plain.predict_proba(x), shares, atol=1e-3)


def test_a_gradient_of_the_summed_loss_ends_a_fit():
    train, _ = blobs()
    model = Model(ManyShotConfig(c_grid_points=1, max_iter=10_000, tol=0.5))
    model.fit(train.x.astype(float), train.y, 1.0)
    error = model.model.predict_proba(train.x) - np.eye(4)[train.y]
    gradient = error.T @ train.x.astype(float) + model.model.coef_
    assert 0.5 / len(train.x) < np.abs(gradient).max() <= 0.5


@pytest.mark.parametrize("labels", [False, True])
def test_a_killed_search_continues_and_ends_in_the_same_numbers(labels, tmp_path, monkeypatch):
    train, test = blobs()
    out = held_out_at_random(len(train.y), SHORT)

    def run(folder):
        if not labels:
            return evaluate(train, test, out, "top1", SHORT, folder)
        y = [Features(part.x, np.eye(4, dtype=np.int64)[part.y], 4) for part in (train, test)]
        return evaluate_labels(*y, out, list("abcd"), SHORT, folder)

    whole = run(tmp_path / "whole")
    fits = []
    fit = Model.fit

    def dying(model, x, y, decay):
        fits.append(decay)
        if len(fits) == (4 if not labels else 14):
            raise KeyboardInterrupt
        return fit(model, x, y, decay)

    monkeypatch.setattr(Model, "fit", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    again = run(tmp_path / "killed")
    assert len(fits) == (4 + 4 if not labels else 14 + 16)  # it did not begin anew
    assert again.settings == whole.settings and again.metrics == whole.metrics
    (tmp_path / "killed" / many_shot.SEARCH_FILE).write_bytes(b"half")
    assert run(tmp_path / "killed").metrics == whole.metrics


def eleven_points(y, scores):
    precision, recall, _ = precision_recall_curve(y, scores)
    return (
        100
        * sum(
            max([p for p, r in zip(precision, recall, strict=True) if r >= t], default=0) for t in np.linspace(0, 1, 11)
        )
        / 11
    )


@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_a_model_per_class_starts_from_the_class_before_and_is_scored_by_eleven_points(tmp_path):
    train, test = blobs()
    y = [
        (np.random.default_rng(number).random((240, 3)) < 0.2) | (part.y[:, None] == np.arange(3))
        for number, part in enumerate((train, test))
    ]
    several = [Features(part.x, one.astype(np.int64), 3) for part, one in zip((train, test), y, strict=True)]
    out = held_out_at_random(240, SHORT)
    model, scores = LogisticRegression(max_iter=15, warm_start=True), []

    def fitted(rows, wd, x):
        columns = []
        for label in range(3):
            model.set_params(C=2 / wd, tol=1e-4 / rows.sum()).fit(train.x[rows], y[0][rows, label])
            columns.append(model.decision_function(x))
        return np.stack(columns, 1)

    grid = torch.logspace(-6, 5, 6).tolist()
    for wd in grid:
        found = fitted(~out, wd, train.x[out])
        scores.append(np.mean([eleven_points(y[0][out, label], found[:, label]) for label in range(3)]))
    best = fitted(np.ones(240, bool), grid[int(np.argmax(scores))], test.x)
    expected = [eleven_points(y[1][:, label], best[:, label]) for label in range(3)]

    done = evaluate_labels(*several, out, ["a", "b", "c"], SHORT, tmp_path)
    assert [one["held_out_score"] for one in done.settings["tried"]] == pytest.approx(scores)
    assert list(done.settings["AP"].values()) == pytest.approx(expected)
    assert done.metrics == {"map": pytest.approx(np.mean(expected))}
    assert np.allclose(done.predictions.scores, best) and (done.predictions.target == y[1]).all()


def test_classes_that_cannot_be_fitted_or_tested_are_left_out_and_named(tmp_path):
    train, test = blobs()
    y = np.eye(4, dtype=np.int64)[train.y]
    y[:, 1], y[:, 2] = 1, 0  # on all images, on none
    labels = np.eye(4, dtype=np.int64)[test.y]
    labels[:, 3] = 0  # on no test image
    out = held_out_at_random(240, SHORT)
    done = evaluate_labels(Features(train.x, y, 4), Features(test.x, labels, 4), out, list("abcd"), SHORT, tmp_path)
    assert [name for name, value in done.settings["AP"].items() if value is not None] == ["a"]
    assert done.notes[0] == "mean over 1 of 4 classes, without b" and done.metrics["map"] == done.settings["AP"]["a"]
    with pytest.raises(InputError, match="needs a class on some but not all"):
        evaluate_labels(
            Features(train.x, y[:, 1:3], 2), Features(test.x, labels[:, 1:3], 2), out, list("bc"), SHORT, tmp_path
        )


def test_a_class_only_among_the_held_out_images_is_fitted_at_the_end(tmp_path):
    train, test = blobs()
    out = train.y == 3
    done = evaluate(train, test, out, "top1", SHORT, tmp_path)
    assert {one["held_out_score"] for one in done.settings["tried"]} == {0.0}
    assert (done.predictions.predicted == 3).any() and done.notes[-1] == "decay 1e-06 is the smallest of its grid"
    with pytest.raises(InputError, match="two classes beside the held-out images"):
        evaluate(train, test, train.y != 3, "top1", SHORT, tmp_path)


def test_mean_per_class_leaves_out_a_class_without_images():
    assert mean_per_class(np.array([0, 0, 0, 1]), np.array([0, 2, 0, 1])) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_average_precision_of_a_perfect_and_of_the_worst_order():
    y = np.array([[1, 1], [1, 1], [0, 0], [0, 0]])
    scores = np.array([[4, -4], [3, -3], [2, -2], [1, -1]])
    perfect, worst = average_precisions(y, scores.astype(float))
    assert perfect == pytest.approx(100)
    # Precision is 1/3 at recall 1/2 and 1/2 at recall 1; at recall 0 the curve has its point of precision 1.
    assert worst == pytest.approx(100 * (1 + 10 * 0.5) / 11)
