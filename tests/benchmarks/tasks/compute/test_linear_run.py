"""Tests of one run's heads."""

import types

import numpy as np
import pytest
import torch

from benchmarks.tasks.compute import linear_run


def head_of(weight):
    layer = torch.nn.Linear(weight.shape[1], len(weight))
    torch.nn.init.zeros_(layer.bias)
    layer.weight.data = weight
    return types.SimpleNamespace(layer=layer)


def test_kept_predictions_are_those_that_were_counted_also_where_scores_hardly_differ():
    """In float32 the softmax of scores about 1e-9 is 1/C everywhere."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(200, 8, generator=generator), torch.randn(10, 8, generator=generator)
    y = (x @ weight.T).argmax(1)
    tested = linear_run.Tested(x=x, y=y)
    for scale in (1.0, 1e-9):
        head = head_of(weight * scale)
        assert tested.top(head) == (100.0, 100.0)
        found = tested.predictions(head)
        assert found.correct.all()
        np.testing.assert_allclose(found.confidence, (x @ weight.T * scale).softmax(1).amax(1).numpy(), rtol=1e-5)


def test_equal_scores_count_once():
    tested = linear_run.Tested(x=torch.ones(60, 2), y=torch.arange(60) % 6)
    head = head_of(torch.zeros(6, 2))
    top1, top5 = tested.top(head)
    assert top1 == pytest.approx(100 / 6) and top5 == pytest.approx(500 / 6)
    assert 100 * tested.predictions(head).correct.mean() == pytest.approx(top1)
