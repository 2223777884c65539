"""The report's page, read back: its table against the Markdown one, its island, what it says of missing runs."""

import json
from html.parser import HTMLParser

import pytest

from benchmarks.__main__ import main
from benchmarks.report.cells import collect
from benchmarks.report.tables import to_markdown
from benchmarks.report.text import for_markdown
from benchmarks.report.web.command import write_report
from benchmarks.report.web.page import SCRIPTS, island
from pretrain.common.errors import InputError
from tests.benchmarks.report.records import rows_of, saved

HOSTILE = ["</script><script>alert(1)</script>", "\"'`<!--&amp;", "模型 модель نموذج", "x" * 200]


class Page(HTMLParser):
    """Rows of the leaderboard as label → [(class, text)], and the text of the island."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.data, self.scripts = {}, "", 0
        self._cell, self._label, self._at, self._island = None, "", "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.scripts += tag == "script"
        self._island = attributes.get("id") == "data"
        if tag == "th" and attributes.get("scope") == "row":
            self._at, self._label = "label", ""
        elif tag == "td" and self._label:
            self._at, self._cell = "cell", [attributes.get("class", ""), ""]

    def handle_endtag(self, tag):
        if tag == "th" and self._at == "label":
            self.rows[self._label], self._at = [], ""
        elif tag == "td" and self._at == "cell":
            self.rows[self._label].append(tuple(self._cell))
            self._at = ""
        elif tag == "table":
            self._label = ""

    def handle_data(self, data):
        if self._island:
            self.data += data
        elif self._at == "label":
            self._label += data
        elif self._at == "cell":
            self._cell[1] += data


def test_numbers_and_marks_are_those_of_the_markdown_table(pairs):
    page = Page(write_report(pairs, "smoke", "t").read_text())
    markdown = rows_of(to_markdown(collect(pairs), "smoke"))
    assert len(page.rows) == len(markdown) == 3
    for label, cells in page.rows.items():
        _, *expected = markdown[for_markdown(label)].values()
        shown = [f"**{text}**" if name.split()[:1] == ["best"] else text for name, text in cells]
        assert [text.replace("–", "") for text in shown] == [text.strip("-") for text in expected]


def test_a_cell_without_a_number_says_why(pairs):
    text = write_report(pairs, "smoke", "t").read_text()
    section = text.partition('id="missing-title"')[2].partition("</section>")[0]
    assert "<dt>failed: out of memory</dt><dd>beta_2, VOC C4</dd>" in section
    assert "<dt>not run</dt><dd>gamma, VOC C4</dd>" in section
    assert "<dt>undefined on these data</dt><dd>alpha, VOC C4</dd>" in section


def test_the_drawer_has_every_run_of_a_cell(pairs, tmp_path):
    text = write_report(pairs, "smoke", "t").read_text()
    data = json.loads(Page(text).data)
    for row, label in enumerate(data["rows"]):
        for task in ("low-shot", "voc-c4-24k"):
            heading = {"low-shot": "10-shot", "voc-c4-24k": "VOC C4"}[task]
            column = [one[0] for one in data["columns"]].index(heading)
            runs = [data["runs"][place] for place in data["cells"][row][column][1]]
            expected = {spec.spec_id for one, spec in pairs if one == label and spec.task == task}
            assert {run["run"] for run in runs} == expected
            assert all(f"--task {task} " in run["repeat"] for run in runs)
    failed = [run for run in data["runs"] if run["status"] == "failed"]
    assert [run["error"] for run in failed] == ["out of memory"]
    assert str(tmp_path) not in text


def test_hostile_labels_stay_text(results):
    pairs = saved(*((label, {"checkpoint_sha256": str(n) * 64}, 10.0 + n) for n, label in enumerate(HOSTILE)))
    page = Page(write_report(pairs, "smoke", "t").read_text())
    assert list(page.rows) == HOSTILE and page.scripts == 4 + len(SCRIPTS)
    assert json.loads(page.data)["rows"] == HOSTILE


def test_the_island_holds_no_markup_and_reads_back():
    value = {"text": [*HOSTILE, "\u2028\u2029"]}
    assert not set(island(value)) & set("<>&\u2028\u2029") and json.loads(island(value)) == value


def test_equal_records_give_equal_pages(pairs, tmp_path):
    pages = [write_report(pairs, "smoke", "t", output=tmp_path / f"{n}.html").read_bytes() for n in range(2)]
    assert pages[0] == pages[1]


def test_the_command_names_its_file_and_refuses_others(pairs, tmp_path, capsys):
    assert main(["report"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "tables" / "smoke-report.html")
    for words, reason in (
        (["report", "paper"], "no recorded run of profile paper"),
        (["report", "nothing"], "unknown suite nothing"),
        (["report", "smoke", "--output", str(tmp_path)], "give the page's file"),
    ):
        with pytest.raises(InputError, match=reason):
            main(words)


def test_numbers_that_are_not_finite_are_null():
    assert json.loads(island({"a": [1.5, float("nan"), (float("inf"), 2)]})) == {"a": [1.5, None, [None, 2]]}
