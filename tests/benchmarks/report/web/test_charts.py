"""The charts' specifications: their numbers against the cells', what they leave out."""

import json

import numpy as np
import pytest

from benchmarks.records import ResultsStore
from benchmarks.report.web import charts
from benchmarks.report.web.board import board_of
from benchmarks.report.web.command import write_report
from benchmarks.report.web.gallery import charts_of
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


def test_too_many_rows_are_cut_and_the_page_says_so(results):
    count = charts.ROWS + 3
    pairs = saved(*((f"row {n}", {"checkpoint_sha256": f"{n:064d}"}, float(n)) for n in range(count)))
    (section,) = [one for one in sections(pairs).values() if one.title == "Each column"]
    rows = [value["row"] for value in section.charts[0].spec["data"]["values"]]
    assert rows == [f"row {n}" for n in [*range(charts.FIRST), *range(count - charts.ROWS + charts.FIRST, count)]]
    assert f"{charts.ROWS} of {count} rows" in section.about


def test_a_page_without_numbers_has_no_charts_and_no_engine(results):
    pairs = saved(("alpha", {}, "out of memory"))
    text = write_report(pairs, "smoke", "t").read_text()
    assert 'id="charts-data"' not in text and 'id="engine"' not in text and len(text) < 200_000


def test_the_island_is_json_that_the_engine_can_read(pairs):
    data = charts.as_json(charts_of(board(pairs)))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
