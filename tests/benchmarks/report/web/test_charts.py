"""The charts' specifications: their numbers against the cells', what they leave out."""

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks.records import ResultsStore
from benchmarks.report import chart
from benchmarks.report.web.board import board_of
from benchmarks.report.web.charts import as_json
from benchmarks.report.web.command import write_report
from benchmarks.report.web.gallery import charts_of
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import VALUES, saved

STUDENT = 4.30265  # 97.5 % quantile with two degrees of freedom, of a printed table


def board(pairs):
    return board_of(pairs, ResultsStore().all_newest())


def sections(pairs):
    return {section.title: section for section in charts_of(board(pairs))}


def test_bars_have_the_means_and_students_intervals_of_the_seeds(pairs):
    section = sections(pairs)["Each column"]
    chart = next(one for one in section.charts if one.title == "10-shot top-1")
    found = {value["row"]: value for value in chart.spec["data"]["values"]}
    assert list(found) == list(VALUES)
    for label, values in VALUES.items():
        assert found[label]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
        if len(values) == 3:
            width = STUDENT * np.std(values, ddof=1) / np.sqrt(3)
            assert found[label]["low"] == pytest.approx(np.mean(values) - width, abs=1e-3)
            assert found[label]["high"] == pytest.approx(np.mean(values) + width, abs=1e-3)
        else:
            assert found[label]["low"] is None and found[label]["n"] == "1"
    assert "over downstream seeds" in chart.caption


def test_the_scatter_has_kendalls_tau_of_each_pair_of_columns(results):
    columns = {"linear": [10.0, 20.0, 30.0, 40.0], "knn": [5.0, 9.0, 7.0, 11.0], "low-shot": [4.0, 3.0, 3.0, 1.0]}
    pairs = saved(
        *(
            (f"row {row}", {"task": task, "checkpoint_sha256": str(row) * 64}, value)
            for task, values in columns.items()
            for row, value in enumerate(values)
        )
    )
    (chart,) = sections(pairs)["One column against another"].charts
    names = {"linear top-1": "linear", "kNN top-1": "knn", "10-shot top-1": "low-shot"}
    order = [names[name] for name, _ in chart.choices["columns"]]
    for row, points in enumerate(chart.choices["points"]):
        assert [one[0] for one in points] == [columns[task][row] for task in order]
    assert len(chart.choices["tau"]) == 3
    for key, text in chart.choices["tau"].items():
        x, y = (columns[order[int(place)]] for place in key.split())
        expected = stats.kendalltau(x, y).statistic
        assert text.startswith(f"Kendall τ = {expected:+.2f}, p = ") and text.endswith("n = 4")


def test_factors_have_a_square_for_each_row_and_layer(results):
    store, pairs = ResultsStore(), []
    for number, label in enumerate(("alpha", "beta")):
        spec = make_spec(task="factors", checkpoint_sha256=str(number) * 64)
        store.save(make_record(spec, {"position": 60.0 + number, "hue": 5.0, "z hue": 2.5 + number}, label=label))
        pairs.append((label, spec))
    own, embedding = sections(pairs)["Factors that the features hold"].charts
    found = {(value["row"], value["factor"]): value["value"] for value in own.spec["data"]["values"]}
    expected = {("alpha", "position"): 60.0, ("beta", "position"): 61.0, ("alpha", "hue"): 5.0, ("beta", "hue"): 5.0}
    assert found == expected
    found = {(value["row"], value["factor"]): value["value"] for value in embedding.spec["data"]["values"]}
    assert found == {("alpha", "hue"): 2.5, ("beta", "hue"): 3.5}


def test_too_many_rows_are_cut_and_the_page_says_so(results):
    count = chart.ROWS + 3
    pairs = saved(*((f"row {n}", {"checkpoint_sha256": f"{n:064d}"}, float(n)) for n in range(count)))
    (section,) = [one for one in sections(pairs).values() if one.title == "Each column"]
    rows = [value["row"] for value in section.charts[0].spec["data"]["values"]]
    assert rows == [f"row {n}" for n in [*range(chart.FIRST), *range(count - chart.ROWS + chart.FIRST, count)]]
    assert f"{chart.ROWS} of {count} rows" in section.about


def test_a_page_without_numbers_has_no_charts_and_no_engine(results):
    pairs = saved(("alpha", {}, "out of memory"))
    text = write_report(pairs, "smoke", "t").read_text()
    assert 'id="charts-data"' not in text and 'id="engine"' not in text and len(text) < 200_000


def test_the_island_is_json_that_the_engine_can_read(pairs):
    data = as_json(charts_of(board(pairs)))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
