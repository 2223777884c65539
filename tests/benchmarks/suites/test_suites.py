"""Suites as files, as values, and as a user gets them wrong."""

import dataclasses
import re

import pytest

from benchmarks import suites
from benchmarks.data.emoji import EMBEDDED
from benchmarks.profiles import PROFILES
from benchmarks.suite_run import check_rows
from benchmarks.suites import (
    SUITES,
    Row,
    Suite,
    SuiteColumn,
    changed,
    checked_suite,
    find_suite,
    read_suite,
    register,
)
from benchmarks.tasks import named
from pretrain.augment.pairs import UNPAIRED
from pretrain.augment.views import VIEWS
from pretrain.command import parse
from pretrain.common.errors import InputError

GOOD = """
title = "mine"
profile = "demo"
data = "/data/mine"
rows = [
  { label = "theirs", checkpoint = "/x/y.pth" },
  { label = "ours", preset = "demo-simclr", flags = ["--steps", "5"], seeds = [0, 1] },
]
columns = [{ task = "knn" }, { task = "low-shot", seeds = [0, 1, 2], data = "/data/other" }]
"""


@pytest.fixture
def own(tmp_path):
    def write(text):
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return write


def test_a_file_is_read_as_it_says(own):
    path = own(GOOD)
    ours = Row(label="ours", preset="demo-simclr", flags=("--steps", "5"), seeds=(0, 1))
    assert find_suite(str(path)) == Suite(
        name="mine",
        title="mine",
        profile="demo",
        data="/data/mine",
        rows=(Row(label="theirs", checkpoint="/x/y.pth"), ours),
        columns=(SuiteColumn(task="knn"), SuiteColumn(task="low-shot", seeds=(0, 1, 2), data="/data/other")),
    )
    assert ours.members() == [
        ("ours #0", ("--steps", "5", "--seed", "0")),
        ("ours #1", ("--steps", "5", "--seed", "1")),
    ]
    assert Row(label="a", preset="b", flags=("--c",)).members() == [("a", ("--c",))]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"demo"', '"huge"', "unknown profile huge: choose from smoke, demo, small, paper"),
        ('profile = "demo"', "", "lacks profile"),
        ('title = "mine"', "title = 3", "title is 3, not text"),
        ('title = "mine"', 'title = "mine"\nworkers = 2', "unknown field 'workers'"),
        ('"knn"', '"segmentation"', "unknown task segmentation: `python -m benchmarks list`"),
        ("seeds = [0, 1, 2]", 'seeds = ["0"]', r"columns\[1\].seeds\[0\] is '0', not a whole number"),
        (', checkpoint = "/x/y.pth"', "", "row theirs: give either a checkpoint or a preset"),
        ('checkpoint = "/x/y.pth"', 'checkpoint = "x", preset = "y"', "give either a checkpoint or a preset"),
        ('checkpoint = "/x/y.pth"', 'checkpoint = "x", seeds = [1]', "row theirs: flags and seeds are for a preset"),
        ('checkpoint = "/x/y.pth"', 'checkpoint = "x", data = "emoji"', "for a preset, and so is data"),
        ('"theirs"', '"ours #1"', "two rows are named ours #1"),
        ("seeds = [0, 1] }", "seeds = [0, 0] }", "two rows are named ours #0"),
        ('"theirs"', '"ours"', "two rows are named ours"),
        ("seeds = [0, 1, 2]", "seeds = [-1]", "suite mine, column low-shot: seed -1: give 0 to 2147483647"),
        ('"theirs"', '" "', "suite mine: a checkpoint's name is empty"),
        ('columns = [{ task = "knn" }', "columns = [][{", "cannot be read as TOML"),
        (GOOD[GOOD.index("columns") :], "columns = []", "suite mine has no column"),
    ],
)
def test_an_unusable_file_is_one_line_that_says_where(own, old, new, words):
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(InputError, match=words) as caught:
        read_suite(own(text))
    assert "mine" in str(caught.value) and "\n" not in str(caught.value)


