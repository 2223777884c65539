"""The rule for λ on made-up tables: ties, repeats, missing rows, other units, and the suite that it is for."""

import csv
import math

import pytest

from benchmarks.claims.coefficients import COLUMNS, Point, Score, chosen, equals, main, read_scores, standard_error
from benchmarks.report.long_form import long_form
from benchmarks.suites import SUITES, find_suite
from pretrain.common.errors import InputError
from tests.benchmarks.report.test_figures import cells_of

SUITE = """
title = "mine"
profile = "demo"
[[rows]]
label = "{form} {λa} {λb}"
group = "{form}"
preset = "demo-superinfo"
points = [POINTS]
[[rows]]
label = "deterministic"
preset = "demo-superinfo"
[[columns]]
task = "linear"
"""


def score(mean, std=None, n=1, images=600):
    return Score(mean=mean, std=std, n=n, test_images=images, data="held-out")


def plane(numbers):
    """Points of one form from (λa, λb) → a mean or a Score, or None."""
    made = {at: score(one) if isinstance(one, float) else one for at, one in numbers.items()}
    return [Point(label=f"{a} {b}", form="f", a=a, b=b, score=one) for (a, b), one in made.items()]


def choice(numbers):
    found = chosen(plane(numbers))
    return found and (found.a, found.b)


def test_of_the_equals_the_smallest_coefficients_are_chosen():
    """50 % of 600 images: a standard error of 2.04 points, of a difference 2.89."""
    assert standard_error(score(50.0), score(50.0)) == pytest.approx(math.sqrt(2 * 2500 / 600))
    assert choice({(0, 0): 47.2, (0.1, 0.1): 50.0, (0, 0.1): 48.0}) == (0, 0)
    assert choice({(0, 0): 47.0, (0.1, 0.1): 50.0, (0, 0.1): 48.0}) == (0, 0.1)
    assert choice({(0, 0): 47.0, (0.1, 0.1): 50.0, (0, 0.1): 46.0}) == (0.1, 0.1)
    assert choice({(0, 0): 47.2, (0.1, 0.1): 50.0}) == (0, 0)
    smaller = {(0, 0): score(47.2, images=6000), (0.1, 0.1): score(50.0, images=6000)}
    assert choice(smaller) == (0.1, 0.1)  # ten times the images, a third of the error


def test_negative_coefficients_count_by_their_size():
    assert choice({(-0.3, -0.3): 50.0, (0.1, 0.1): 49.0, (-0.01, 0.02): 48.5}) == (-0.01, 0.02)
    assert choice({(-0.1, -0.1): 60.0, (0, 0): 50.0}) == (-0.1, -0.1)


def test_ties_go_to_the_higher_accuracy_and_then_to_the_first():
    assert choice({(0.1, 0): 49.0, (0, 0.1): 49.5, (-0.1, 0): 49.5}) == (0, 0.1)
    assert choice({(0.1, 0.2): 50.0, (0.3, 0): 50.5}) == (0.3, 0)  # 0.1 + 0.2 is 0.3


def test_several_runs_have_their_own_spread():
    tight = {(0, 0): score(48.0, 0.5, 3), (0.1, 0): score(50.0, 0.5, 3)}
    assert standard_error(*(point.score for point in plane(tight))) == pytest.approx(0.5 * math.sqrt(2 / 3))
    assert choice(tight) == (0.1, 0)
    assert choice({(0, 0): score(48.0, 3.0, 3), (0.1, 0): score(50.0, 3.0, 3)}) == (0, 0)
    mixed = {(0, 0): score(48.0), (0.1, 0): score(50.0, 0.5, 3)}  # one run beside three
    assert choice(mixed) == (0, 0)


def test_points_without_a_number_are_passed_over():
    assert choice({(0, 0): None, (0.1, 0): 40.0}) == (0.1, 0)
    assert choice({(0, 0): None}) is None and equals(plane({(0, 0): None})) == []


