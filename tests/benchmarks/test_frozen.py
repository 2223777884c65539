"""Linear, few-label and kNN on features: python -m pytest tests/benchmarks/test_frozen.py"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.features import Features
from benchmarks.knn import KnnConfig, knn_predict
from benchmarks.linear import LinearConfig, choose_decay, evaluate, fit, folds_of, subset
from pretrain.errors import InputError


def blobs(rows, seed, classes=4, dim=12, noise=2.5):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim)) * 2
    y = np.arange(rows) % classes
    return (centres[y] + noise * generator.normal(size=(rows, dim))).astype(np.float32), y


@pytest.mark.parametrize("decay", [1.0, 1e-1, 1e-3])
def test_fit_reaches_scikit_learns_solution(decay):
    x, y = blobs(300, 1)
    weight, bias = fit(torch.tensor(x), torch.tensor(y), 4, decay, 300)
    reference = LogisticRegression(C=1 / (decay * len(x)), max_iter=2000, tol=1e-8).fit(x.astype(np.float64), y)
    assert objective(x, y, weight.numpy(), bias.numpy(), decay) == pytest.approx(
        objective(x, y, reference.coef_, reference.intercept_, decay), abs=1e-5
    )
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=5e-3)


def objective(x, y, weight, bias, decay):
    logits = x.astype(np.float64) @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return nll.mean() + decay / 2 * np.square(weight, dtype=np.float64).sum()


def test_the_start_changes_nothing_but_the_time():
    x, y = map(torch.tensor, blobs(200, 4))
    cold = fit(x, y, 4, 1e-2, 300)
    warm = fit(x, y, 4, 1e-2, 300, fit(x, y, 4, 1.0, 300))
    torch.testing.assert_close(cold, warm, atol=5e-3, rtol=5e-3)


def test_chunks_change_nothing(monkeypatch):
    x, y = map(torch.tensor, blobs(64, 2))
    whole = fit(x, y, 4, 1e-2, 50)[0]
    split = torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda self, size, dim=0: split(self, 17, dim))
    torch.testing.assert_close(fit(x, y, 4, 1e-2, 50)[0], whole, atol=1e-3, rtol=1e-3)


def test_folds_are_stratified_and_cover_every_row():
    y = np.repeat([0, 1, 2], [50, 23, 7])
    fold = folds_of(y, 0)
    counts = np.array([[np.sum((fold == f) & (y == c)) for f in range(5)] for c in range(3)])
    assert counts.sum() == 80 and (counts.max(1) - counts.min(1) <= 1).all()
    assert (folds_of(y, 0) == fold).all() and (folds_of(y, 1) != fold).any()


def test_decay_is_chosen_on_held_out_rows():
    x, y = blobs(200, 3, noise=6.0)
    x = np.concatenate([x, np.random.default_rng(5).normal(size=(200, 300)).astype(np.float32)], 1)
    chosen, held_out = choose_decay(torch.tensor(x), torch.tensor(y), 4, LinearConfig(folds=5, iterations=200))
    reference = {}
    fold = folds_of(y, 0)
    for decay in LinearConfig().decays:
        right = 0
        for f in range(5):
            mean, std = x[fold != f].mean(0), x[fold != f].std(0, ddof=1)
            model = LogisticRegression(C=1 / (decay * np.sum(fold != f)), max_iter=2000)
            model.fit((x[fold != f] - mean) / std, y[fold != f])
            right += (model.predict((x[fold == f] - mean) / std) == y[fold == f]).sum()
        reference[decay] = right / 2
    assert chosen == max(reference, key=reference.get)
    for decay, value in reference.items():
        assert held_out[f"{decay:g}"] == pytest.approx(value, abs=1.01)  # at most two of the 200 rows


def test_evaluate_is_right_on_separable_data_and_at_chance_on_shuffled_labels():
    x, y = blobs(400, 6, noise=0.3)
    good, _ = evaluate(Features(x[:200], y[:200], 4), Features(x[200:], y[200:], 4), LinearConfig(), 0)
    assert good["top1"] == 100.0 and good["top5"] is None
    shuffled = np.random.default_rng(1).permutation(y[:200])
    bad, _ = evaluate(Features(x[:200], shuffled, 4), Features(x[200:], y[200:], 4), LinearConfig(), 0)
    assert bad["top1"] < 55


def test_subset_takes_that_many_of_each_class_by_seed():
    y = np.repeat(np.arange(5), 30)
    rows = subset(y, 10, 3)
    assert np.bincount(y[rows]).tolist() == [10] * 5 and len(set(rows)) == 50
    assert (subset(y, 10, 3) == rows).all() and (subset(y, 10, 4) != rows).any()
    with pytest.raises(InputError, match="class number 4 has 3"):
        subset(np.repeat(np.arange(5), [10, 10, 10, 10, 3]), 10, 0)


def test_knn_against_a_double_loop():
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(40, 6, generator=generator), torch.randn(30, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    config = KnnConfig(k=7, temperature=0.3)
    expected = []
    for row in test:
        cosines = [float(row @ other / row.norm() / other.norm()) for other in train]
        votes = [0.0, 0.0, 0.0]
        for i in sorted(range(40), key=lambda i: -cosines[i])[:7]:
            votes[int(labels[i])] += float(np.exp(cosines[i] / 0.3))
        expected.append(int(np.argmax(votes)))
    assert knn_predict(train, labels, test, 3, config).tolist() == expected


def test_knn_with_fewer_images_than_neighbours():
    train = torch.eye(2)
    assert knn_predict(train, torch.tensor([0, 1]), train, 2, KnnConfig(k=200)).tolist() == [0, 1]
