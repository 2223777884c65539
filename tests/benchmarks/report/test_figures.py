"""Figures of a suite: the numbers that are drawn, where, and what is said about them."""

import dataclasses

import numpy as np
import pytest

from benchmarks.report import figures
from benchmarks.report.cells import Cell
from benchmarks.report.figures import Numbers, draw_figures
from benchmarks.suites import SUITES, Figure, Row, SuiteColumn, checked_suite
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec

SETTINGS = ((3, 0), (1, 0), (2, 1))
ROWS = (
    *(
        Row(label=f"{group} {x}", preset="p", group=group, at={"x": x, "z": z})
        for group in ("one", "two")
        for x, z in SETTINGS
    ),
    Row(label="B", preset="p", group="presets"),
)
CURVE = Figure(name="c", kind="curve", x="x", y=("knn/top1",))
PLANE = Figure(name="p", kind="plane", x="x", across="z", y=("knn/top1",))


def suite_of(*drawn):
    columns = (SuiteColumn(task="knn"),)
    return dataclasses.replace(SUITES["smoke"], name="mine", rows=ROWS, columns=columns, figures=drawn)


def cells_of(values):
    """A kNN cell per row, of one pretraining run per value."""
    made = []
    for label, several in values.items():
        specs = [make_spec(task="knn", checkpoint_sha256=f"{number}" * 64) for number in range(len(several))]
        records = tuple(make_record(spec, {"top1": one}) for spec, one in zip(specs, several, strict=True))
        made.append(Cell(label, "kNN", TASKS["knn"].metrics[0], records, 0, (), True))
    return made


@pytest.fixture
def picture(monkeypatch, tmp_path):
    """Draw a figure and give matplotlib's object in place of the file."""
    kept = []
    for name in ("_curves", "_planes"):
        draw = getattr(figures, name)
        monkeypatch.setattr(figures, name, lambda *given, draw=draw: kept.append(draw(*given)) or kept[-1])

    def of(figure, values):
        written = draw_figures(suite_of(figure), cells_of(values), tmp_path)
        assert [path.is_file() for path in written] == [True] * len(written)
        return kept[-1], written

    return of


def test_a_curve_has_means_and_standard_deviations_in_the_order_of_the_setting(picture):
    found, written = picture(CURVE, {"one 3": [30.0, 34.0], "one 1": [10.0, 10.0], "one 2": [20.0, 20.0], "B": [5.0]})
    (axis,) = found.axes
    (line,) = (one for one in axis.lines if len(one.get_xdata()) == 3 and one.get_marker() == "o")
    assert list(line.get_xdata()) == [1, 2, 3] and list(line.get_ydata()) == [10.0, 20.0, 32.0]
    ends = sorted(point[1] for bar in axis.collections for part in bar.get_segments() for point in part)
    assert ends[-1] == pytest.approx(32 + 8**0.5)  # the sample standard deviation of 30 and 34
    assert list(axis.get_xticks()) == [1, 2, 3]  # the few settings that there are
    assert [path.name for path in written] == ["mine-c.png"]
    assert " ".join(found.get_suptitle().split()) == "c (2 pretraining runs per point; bars: ± one standard deviation)"


def test_a_single_run_has_the_error_of_its_test_images(picture, monkeypatch):
    monkeypatch.setattr(figures, "kept_draws", lambda record: {"top1": np.array([29.0, 30.0, 31.0])})
    found, _ = picture(CURVE, {"one 3": [30.0]})
    (axis,) = found.axes
    ends = sorted(point[1] for bar in axis.collections for part in bar.get_segments() for point in part)
    assert (ends[0], ends[-1]) == (29.0, 31.0)
    title = " ".join(found.get_suptitle().split())
    assert title.endswith("per point; bars of one run: ± one standard error over the test images)")


def test_panels_and_marks(picture):
    values = {row.label: [float(place)] for place, row in enumerate(ROWS)}
    figure = dataclasses.replace(CURVE, x="knn/top1", panels=("two", "one"), marks="presets", title="accuracy")
    found, _ = picture(figure, values)
    assert [axis.get_title() for axis in found.axes] == ["two", "one"]
    for axis, first in zip(found.axes, (3.0, 0.0), strict=True):
        assert [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] == [
            [first, first + 1, first + 2]  # in the rows' order, since x is no setting
        ]
        assert [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "*"] == [[6.0]]
        assert [text.get_text() for text in axis.texts] == ["3", "1", "2", "B"]
    assert " ".join(found.get_suptitle().split()) == "accuracy (1 pretraining run per point)"


def test_a_plane_has_each_number_at_its_settings_and_one_scale(picture):
    found, _ = picture(PLANE, {"one 3": [30.0], "one 1": [10.0], "two 2": [50.0]})
    one, two = found.axes
    assert [t.get_text() for t in one.get_xticklabels()] == ["1", "2", "3"]
    assert [t.get_text() for t in one.get_yticklabels()] == ["0", "1"]
    assert one.images[0].get_array().filled(-1).tolist() == [[10.0, -1, 30.0], [-1, -1, -1]]
    assert two.images[0].get_array().filled(-1).tolist() == [[-1, -1, -1], [-1, 50.0, -1]]
    assert one.images[0].get_clim() == two.images[0].get_clim() == (10.0, 50.0)
    # Words for the row without a number, nothing where the suite has no row.
    placed = [(text.get_position(), text.get_text()) for text in one.texts]
    assert placed == [((0, 0), "10.0"), ((2, 0), "30.0"), ((1, 1), "no number")]


def test_a_plane_of_a_group_without_a_number_is_left_out(picture):
    one, two = picture(PLANE, {"one 3": [30.0]})[0].axes
    assert one.get_visible() and not two.get_visible()


def test_a_figure_without_a_number_is_not_drawn_and_an_older_one_goes(picture, tmp_path):
    picture(CURVE, {"one 1": [1.0]})
    assert (tmp_path / "mine-c.png").is_file()
    assert picture(CURVE, {})[1] == [] and not (tmp_path / "mine-c.png").exists()


def test_a_setting_or_metric_is_found_by_name():
    numbers = Numbers(cells_of({"one 1": [1.0, 3.0]}))
    row = ROWS[1]
    assert numbers.of(row, "x") == (1, None) and numbers.of(row, "knn/top1") == (2.0, pytest.approx(2**0.5))
    assert numbers.of(row, "linear/top1") is None and numbers.of(ROWS[0], "knn/top1") is None
    assert numbers.label("knn/top1") == "kNN top-1 (%)" and numbers.label("x") == "x"


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (dataclasses.replace(CURVE, kind="pie"), "suite mine, figure c: kind is curve, or plane"),
        (dataclasses.replace(CURVE, across="z"), "kind is curve, or plane, which alone has `across`"),
        (dataclasses.replace(PLANE, across=""), "kind is curve, or plane, which alone has `across`"),
        (dataclasses.replace(CURVE, panels=("three",)), "no row has the group 'three'"),
        (dataclasses.replace(CURVE, marks="three"), "no row has the group 'three'"),
        (dataclasses.replace(CURVE, x="w"), "w is no setting of a row and no metric of a column"),
        (dataclasses.replace(CURVE, y=("knn/top5",)), "knn/top5 is no setting of a row and no metric of a column"),
        (dataclasses.replace(CURVE, y=("linear/top1",)), "linear/top1 is no setting of a row and no metric"),
    ],
)
def test_a_figure_of_nothing_is_refused(figure, words):
    assert checked_suite(suite_of(CURVE, PLANE))
    with pytest.raises(InputError, match=words):
        checked_suite(suite_of(figure))
