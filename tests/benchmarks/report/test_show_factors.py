"""The picture of factors: a bar per factor and layer."""

import dataclasses

import numpy as np
import pytest

from benchmarks.report import show_factors
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec


def score(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "shuffled": 0.01, "images": 10}


@pytest.mark.parametrize("layers", [("",), ("", "z ")])
def test_a_bar_per_factor_and_layer(layers, monkeypatch):
    drawn = []
    names = ("hue", "a name that is much longer than any axis has room for, and longer", "$x_1$")
    values = {f"{before}{name}": score(0.2 * n) for before in layers for n, name in enumerate(names)}
    values |= {"undefined": dict.fromkeys(("value", "low", "high", "shuffled"))}
    record = dataclasses.replace(make_record(make_spec(task="factors"), {}), config={"factors": values})
    barh = show_factors.Figure.subplots

    def subplots(figure):
        axis = barh(figure)
        plain = axis.barh
        axis.barh = lambda at, value, *rest, **more: (drawn.append((at, value)), plain(at, value, *rest, **more))
        return axis

    monkeypatch.setattr(show_factors.Figure, "subplots", subplots)
    title, chart = show_factors.bands(record, None, None, 0)
    assert len(drawn) == len(layers) and all(np.allclose(value, [0, 20, 40]) for _, value in drawn)
    assert title.width == chart.width or abs(title.width - chart.width) < 30
    assert np.asarray(chart).std() > 0


def test_a_record_without_scores_is_refused():
    with pytest.raises(InputError, match="has no score of a factor"):
        show_factors.bands(
            dataclasses.replace(make_record(make_spec(task="factors"), {}), config={"factors": {}}), None, None, 0
        )
