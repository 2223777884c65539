"""Charts over epochs, settings, steps and time: their numbers against the records'."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.records import ResultsStore
from benchmarks.report.web import chart_curves
from benchmarks.report.web.board import board_of
from benchmarks.report.web.chart_suite import suite_sections
from benchmarks.report.web.charts import Grid
from benchmarks.report.web.gallery import charts_of
from tests.benchmarks.report.records import saved
from tests.benchmarks.report.test_figures import CURVE, PLANE, ROWS, cells_of, suite_of


def sections(pairs):
    found = charts_of(board_of(pairs, ResultsStore().all_newest()))
    return {section.title: section for section in found}


def values_of(chart):
    return chart.spec["data"]["values"]


def test_a_series_has_its_epochs_in_order_and_other_rows_are_left_out(results):
    runs = [("run @20", "a", [30.0, 34.0]), ("run @3", "b", [20.0]), ("other", "c", [50.0])]
    pairs = saved(
        *(
            (label, {"checkpoint_sha256": sha * 64, "seed": seed}, value)
            for label, sha, several in runs
            for seed, value in enumerate(several)
        )
    )
    (chart,) = sections(pairs)["Series"].charts
    found = [(value["row"], value["epoch"], value["value"], value["n"]) for value in values_of(chart)]
    assert found == [("run", 3, 20.0, "1"), ("run", 20, 32.0, "2")]
    assert values_of(chart)[0]["low"] is None and values_of(chart)[1]["high"] == pytest.approx(
        32 + 12.7062 * 2, abs=1e-2
    )


def test_losses_are_means_of_parts_and_damaged_lines_give_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": step / 7}) + "\n" for step in range(6000)))
    found = chart_curves.losses(path, "step", "loss")
    parts = np.arange(6000).reshape(chart_curves.POINTS, -1)
    expected = [(part.mean(), part.mean() / 7) for part in parts]
    assert np.array(found) == pytest.approx(np.array(expected), abs=0.1)
    path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": NaN}\n{"loss": 3}\n')
    assert chart_curves.losses(path, "step", "loss") == []  # one number is no line
    path.write_text('{"step": 1, "loss": \n')
    assert chart_curves.losses(path, "step", "loss") == [] == chart_curves.losses(tmp_path / "none", "step", "loss")


def test_cost_is_the_mean_time_of_a_run(results):
    store, pairs = (
        ResultsStore(),
        saved(("a", {"checkpoint_sha256": "a" * 64}, 1.0), ("b", {"checkpoint_sha256": "b" * 64}, 2.0)),
    )
    for (label, spec), hours in zip(pairs, (3, 5), strict=True):
        store.save(dataclasses.replace(store.newest(spec), wall_seconds=3600.0 * hours, label=label))
    chart = sections(pairs)["Score against cost"].charts[0]
    assert [one[0][0] for one in chart.choices["points"]] == [3.0, 5.0]
    assert [one[1][0] for one in chart.choices["points"]] == [1.0, 2.0]
    assert chart.choices["columns"][0] == ["time of linear", "hours"]


def suite_charts(figure, values):
    board = dataclasses.replace(board_of([], {}), cells=tuple(cells_of(values)))
    found = suite_sections(Grid(board), suite_of(figure))
    return list(found[0].charts) if found else []


def test_a_suites_curve_has_means_and_standard_deviations_in_the_order_of_the_setting(results):
    values = {"one 3": [30.0, 34.0], "one 1": [10.0, 10.0], "one 2": [20.0, 20.0], "B": [5.0]}
    (chart,) = suite_charts(CURVE, values)
    assert [(one["row"], one["x"], one["value"]) for one in values_of(chart)] == [
        ("one", 1, 10.0),
        ("one", 2, 20.0),
        ("one", 3, 32.0),
    ]
    assert values_of(chart)[-1]["high"] == pytest.approx(32 + 8**0.5, abs=1e-4)
    assert chart.caption == "c (2 pretraining runs per point; bars: ± one standard deviation)."
    assert values_of(chart)[0]["at"] == "x 1, z 0"


def test_a_suites_panels_and_marks(results):
    values = {row.label: [float(place)] for place, row in enumerate(ROWS)}
    figure = dataclasses.replace(CURVE, x="knn/top1", panels=("two", "one"), marks="presets")
    for chart, first in zip(suite_charts(figure, values), (3.0, 0.0), strict=True):
        found = [(one["row"], one["x"]) for one in values_of(chart)]
        name = chart.title.split(":")[0]
        assert found == [*((name, first + place) for place in range(3)), ("B", 6.0)]  # in the rows' order


def test_a_suites_plane_has_each_number_at_its_settings_and_one_scale(results):
    one, two = suite_charts(PLANE, {"one 3": [30.0], "one 1": [10.0], "two 2": [50.0]})
    assert {(value["x"], value["row"]): value["value"] for value in values_of(one)} == {
        ("1", "0"): 10.0,
        ("3", "0"): 30.0,
        ("2", "1"): None,
    }
    colours = [chart.spec["layer"][0]["encoding"]["color"]["scale"]["domain"] for chart in (one, two)]
    assert colours == [[10.0, 50.0]] * 2
    assert suite_charts(PLANE, {}) == []