def test_a_suite_that_there_is_not_is_named_with_those_there_are(tmp_path):
    with pytest.raises(
        InputError, match=r"unknown suite big: choose from .*demo, .*, or give the path of a \.toml file"
    ):
        find_suite("big")
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read as TOML"):
        find_suite(str(tmp_path / "nowhere.toml"))


def test_a_suite_is_registered_once_under_its_name(monkeypatch):
    monkeypatch.setattr(suites, "SUITES", {})
    suite = Suite(name="mine", title="mine", profile="smoke", columns=(SuiteColumn(task="knn"),))
    assert register(suite) is suite and register(suite) is suite and find_suite("mine") is suite
    with pytest.raises(InputError, match="two suites are named mine"):
        register(Suite(name="mine", title="other", profile="demo", columns=suite.columns))
    with pytest.raises(InputError, match="suite none has no column"):
        register(Suite(name="none", title="", profile="demo", columns=()))
    assert list(suites.SUITES) == ["mine"]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_of_ours_is_usable_as_it_is(name):
    suite = checked_suite(SUITES[name])
    assert suite.name == name and suite.title and "\n" not in suite.title and suite.profile in PROFILES
    assert all(named(column.task) for column in suite.columns)
    check_rows([(label, row.preset, flags) for row in suite.rows for label, flags in row.members()])


def test_the_inverted_u_moves_four_knobs_and_marks_the_published_views():
    suite = SUITES["inverted-u"]
    groups = {row.group: [] for row in suite.rows}
    for row in suite.rows:
        config = parse(row.preset, ["--data", ".", *row.flags]).config
        groups[row.group].append((config.views, config.pair))
        if row.group == "presets":
            assert config.views == VIEWS[row.label] and config.pair == UNPAIRED
        else:
            assert row.label == f"{row.group} {next(iter(row.at.values()))}"
    knobs = {name: points for name, points in groups.items() if name != "presets"}
    assert [len(set(points)) >= 6 for points in knobs.values()] == [True] * 4 and len(groups["presets"]) == 5
    for figure in suite.figures:
        assert figure.panels == tuple(knobs) and figure.marks == "presets"
    # One knob moves: every other setting is the same along it.
    moving = {
        "crop scale": {"crop_scale"},
        "crop distance": {"crop_distance"},
        "colour strength": {"brightness", "contrast", "saturation", "hue", "grayscale"},
        "frequency split": {"frequency_split"},
    }
    for name, points in knobs.items():
        settings = [dataclasses.asdict(views) | dataclasses.asdict(pair) for views, pair in points]
        assert {key for key in settings[0] if len({one[key] for one in settings}) > 1} == moving[name]
    detected = [row for row in SUITES["inverted-u-detector"].rows if row.group == "colour strength"]
    assert [row.flags for row in detected] == [row.flags for row in suite.rows if row.group == "colour strength"]


def test_rows_of_superfluous_information_differ_in_what_their_labels_say():
    """So that a difference in factors is of the objective, λ or the views alone."""
    configs = {row.label: parse(row.preset, [*row.flags, "--data", "."]).config for row in SUITES["superfluous"].rows}
    simclr = configs["simclr"]
    assert configs["InfoMin's views"] == dataclasses.replace(
        simclr, views=dataclasses.replace(simclr.views, rand_augment=2)
    )
    for label, config in configs.items():
        if label.startswith("superinfo"):
            assert dataclasses.replace(config, method=simclr.method) == simclr
            assert label == f"superinfo λa {config.method.lambda_a:g} λb {config.method.lambda_b:g}"


def test_each_method_is_pretrained_on_every_set_whose_scenes_the_suite_reads():
    suite = SUITES["shared-drawings"]
    sets = {"emoji-other-classes": 0, "emoji-other-drawings": 1, "emoji-same-drawings": 2}
    assert set(sets) == EMBEDDED.keys() - {"emoji"} and suite.data == "emoji-same-drawings"
    rows = {(row.preset, row.data, row.at["shared"]) for row in suite.rows}
    methods = ("demo-supervised", "demo-simclr", "demo-superinfo")
    assert rows == {
        ("demo-random", "", 0),
        *((preset, data, shared) for preset in methods for data, shared in sets.items()),
    }


