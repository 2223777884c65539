"""Rows, differences, footnotes and published numbers of a laid-out table."""

import dataclasses
import statistics

import pandas as pd
import pytest

from benchmarks.records import ResultsStore
from benchmarks.report.cells import recorded
from benchmarks.report.paper.layout import page_of, table_of
from benchmarks.report.paper.page import Notes
from benchmarks.report.paper.ranking import ranked_columns, ranking_of
from benchmarks.report.paper.spec import read_spec
from benchmarks.report.paper.table_csv import to_csv
from benchmarks.report.published import REFERENCE
from pretrain.common.errors import InputError
from tests.benchmarks.report.paper.conftest import save


def made(spec_file, rows=(), **changes):
    newest = ResultsStore().all_newest()
    spec = dataclasses.replace(read_spec(spec_file), **changes)
    return table_of(spec, recorded(spec.profile, None, newest), newest, rows)


def made_ranking(table, places=()):
    return ranking_of(table, places or ranked_columns(table.spec))


def entries(page, title):
    (line,) = [one for panel in page.panels for one in panel.lines if one.title.startswith(title)]
    return line


def test_rows_stand_in_the_listed_order_with_published_ones_beside_theirs(results, spec_file):
    page = page_of(made(spec_file))
    titles = [line.title for line in page.panels[0].lines]
    assert titles == ["super.", "Alpha", "beta_2", "MoCo v2 (200 ep)", "gamma", "delta"]
    assert [line.rule for line in page.panels[0].lines] == [False, True, False, True, True, True]
    assert [line.published for line in page.panels[0].lines] == [True, False, False, True, False, False]


def test_numbers_are_means_over_seeds_or_over_the_means_of_pretraining_runs(results, spec_file):
    page = page_of(made(spec_file))
    beta, delta = entries(page, "beta_2").entries[0], entries(page, "delta").entries[0]
    assert (beta.value, beta.spread, beta.delta) == ("31.0", "0.9", "+20.0")
    assert (delta.value, delta.spread) == ("18.0", f"{statistics.stdev([16.0, 20.0]):.1f}")
    notes = dict(page.notes)
    assert [notes[mark] for mark in delta.notes] == ["n = 2×2"] and "n = 3 unless noted" in page.caption


@pytest.mark.parametrize(
    ("runs", "n"),
    [
        (["demo-a-0123456789ab", "demo-a-ba9876543210", "demo-a-00112233aabb"], "n = 3×2"),
        (["demo-b-0123456789ab", "demo-a-ba9876543210", "demo-a-00112233aabb"], "n = 2"),
        (["", "demo-a-ba9876543210", "demo-a-00112233aabb"], "n = 2"),
        (["", "", ""], "n = 2"),
    ],
)
def test_the_first_run_of_a_row_that_was_pretrained_again_is_one_of_its_runs(results, spec_file, runs, n):
    """Not another checkpoint of that name: it is shown alone."""
    for run, label, sha in zip(runs, ("zeta", "zeta #1", "zeta #2"), "789", strict=True):
        save(label, "low-shot", [40.0, 42.0 + int(sha)], sha=sha, run=run)
    page = page_of(made(spec_file, ("alpha", "zeta")))
    cell = entries(page, "zeta").entries[0]
    assert [dict(page.notes)[mark] for mark in cell.notes] == [n]
    assert cell.value == ("45.0" if n == "n = 3×2" else "44.5")


def test_ranks_name_the_columns_that_have_no_number(results, spec_file):
    with pytest.raises(InputError, match="in all of 10-shot top-1, VOC AP50, and there are 1"):
        made_ranking(made(spec_file, ("alpha", "gamma")))
    with pytest.raises(InputError, match="no row has one in VOC AP50"):
        made_ranking(made(spec_file, ("gamma", "delta")), [1])


def test_only_a_difference_beyond_chance_has_a_star(results, spec_file):
    save("epsilon", "low-shot", [9.0, 11.5, 13.0], sha="f")
    page = page_of(made(spec_file, ("alpha", "beta_2", "epsilon")))
    assert [entries(page, name).entries[0].significant for name in ("beta_2", "epsilon", "Alpha")] == [
        True,
        False,
        False,
    ]


def test_a_missing_number_is_a_dash_with_its_reason(results, spec_file):
    page = page_of(made(spec_file))
    notes = dict(page.notes)
    gamma, delta = entries(page, "gamma").entries, entries(page, "delta").entries
    assert (gamma[1].text, notes[gamma[1].notes[0]]) == ("–", "failed: out of memory")
    assert (delta[2].text, notes[delta[2].notes[0]]) == ("–", "not run")
    assert notes[entries(page, "super.").entries[0].notes[0]] == "not in the source"


def test_published_numbers_are_those_of_the_file_with_their_source(results, spec_file):
    page = page_of(made(spec_file))
    line = entries(page, "MoCo v2")
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    own = table[(table["method"] == "MoCo v2") & (table["pretrain_epochs"] == "200") & (table["task"] == "voc0712_det")]
    own = own[own["source"].str.startswith("facebookresearch/moco") & (own["detector"] == "Faster R-CNN R50-C4")]
    values = dict(zip(own["metric"], own["value"], strict=True))
    assert [one.value for one in line.entries[1:]] == [values["AP50"], values["AP"]]
    assert line.entries[1].delta == f"{float(values['AP50']) - 81.3:+.1f}"
    assert own["source"].iloc[0] in dict(page.notes)[line.notes[0]]
    assert "same protocol" in dict(page.notes)[line.notes[0]]


