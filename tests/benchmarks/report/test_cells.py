"""The cells of a table, from records."""

import dataclasses
import statistics

import pytest

from benchmarks.records import UNKNOWN, ResultsStore
from benchmarks.report.cells import collect, recorded
from benchmarks.report.tables import to_latex, to_markdown
from tests.benchmarks.doubles import IMAGENET_INPUT, make_record, make_spec
from tests.benchmarks.report.records import VALUES, rows_of, saved


def test_mean_std_and_n_against_the_standard_library(pairs):
    table = rows_of(to_markdown(collect(pairs), "smoke"))
    for label in ("alpha", "beta_2"):
        mean, std = statistics.mean(VALUES[label]), statistics.stdev(VALUES[label])
        assert table[label]["10-shot top-1"] == f"{mean:.1f} ± {std:.1f} (3)"
    assert table["gamma"]["10-shot top-1"] == "40.0 (1)"


def test_what_has_no_number_says_why(pairs):
    table = rows_of(to_markdown(collect(pairs), "smoke"))
    assert table["alpha"]["VOC C4 AP"] == "1.2 (1)"
    assert table["alpha"]["VOC C4 AP50"] == "undefined"
    assert table["beta_2"]["VOC C4 AP"] == "failed"
    assert table["gamma"]["VOC C4 AP"] == ""


