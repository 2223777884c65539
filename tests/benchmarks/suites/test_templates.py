"""Templates of rows: combinations, lists of points, and mistakes in them."""

import tomllib

import pytest

from benchmarks.suites import Row, read_suite
from benchmarks.suites.templates import expanded
from pretrain.common.errors import InputError

HEAD = 'title = "t"\nprofile = "demo"\ncolumns = [{ task = "knn" }]\nrows = [\n'


def read(tmp_path, rows, more=""):
    (tmp_path / "mine.toml").write_text(f"{HEAD}{rows}\n]\n{more}")
    return read_suite(tmp_path / "mine.toml")


def test_a_grid_makes_every_combination_with_its_place(tmp_path):
    rows = """{ label = "plain", preset = "p" },
GRID"""
    template = """{ label = "a {a} b {b}", preset = "p", flags = ["--a", "{a}", "--b={b}", "{other}"], seeds = [0],
        group = "{form}", grid = { a = [0, -0.1], b = [1e-4, 3.0], form = ["vmf"] } }"""
    plain, *made = read(tmp_path, rows.replace("GRID", template.replace("\n", " "))).rows
    assert plain == Row(label="plain", preset="p")
    assert [row.at for row in made] == [{"a": a, "b": b} for a in (0, -0.1) for b in (1e-4, 3.0)]
    assert [row.label for row in made] == ["a 0 b 0.0001", "a 0 b 3.0", "a -0.1 b 0.0001", "a -0.1 b 3.0"]
    assert made[2].flags == ("--a", "-0.1", "--b=0.0001", "{other}") and {row.group for row in made} == {"vmf"}
    assert {row.seeds for row in made} == {(0,)}


def test_points_are_the_listed_ones_and_may_follow_rows(tmp_path):
    rows = """{ label = "game {x}", preset = "p", points = [{ x = 1 }, { x = 2 }] },
    RUN"""
    template = """{ label = "run {x}", preset = "q", flags = ["{after}", "{hue}"], after = "game {x}",
        points = [{ x = 1, hue = "none" }, { x = 2, hue = "0.5" }] }"""
    *_, first, second = read(tmp_path, rows.replace("RUN", template.replace("\n", " "))).rows
    assert (first.flags, first.after, first.at) == (("{after}", "none"), "game 1", {"x": 1})
    assert (second.flags, second.after, second.at) == (("{after}", "0.5"), "game 2", {"x": 2})


def test_without_templates_nothing_changes():
    assert expanded(tomllib.loads(HEAD + '{ label = "a", preset = "p" }]')) == {} == expanded({"rows": 3})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("grid = { x = 1 }", r"rows\[1\].grid is not a table of lists"),
        ("grid = { x = [] }", r"rows\[1\].grid is not a table of lists"),
        ("grid = {}", r"rows\[1\].grid is not a table of lists"),
        ("points = [1]", r"rows\[1\].points is not a list of tables"),
        ("points = []", r"rows\[1\].points is not a list of tables"),
        ("points = [{ x = true }]", r"rows\[1\]: x is True, not a number or text"),
        ("points = [{ x = 1 }], grid = { x = [1] }", r"rows\[1\] has grid and points"),
        ("points = [{ x = 1 }, { x = 1 }]", "two rows are named one 1"),
        ("grid = { y = [1, 2] }", "two rows are named one {x}"),
    ],
)
def test_a_bad_template_is_named(tmp_path, template, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, f'{{ label = "plain", preset = "p" }}, {{ label = "one {{x}}", preset = "p", {template} }}')