def test_learned_views_follow_the_game_with_their_share_of_labels():
    rows = {row.label: row for row in SUITES["learned-views"].rows}
    for row in rows.values():
        if row.group == "learned":
            game = rows[row.after]
            arguments = parse(game.preset, [*game.flags, "--data", "."])
            assert 100 * arguments.config.method.labels == game.at["labels"] == row.at["labels"]
    assert sum(row.group == "learned" for row in rows.values()) == 3


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([Row(label="b", preset="p", after="a")], "row b: give after, a row's label, together with {after}"),
        ([Row(label="b", preset="p", flags=("{after}",))], "row b: give after, a row's label, together with {after}"),
        ([Row(label="b", preset="p", flags=("{after}",), after="a")], "row b: after 'a' is no earlier row"),
        ([Row(label="b", preset="p", flags=("{after}",), after="b")], "row b: after 'b' is no earlier row"),
        (
            [
                Row(label="a", preset="p", seeds=(0, 1)),
                Row(label="b", preset="p", flags=("{after}",), after="a", seeds=(0, 2)),
            ],
            "row b: row a has other seeds",
        ),
    ],
)
def test_a_row_waits_for_an_earlier_one_of_its_seeds(rows, words):
    suite = dataclasses.replace(SUITES["smoke"], rows=tuple(rows))
    with pytest.raises(InputError) as caught:
        checked_suite(suite)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_suite_at_another_size_has_other_presets_flags_profile_and_data():
    sweep = SUITES["coefficients"]
    found = changed(sweep, "smoke", ["demo-superinfo=smoke-superinfo"], "--image-size 32 --steps 2", own=True)
    assert (found.profile, found.data) == ("smoke", "own") and found.columns == sweep.columns
    for old, new in zip(sweep.rows, found.rows, strict=True):
        assert new.flags == (*old.flags, "--image-size", "32", "--steps", "2") and new.label == old.label
        assert new.preset == ("smoke-superinfo" if old.preset == "demo-superinfo" else old.preset)
        assert parse(new.preset, [*new.flags, "--data", "."]).config.steps == 2  # the last of two flags counts
    assert re.fullmatch("coefficients-[0-9a-f]{6}-own", found.name)
    seeded = changed(SUITES["demo"], pretrain_seeds=3)
    assert seeded.name == "demo-3-seeds" and {row.seeds for row in seeded.rows} == {(0, 1, 2)}
    assert changed(sweep) == sweep and changed(sweep, "smoke").name == "coefficients"
    assert changed(SUITES["paper"], own=True).data == "standard"


def test_rows_with_data_of_their_own_do_not_move_to_the_users():
    suite = dataclasses.replace(
        SUITES["coefficients"], rows=(Row(label="a", preset="demo-simclr", data="emoji-other-classes"),)
    )
    assert changed(suite, flags="--steps 2").rows[0].data == "emoji-other-classes"
    with pytest.raises(InputError, match="row a of suite coefficients is pretrained on emoji-other-classes"):
        changed(suite, own=True)


@pytest.mark.parametrize(
    ("suite", "presets", "flags", "words"),
    [
        ("coefficients", ["demo-moco=demo-mocov2"], "", "--preset demo-moco=demo-mocov2: give OLD=NEW; suite coeffic"),
        ("coefficients", ["demo-superinfo"], "", "has demo-random, demo-superinfo, demo-superinfo-bounded"),
        ("paper", ["a=b"], "", "suite paper has no preset"),
        ("demo", [], "--data 'a", "--flags --data 'a: No closing quotation"),
        ("paper", [], "--steps 3", "--flags --steps 3: suite paper has no row with a preset"),
    ],
)
def test_a_change_that_changes_nothing_is_refused(suite, presets, flags, words):
    for runs in (0, -1, 10**9):
        with pytest.raises(InputError, match=f"--pretrain-seeds {runs}: give 1 to 1000"):
            changed(SUITES["demo"], pretrain_seeds=runs)
    with pytest.raises(InputError, match=words):
        changed(SUITES[suite], presets=presets, flags=flags)
