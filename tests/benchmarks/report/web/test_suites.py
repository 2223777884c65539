"""A suite's report: pooled pretraining runs, its columns and rows without a record, published rows beside like."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.records import ResultsStore
from benchmarks.report.web.command import gathered, html_of
from benchmarks.report.web.runs import read_facts
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.paper.conftest import save
from tests.benchmarks.report.records import saved
from tests.benchmarks.report.web.test_page import Page

SUITE = """
title = "t"
profile = "smoke"
rows = [
  { label = "late", preset = "smoke-simclr" },
  { label = "ours", preset = "smoke-simclr" },
  { label = "never", preset = "smoke-random" },
]
columns = [{ task = "linear" }, { task = "knn" }, { task = "many-shot", data = "results/data/dtd" }]
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return str(path)


def page_of(runs):
    facts = read_facts()
    return html_of(gathered(runs, facts), facts)


def shown(text):
    """Label → texts of its cells, of the leaderboard."""
    return {label: [one[1] for one in cells] for label, cells in Page(text.partition("</table>")[0]).rows.items()}


def pretrained(run):
    """The checkpoint of a pretraining run, as records have it."""
    return {"path": f"results/pretrain/{run}/backbone.safetensors"}


def ran(label, sha, values, checkpoint=None):
    for seed, value in enumerate(values):
        spec = make_spec(checkpoint_sha256=sha * 64, seed=seed)
        stored = make_record(spec, {"top1": value}, label=label).stored()
        path = ResultsStore().save(make_record(spec, {"top1": value}, label=label))
        path.write_text(json.dumps(stored | {"checkpoint": checkpoint}, default=list))


@pytest.mark.parametrize("runs", ["suite", "smoke"])
def test_pretraining_runs_of_a_row_are_one_row(results, suite, runs):
    for number, values in enumerate(([10.0, 20.0], [20.0, 30.0], [30.0, 40.0])):
        ran(f"ours #{number}", "abc"[number], values)
    row = shown(page_of(suite if runs == "suite" else runs))["ours"]
    assert row[0] == "25.0 ± 10.0 / 7.1 (3×2)"  # std of 15, 25, 35; of 10, 20 within


def test_the_run_that_was_recorded_under_the_rows_own_name_is_one_of_them(results, suite):
    """As a run of the same preset."""
    ran("ours", "a", [10.0, 20.0], pretrained("p-0123456789ab"))
    ran("ours #1", "b", [20.0, 30.0], pretrained("p-ba9876543210"))
    for runs in (suite, "smoke"):
        assert shown(page_of(runs))["ours"][0] == "20.0 ± 7.1 / 7.1 (2×2)"


def test_a_checkpoint_that_another_task_names_as_a_member_is_one(results):
    ran("ours", "a", [10.0, 20.0])
    ran("ours #1", "b", [20.0, 30.0])
    assert list(shown(page_of("smoke"))) == ["ours", "ours #1"]
    saved(("ours #0", {"task": "knn", "checkpoint_sha256": "a" * 64}, 5.0))
    assert shown(page_of("smoke"))["ours"] == ["20.0 ± 7.1 / 7.1 (2×2)", "5.0 (1)"]


def test_a_checkpoint_of_another_preset_keeps_its_row(results):
    ran("ours", "a", [10.0], pretrained("q-0123456789ab"))
    ran("ours #1", "b", [20.0], pretrained("p-ba9876543210"))
    assert list(shown(page_of("smoke"))) == ["ours", "ours #1"]


def test_columns_and_rows_without_a_record_are_missing_with_the_reason(results, suite):
    saved(("ours", {}, 10.0), ("late", {"checkpoint_sha256": "b" * 64}, 20.0), ("stranger", {"seed": 9}, 1.0))
    text = page_of(suite)
    assert shown(text) == {"late": ["20.0 (1)", "–", "–"], "ours": ["10.0 (1)", "–", "–"], "never": ["–", "–", "–"]}
    section = text.partition('id="missing-title"')[2].partition("</section>")[0]
    assert "<dt>not run</dt><dd>never, linear</dd>" in section
    absent = re.search(r"<dt>no run of this column is recorded</dt><dd>(.*?)</dd>", section)[1].split("; ")
    assert absent[:2] == ["late, kNN", "late, many-shot dtd"] and len(absent) == 6


def test_a_suite_without_any_run_is_one_line(results, suite):
    saved(("stranger", {"seed": 9}, 1.0))
    with pytest.raises(Exception, match="no recorded run is of a row of suite mine"):
        main(["report", suite])


def test_published_rows_are_apart_and_only_beside_like(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    save("alpha", "voc-c4-24k", [50.0, 51.0], sha="a")
    text = page_of("paper")
    own, _, published = text.partition('<tbody class="published">')
    published = published.partition("</tbody>")[0]
    assert "Published under the same protocol, not run here" in published and "MoCo v2" in published
    assert "MoCo v2" not in own.partition('id="board"')[2]  # not among the rows that are sorted and filtered
    assert "alpha" not in published and len(re.findall("<tr", published)) > 2
    save("alpha", "low-shot", [10.0], sha="a")
    cells = re.findall(r"<tr title.*?</tr>", page_of("paper").partition('<tbody class="published">')[2])
    column = [re.findall("<td>(.*?)</td>", one)[0] for one in cells]
    assert set(column) == {"–"}  # low-shot has no published counterpart


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"num_gpus": 4}, "4 GPUs"), ({"overrides": ("SOLVER.MAX_ITER", "9")}, "options SOLVER.MAX_ITER 9")],
)
def test_no_published_row_is_beside_a_column_of_another_protocol(tmp_path, monkeypatch, changes, words):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    save("alpha", "voc-c4-24k", [50.0], sha="a", **changes)
    text = page_of("paper")
    assert '<tbody class="published">' not in text
    assert f"VOC C4 AP: {words}" in text.partition("because our runs depart from the protocol")[2]


def test_another_profile_has_no_published_row(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    save("alpha", "voc-c4-24k", [50.0], sha="a", profile="demo")
    assert '<tbody class="published">' not in page_of("demo")


def test_an_empty_folder_is_one_line(results):
    with pytest.raises(Exception, match="report: nothing is recorded"):
        main(["report"])


def test_a_corrupt_record_is_left_out_and_named(results, capsys):
    saved(("whole", {}, 10.0), ("broken", {"checkpoint_sha256": "b" * 64}, 20.0))
    broken = next(path for path in results.glob("runs/*/*.json") if "broken" in path.read_text())
    broken.write_text(broken.read_text()[:200])
    assert main(["report"]) == 0
    said = capsys.readouterr()
    assert list(shown(Path(said.out.strip()).read_text())) == ["whole"]
    assert "is not a run record" in said.err and said.err.count("\n") == 1