def test_a_departure_of_our_runs_from_the_published_protocol_is_a_footnote(results, spec_file):
    for seed in range(2):
        save("zeta", "voc-c4-24k", [50.0] * (seed + 1), sha="9", num_gpus=2)
    page = page_of(made(spec_file, ("zeta",)))
    (note,) = [text for _, text in page.notes if "our runs depart" in text]
    assert note.endswith("2 GPUs")


def test_another_profile_has_no_published_row(results, spec_file):
    save("alpha", "low-shot", [10.0], profile="demo")
    page = page_of(made(spec_file, profile="demo"))
    assert not any(line.published for line in page.panels[0].lines) and "not comparable" in page.caption


def test_a_panel_without_any_run_is_left_out_and_named(results, spec_file):
    """Not one whose runs failed: its footnotes say why. Where nothing has run, all panels are there."""
    head, *columns = spec_file.read_text().split("[[columns]]")
    panels = ["(a) Classes", "(b) Boxes", "(b) Boxes"]
    columns = [f'\npanel = "{panel}"{column}' for panel, column in zip(panels, columns, strict=True)]
    spec_file.write_text("[[columns]]".join([head, *columns]))
    for profile in ("demo", "small"):
        save("alpha", "low-shot", [10.0], profile=profile)
    save("alpha", "voc-c4-24k", ["out of memory"], profile="small")
    page, failed, empty = (page_of(made(spec_file, profile=profile)) for profile in ("demo", "small", "smoke"))
    assert [panel.title for panel in page.panels] == ["(a) Classes"]
    assert page.caption.endswith("Panels without any run are left out: (b) Boxes.")
    for other in (failed, empty, page_of(made(spec_file))):
        assert [panel.title for panel in other.panels] == panels[:2] and "left out:" not in other.caption


def test_every_published_row_of_a_protocol_can_be_asked_for(results, spec_file):
    page = page_of(made(spec_file, published="same", rows=()))
    methods = {line.title for line in page.panels[0].lines if line.published}
    assert {"MoCo v1 (200 ep)", "MoCo v2 (800 ep)"} <= methods
    assert all("same protocol" in text for _, text in page.notes if text.startswith("published"))


def test_runs_of_other_settings_share_no_column(results, spec_file):
    save("alpha", "low-shot", [10.0], protocol_digest="e" * 64)
    with pytest.raises(
        InputError, match=r"columns\[0\] \(low-shot\): its runs differ in protocol digest .*: give protocol"
    ):
        made(spec_file)
    spec_file.write_text(spec_file.read_text().replace('metric = "top1"', 'metric = "top1"\nprotocol = "eeee"'))
    assert entries(page_of(made(spec_file)), "Alpha").entries[0].value == "10.0"


def test_one_name_of_two_checkpoints_asks_for_the_digest(results, spec_file):
    save("alpha", "low-shot", [90.0], sha="8")
    with pytest.raises(InputError, match=r"row alpha: several checkpoints .*88888888"):
        made(spec_file)
    text = spec_file.read_text().replace('label = "alpha"', 'label = "alpha"\ncheckpoint = "8888"')
    spec_file.write_text(text)
    assert entries(page_of(made(spec_file)), "Alpha").entries[0].value == "90.0"


def test_rows_that_are_not_listed_are_all_of_the_records(results, spec_file):
    text = spec_file.read_text().split("[[rows]]")[0].replace("delta_to", "# delta_to").replace("published_#", "#")
    spec_file.write_text(text)
    page = page_of(made(spec_file))
    assert [line.title for line in page.panels[0].lines] == ["alpha", "beta_2", "delta", "gamma"]
    with pytest.raises(InputError, match="--row omega: profile paper has no run of it, but of alpha"):
        made(spec_file, ("omega",))


def test_the_long_form_has_provenance_differences_and_reasons(results, spec_file):
    table = made(spec_file)
    (results / "t.csv").write_text(to_csv(table))
    frame = pd.read_csv(results / "t.csv", keep_default_na=False)
    beta = frame[(frame["checkpoint"] == "beta_2") & (frame["metric"] == "top1")].iloc[0]
    assert float(beta["delta"]) == 20.0 and float(beta["delta_low"]) < 20 < float(beta["delta_high"])
    assert len(beta["runs"].split()) == 3 and float(beta["delta_p_holm"]) >= float(beta["delta_p"])
    gamma = frame[(frame["checkpoint"] == "gamma") & (frame["metric"] == "bbox/AP")].iloc[0]
    assert (gamma["mean"], gamma["missing"]) == ("", "failed: out of memory")
    assert set(frame["kind"]) == {"own", "published"} and "moco" in frame["reference"].iloc[-1]


def test_marks_go_on_after_z():
    notes = Notes()
    marks = [notes.mark(str(number)) for number in range(30)]
    assert marks[:2] == ["a", "b"] and marks[25:28] == ["z", "aa", "ab"] and notes.mark("3") == "d"