@pytest.fixture
def own(tmp_path):
    """A suite's file and a table, from (form, λa, λb, linear top-1 or None for a failed run)."""

    def write(rows, **changes):
        listed = ", ".join(f'{{ form = "{form}", "λa" = {a}, "λb" = {b} }}' for form, a, b, _ in rows)
        (tmp_path / "mine.toml").write_text(SUITE.replace("POINTS", listed))
        with (tmp_path / "table.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, COLUMNS)
            table.writeheader()
            for form, a, b, number in [*rows, ("deterministic", "", "", 99.0)]:
                for metric, task in (("top1", "linear v2"), ("top5", "linear v2"), ("top1", "knn v1")):
                    mean = "" if number is None else number if (metric, task) == ("top1", "linear v2") else 1.0
                    line = {"checkpoint": f"{form} {a} {b}".strip(), "metric": metric, "mean": mean, "n": 1}
                    line |= {"unit": "%", "task": task, "data": "held-out", "test_images": "600"}
                    table.writerow(line | changes)
        return [str(tmp_path / "table.csv"), "--suite", str(tmp_path / "mine.toml")]

    return write


def test_the_command_chooses_per_form_and_says_what_is_missing(own, capsys):
    given = own([("one", 0, 0, 40.0), ("one", -0.1, 0.2, 50.0), ("one", 1, 1, None), ("two", 0.1, 0, 30.0)])
    assert main(given) == 0
    said, warned = capsys.readouterr()
    assert "linear top1 on the 600 test images of held-out" in said and warned == ""
    assert "one: λa -0.1, λb 0.2, the smallest |λa| + |λb| of 1 equal to the best." in said
    assert "| -0.1 | 0.2 | 50.0 | 1 | 0.0 | 2.9 | **chosen** |" in said
    assert "| 0 | 0 | 40.0 | 1 | 10.0 | 2.9 |  |" in said and "| 1 | 1 | – | 0 | – | – | no number |" in said
    assert "two: λa 0.1, λb 0, the smallest" in said and "99.0" not in said


def test_a_form_without_a_number_chooses_nothing(own, capsys):
    assert main(own([("one", 0, 0, None), ("two", 0, 0, 30.0)])) == 0
    assert "one: no point has a number, nothing is chosen." in capsys.readouterr().out


def test_val_images_are_warned_of(own, capsys):
    main(own([("one", 0, 0, 30.0)], data="emoji-demo"))
    assert capsys.readouterr().err.startswith("warning: emoji-demo's test images are its val images")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "nats"}, "line 2: linear top1 is in 'nats', not %: run it again"),
        ({"test_images": ""}, "line 2: invalid literal for int"),
        ({"mean": 130}, "line 2: a number is out of range: make the table again"),
        ({"metric": "top5"}, "has no linear top1: run the suite to its end first"),
        ({"checkpoint": "one 0 0"}, "line 5: one 0 0 has two numbers of linear: keep one data set"),
    ],
)
def test_an_unusable_table_is_one_line(own, changes, words):
    with pytest.raises(InputError) as caught:
        main(own([("one", 0, 0, 30.0), ("one", 0, 1, 31.0)], **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_of_another_suite_or_none_is_refused(own, tmp_path):
    table, *_ = own([("one", 0, 0, 30.0)])
    with pytest.raises(InputError, match="the table has no row of suite coefficients: give --suite"):
        main([table])
    with pytest.raises(InputError, match="suite demo has no row with the settings λa and λb"):
        main([table, "--suite", "demo"])
    with pytest.raises(InputError, match="has no column checkpoint: give the CSV"):
        main([str(tmp_path / "mine.toml")])
    with pytest.raises(InputError, match="cannot be read"):
        main([str(tmp_path / "nowhere.csv")])


def test_the_tables_that_suites_write_have_what_the_rule_reads(tmp_path):
    table = long_form(cells_of({"one": [40.0, 44.0], "two": [50.0]}))
    table["task"] = "linear v2"
    table.to_csv(tmp_path / "table.csv", index=False)
    found = read_scores(tmp_path / "table.csv")
    assert found["one"].mean == 42.0 and found["one"].n == 2 and found["one"].std == pytest.approx(8**0.5)
    assert found["two"].std is None and found["two"].test_images > 0


def test_the_suites_planes():
    """Four forms, each with λ = 0, unequal and negative coefficients, in the labels and in the flags alike."""
    random, *rows = SUITES["coefficients"].rows
    assert random.preset == "demo-random" and not random.at
    forms = list(dict.fromkeys(row.group for row in rows))
    assert forms == ["vmf", "bounded", "queue", "BYOL"]
    for row in rows:
        assert row.label == f"{row.group} λa {row.at['λa']:g} λb {row.at['λb']:g}"
        flags = [row.flags[row.flags.index(f"--method.lambda-{one}") + 1] for one in "ab"]
        assert [float(flag) for flag in flags] == list(row.at.values())
    for form in forms:
        points = {tuple(row.at.values()) for row in rows if row.group == form}
        assert (0, 0) in points and any(min(point) < 0 for point in points) and any(a != b for a, b in points)
    confirmed = find_suite("coefficients-confirmed")
    assert all(row.seeds == (0, 1, 2) for row in confirmed.rows)
    points = {(row.at["λa"], row.at["λb"]) for row in confirmed.rows}
    assert (0, 0) in points and any(min(point) < 0 for point in points) and any(a != b for a, b in points)
    assert all(row.at["λa + λb"] == pytest.approx(row.at["λa"] + row.at["λb"]) for row in confirmed.rows)
    shared = [row for row in find_suite("superfluous").rows if row.preset == "demo-superinfo"]
    assert {row.flags[2:] for row in shared} == {row.flags for row in confirmed.rows}
