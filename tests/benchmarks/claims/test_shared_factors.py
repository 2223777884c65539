"""InfoMin's toy: pairs share what they are said to share, probes see it, and a killed command continues."""

import csv

import numpy as np
import pytest

from benchmarks.claims import shared_factors
from benchmarks.claims.shared_factors import (
    FACTORS,
    KINDS,
    SAME,
    SETS,
    SIZE,
    UNTRAINED,
    draw_factors,
    drawings,
    grounds,
    main,
    pairs,
    render,
)


def test_there_are_as_many_different_drawings_and_grounds_as_kinds():
    assert len(drawings()) == len(grounds()) == KINDS
    assert len({one.tobytes() for one in drawings()}) == len({one.tobytes() for one in grounds()}) == KINDS
    assert set(SETS) == {
        *("nothing", "drawing", "position", "ground", "drawing + position", "drawing + ground"),
        *("position + ground", "drawing + position + ground"),
    }


@pytest.mark.parametrize("shared", [*SETS, SAME])
def test_pairs_share_the_factors_of_the_set_and_no_other(shared, monkeypatch):
    seen = []

    def noted(factors, rng):
        seen.append(factors)
        return np.zeros((len(factors["ground"]), 1))

    monkeypatch.setattr(shared_factors, "render", noted)
    pairs(shared, 400, np.random.default_rng(0))
    if shared == SAME:
        assert len(seen) == 1
        return
    first, second = seen
    for name in FACTORS:
        equal = (first[name] == second[name]).reshape(400, -1).all(1).mean()
        assert equal == 1 if name in SETS[shared] else equal < 0.2, name


def test_an_image_shows_its_factors():
    rng = np.random.default_rng(0)
    factors = draw_factors(40, rng)
    images = render(factors, np.random.default_rng(1))
    assert images.shape == (40, SIZE, SIZE, 3) and images.dtype == np.uint8
    moved = render(factors | {"position": np.zeros((40, 2))}, np.random.default_rng(1))
    changed = (images != moved).any(3)
    colour = np.ptp(images.astype(int), axis=3) > 30  # the grounds are grey
    here = np.array([np.argwhere(one).mean(0) if one.any() else (np.nan, np.nan) for one in colour])
    there = np.stack([factors["position"][:, 1], factors["position"][:, 0]], 1)
    coloured = np.isfinite(here).all(1)
    assert coloured.sum() > 20 and changed.any(axis=(1, 2)).all()
    for axis in (0, 1):  # the coloured pixels are where the drawing is
        assert np.corrcoef(here[coloured, axis], there[coloured, axis])[0, 1] > 0.9
    again = render(factors, np.random.default_rng(1))
    assert (again == images).all()
    other = render(factors | {"ground": (factors["ground"] + 1) % KINDS}, np.random.default_rng(1))
    assert (other != images).any(3).mean() > 0.5


@pytest.mark.slow
def test_the_command_finds_what_is_shared_and_continues(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr(shared_factors, "SETS", {name: SETS[name] for name in ("position", "ground")})
    monkeypatch.setattr(shared_factors, "BATCH", 48)
    real, trained = shared_factors.trained, []
    monkeypatch.setattr(shared_factors, "trained", lambda *given: (trained.append(given), real(*given))[1])
    with monkeypatch.context() as cut:
        cut.setattr(shared_factors, "table", lambda found: 1 / 0)  # as if it were killed before its end
        with pytest.raises(ZeroDivisionError):
            main(["--seeds", "1", "--steps", "60"])
    assert len(trained) == 4
    assert main(["--seeds", "1", "--steps", "60"]) == 0
    assert len(trained) == 4  # every network was kept
    out, err = capsys.readouterr()
    paths = out.split()
    assert [path.rsplit(".")[-1] for path in paths] == ["md", "csv", "png"] and "| position |" in err
    with open(paths[1]) as stream:  # noqa: PTH123
        found = {row["shared"]: row for row in csv.DictReader(stream)}
    assert set(found) == {UNTRAINED, "position", "ground", SAME}
    assert float(found["position"]["position"]) > float(found["ground"]["position"]) + 10
    assert float(found["ground"]["ground"]) > float(found["position"]["ground"]) + 10
