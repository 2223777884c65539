"""Probes of factors: a planted one is found, an absent one is not, and a group learned by heart does not count."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from benchmarks.data.factors import Factor
from benchmarks.tasks.compute import factors, ridge
from benchmarks.tasks.compute.factors import probe
from pretrain.common.errors import RunError

FIT, TEST = 600, 400
ALL = np.ones(FIT + TEST, bool)


def number(name, values, known=ALL):
    return Factor(name=name, kind="number", values=np.reshape(values, (FIT + TEST, -1)).astype(float), known=known)


def category(name, values, names, known=ALL):
    return Factor(name=name, kind="category", values=values, names=names, known=known)


@pytest.fixture
def world():
    """Features that hold the first number and the sign of a turn, and factors that they hold and do not hold."""
    rng = np.random.default_rng(0)
    there, absent = rng.normal(size=(2, FIT + TEST))
    turn = rng.uniform(-np.pi, np.pi, FIT + TEST)
    x = np.column_stack([there + 0.5 * rng.normal(size=FIT + TEST), np.cos(turn), rng.normal(size=(FIT + TEST, 20))])
    return x.astype(np.float32), there, absent, turn


def test_a_planted_factor_is_found_and_an_absent_one_is_not(world):
    x, there, absent, turn = world
    circle = Factor(name="turn", kind="circle", values=np.stack([np.cos(turn), np.sin(turn)], 1), known=ALL)
    given = {
        "there": number("there", there),
        "absent": number("absent", absent),
        "turn": circle,
        "sign": category("sign", (there > 0).astype(int), ("no", "yes")),
        "coin": category("coin", (absent > 0).astype(int), ("no", "yes")),
    }
    found = probe(x[:FIT], x[FIT:], given, None)
    assert list(found) == list(given) and {one.images for one in found.values()} == {TEST}
    # R² of a number seen with noise of half its standard deviation is 1 / 1.25.
    assert found["there"].low < 0.8 < found["there"].high and found["there"].high - found["there"].low < 0.12
    scaler = StandardScaler().fit(x[:FIT])
    theirs = RidgeCV(alphas=ridge.ALPHAS).fit(scaler.transform(x[:FIT]), there[:FIT])
    assert found["there"].value == pytest.approx(
        r2_score(there[FIT:], theirs.predict(scaler.transform(x[FIT:]))), abs=1e-6
    )
    # The cosine is all of its half of the variance.
    share = np.var(np.cos(turn[FIT:])) / (np.var(np.cos(turn[FIT:])) + np.var(np.sin(turn[FIT:])))
    assert found["turn"].value == pytest.approx(share, abs=0.03)
    assert found["sign"].low > 0.4
    for name in ("absent", "coin"):
        assert -0.2 < found[name].low <= found[name].value <= found[name].high < 0.2 and abs(found[name].value) < 0.12
    assert all(abs(one.shuffled) < 0.12 for one in found.values())


def test_an_accuracy_above_chance_is_counted_from_the_most_frequent_category():
    rng = np.random.default_rng(0)
    label = (rng.random(FIT + TEST) < 0.2).astype(int)
    x = np.column_stack([label + 0.01 * rng.normal(size=FIT + TEST), rng.normal(size=FIT + TEST)])
    good = probe(x[:FIT], x[FIT:], {"rare": category("rare", label, ("a", "b"))}, None)["rare"]
    assert good.value == good.low == good.high == 1 and good.shuffled == pytest.approx(0, abs=0.05)
    useless = probe(x[:FIT, 1:], x[FIT:, 1:], {"rare": category("rare", label, ("a", "b"))}, None)["rare"]
    assert useless.value == pytest.approx(0, abs=0.05)  # 80 % are right, and that is chance


def test_a_factor_learned_by_heart_from_the_group_does_not_count():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 10, FIT + TEST)
    height = rng.permutation(10)[group] / 3  # decided by the group, in no order
    x = np.eye(10)[group] + 0.1 * rng.normal(size=(FIT + TEST, 10))
    given = {"height": number("height", height), "drawing": category("drawing", group, tuple("abcdefghij"))}
    by_heart = probe(x[:FIT], x[FIT:], {"height": given["height"]}, None)["height"]
    apart = probe(x[:FIT], x[FIT:], given, group)
    assert by_heart.value > 0.9 and apart["height"].value < 0.1 and apart["height"].images == TEST
    assert apart["drawing"].value > 0.9  # the groups themselves are tested on the same ones


def test_unknown_values_and_categories_that_the_fit_lacks_are_left_out():
    rng = np.random.default_rng(0)
    value, known = rng.normal(size=FIT + TEST), np.arange(FIT + TEST) % 4 != 0
    x = np.column_stack([value, rng.normal(size=(FIT + TEST, 3))])
    shown = np.where(known, value, np.nan)
    label = np.where(np.arange(FIT + TEST) < FIT + 30, (value > 0).astype(int), 2)
    found = probe(
        x[:FIT], x[FIT:], {"a": number("a", shown, known), "b": category("b", label, ("no", "yes", "new"))}, None
    )
    assert found["a"].images == 300 and found["a"].value > 0.999
    assert found["b"].images == 30
    with pytest.raises(RunError, match="factor new: no test image"):
        new = category("new", np.where(np.arange(FIT + TEST) < FIT, np.arange(FIT + TEST) % 2, 2), ("a", "b", "c"))
        probe(x[:FIT], x[FIT:], {"new": new}, None)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(factors, "RESAMPLES", 200)
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        there = rng.normal(size=FIT + TEST)
        x = (there + 0.5 * rng.normal(size=FIT + TEST))[:, None]
        score = probe(x[:FIT], x[FIT:], {"there": number("there", there)}, None, seed)["there"]
        inside += score.low <= 0.8 <= score.high
    assert inside >= 51  # of 57 expected; under 51 has a probability of 0.4 %


def test_a_categorys_columns_are_those_of_the_images_asked_for_alone():
    one = category("class", np.arange(FIT + TEST) % 7, tuple("abcdefg"))
    rows = np.array([8, 3])
    assert factors._target(one, rows).tolist() == [[0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
    many = Factor(
        name="many", kind="category", values=np.zeros(10**7, int), known=ALL, names=tuple(map(str, range(1000)))
    )
    assert factors._target(many, rows).shape == (2, 1000)  # of all images they would take 80 GB