def low_shot_runs(tmp_path, monkeypatch, values):
    """(label, spec) of saved runs, a checkpoint per label and a seed per value."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    expected = []
    for row, (label, seeds) in enumerate(values.items()):
        for seed, value in enumerate(seeds):
            spec = make_spec(task="low-shot", checkpoint_sha256=f"{row}" * 64, seed=seed)
            ResultsStore().save(make_record(spec, {"top1": value}, label=label))
            expected.append((label, spec))
    return expected


def test_recorded_takes_one_profile_and_data_set_only(pairs):
    ResultsStore().save(make_record(make_spec(profile="demo"), {"top1": 99.0}))
    ResultsStore().save(make_record(make_spec(data_name="else"), {"top1": 98.0}))
    ResultsStore().save(make_record(make_spec(task_version=0), {"top1": 97.0}))
    ResultsStore().save(make_record(make_spec(protocol_digest=UNKNOWN), {"top1": 96.0}))
    assert sorted(recorded("smoke", "toy"), key=str) == sorted(pairs, key=str)  # the failed one too
    assert recorded("paper") == []


def columns_of(tmp_path, monkeypatch, variants):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(**variant) for variant in variants]
    for value, spec in enumerate(specs):
        ResultsStore().save(make_record(spec, {"top1": float(value)}))
    row = rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))["mine"]
    return {heading: value for heading, value in row.items() if heading != "checkpoint"}


def test_what_must_not_share_a_cell_has_a_column_of_its_own(tmp_path, monkeypatch):
    variants = [
        {},
        {"data_fingerprint": "e" * 64},
        {"num_gpus": 8},
        {"overrides": ("A", "1")},
        {"precision": "bf16"},
        {"protocol_digest": "b" * 64},  # a YAML of the same name was edited
    ]
    columns = columns_of(tmp_path, monkeypatch, variants)
    assert sorted(columns.values()) == [f"{value}.0 (1)" for value in range(6)]
    for words in ("8 GPUs", "A 1", "bf16", "settings bbbbbb"):
        assert sum(words in heading for heading in columns) == 1
    assert all("toy" not in heading for heading in columns)  # one data set needs no naming


def test_with_two_data_sets_every_column_names_its_own(tmp_path, monkeypatch):
    variants = [{}, {"data_name": "other"}, {"task": "knn"}]
    columns = columns_of(tmp_path, monkeypatch, variants)
    assert columns == {"linear toy top-1": "0.0 (1)", "linear other top-1": "1.0 (1)", "kNN toy top-1": "2.0 (1)"}


def test_two_checkpoints_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(checkpoint_sha256=digit * 64) for digit in "ab"]
    for spec in specs:
        ResultsStore().save(make_record(spec, {"top1": 1.0}))
    assert set(rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))) == {
        "mine [aaaaaa]",
        "mine [bbbbbb]",
    }


def test_the_same_tensors_read_in_two_ways_are_two_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(), make_spec(input=dataclasses.replace(IMAGENET_INPUT, order="BGR", stride_in_1x1=True))]
    for spec in specs:
        ResultsStore().save(make_record(spec, {"top1": 1.0}))
    rows = rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))
    assert set(rows) == {
        "mine [RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225]",
        "mine [BGR, mean 0.485 0.456 0.406, std 0.229 0.224 0.225, stride in 1×1]",
    }


def test_names_that_look_alike_share_no_cell(results):
    labels = saved(
        ("mine", {"checkpoint_sha256": "a" * 64}, 1.0),
        ("mine", {"checkpoint_sha256": "b" * 64}, 2.0),
        ("mine [aaaaaa]", {"checkpoint_sha256": "c" * 64}, 3.0),
        ("two\nlines", {"checkpoint_sha256": "d" * 64}, 4.0),
        (r"two\nlines", {"checkpoint_sha256": "e" * 64}, 5.0),
    )
    assert [cell.mean for cell in collect(labels) if cell.metric.key == "top1"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len({cell.label for cell in collect(labels)}) == 5
    columns = saved(("x", {"overrides": ("A", "1 B 2")}, 6.0), ("x", {"overrides": ("A", "1", "B", "2")}, 7.0))
    assert len({cell.column for cell in collect(columns)}) == 2


def in_order(pairs):
    """Columns of one task that differ in settings or data are in no particular order."""
    return sorted(pairs, key=str)


def test_failed_columns_of_settings_or_data_that_are_replaced_go(results):
    old, new = {"protocol_digest": "b" * 64}, {}
    pairs = saved(("a", old, "no disk"), ("a", new, 1.0), ("a", {"data_fingerprint": "e" * 64, **old}, "no disk"))
    assert in_order(recorded("smoke")) == in_order([pairs[1], pairs[2]])  # the last one is the newest
    (later,) = saved(("a", {"seed": 1}, 2.0))
    assert in_order(recorded("smoke")) == in_order([pairs[1], pairs[2], later])
    again = saved(*[("a", {"seed": seed}, 2.0) for seed in range(2, 6)])
    assert recorded("smoke") == [pairs[1], later, *again]
    (kept,) = saved(("a", {"protocol_digest": "c" * 64}, 3.0))  # with numbers an older column stays
    assert kept in recorded("smoke") and pairs[0] not in recorded("smoke")


def test_a_group_shows_the_spread_between_its_runs_and_within_them(tmp_path, monkeypatch):
    expected = low_shot_runs(tmp_path, monkeypatch, {"a #0": [10.0, 14.0], "a #1": [20.0, 22.0], "b": [1.0, 2.0]})
    found = collect(expected, groups={"a #0": "a", "a #1": "a"})
    group, single = found
    assert (group.label, group.values, group.count) == ("a", [12.0, 21.0], "2×2")
    assert group.std == pytest.approx(statistics.stdev([12, 21]))
    within = ((statistics.variance([10, 14]) + statistics.variance([20, 22])) / 2) ** 0.5
    assert group.within == pytest.approx(within)
    assert group.text(" ± ", "-") == f"16.5 ± {group.std:.1f} / {within:.1f} (2×2)"
    assert single.text(" ± ", "-") == "1.5 ± 0.7 (2)" and single.count == "2"
    said = to_markdown(found, "smoke")
    assert "a: over n pretraining runs, each the mean of its downstream seeds (n×m: m seeds each; ± between" in said
    assert "; other rows have one pretraining run." in said
    assert dataclasses.replace(group, records=group.records[:3]).count == "2×1–2"
    assert dataclasses.replace(group, records=group.records[1:3]).text(" ± ", "-") == "17.0 ± 4.2 (2)"
    assert r"$\mathbf{16.5 \pm 6.4 / 2.2}$ (2$\times$2)" in to_latex(found, "smoke")
