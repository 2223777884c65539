"""Ridge with a leave-one-out penalty, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from benchmarks.tasks.compute import ridge


@pytest.mark.parametrize(("rows", "width"), [(200, 30), (40, 90)])
def test_it_is_scikit_learns_per_group_of_targets(rows, width):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (rows, width)) * rng.uniform(0.1, 9, width)
    clear = x[:, :2] @ rng.normal(size=(2, 1)) + 0.1 * rng.normal(size=(rows, 1))
    noise = rng.normal(size=(rows, 1))
    found = ridge.fit(x, [clear, noise])
    fresh = rng.normal(3, 5, (50, width))
    scaler = StandardScaler().fit(x)
    for column, target in enumerate((clear, noise)):
        theirs = RidgeCV(alphas=ridge.ALPHAS).fit(scaler.transform(x), target)
        assert found.alphas[column] == theirs.alpha_
        assert np.allclose(found(fresh)[:, column], theirs.predict(scaler.transform(fresh)).ravel(), atol=1e-6)
    assert found.alphas[0] < found.alphas[1]  # noise is shrunk


def test_a_group_shares_the_penalty_of_its_summed_errors():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 20))
    y = np.stack([x[:, 0], 3 * rng.normal(size=60)], 1)
    (alpha,) = ridge.fit(x, [y]).alphas
    errors = []
    for one in ridge.ALPHAS:
        left_out = [
            ridge.fit(np.delete(x, row, 0), [np.delete(y, row, 0)], [one])(x[row : row + 1])[0] - y[row]
            for row in range(60)
        ]
        errors.append(np.square(left_out).sum())
    assert abs(ridge.ALPHAS.index(alpha) - int(np.argmin(errors))) <= 1  # inputs are standardised without the row there


def test_constant_inputs_and_targets():
    x = np.column_stack([np.full(30, 7.0), np.arange(30.0)])
    found = ridge.fit(x, [np.full((30, 1), 2.0), 3 * x[:, 1:]])
    assert np.allclose(found(x)[:, 0], 2) and np.isfinite(found(x + 1)).all()
    assert abs(found(x)[:, 1] - 3 * x[:, 1]).max() < 0.5
