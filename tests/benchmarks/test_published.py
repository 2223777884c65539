"""Published numbers beside ours: python -m pytest tests/benchmarks/test_published.py"""

import csv

from benchmarks import published
from benchmarks.published import REFERENCE, SAME, to_markdown
from benchmarks.records import ResultsStore
from benchmarks.tables import write_tables
from tests.benchmarks.doubles import make_record, make_spec


def test_every_row_of_the_protocol_is_there_with_its_source():
    rows = list(csv.DictReader(REFERENCE.open(encoding="utf-8")))
    for protocol, (detector, schedule, metrics) in SAME.items():
        wanted = [
            row
            for row in rows
            if (row["detector"], row["schedule"]) == (detector, schedule) and (row["task"], row["metric"]) in metrics
        ]
        assert wanted, f"{protocol} matches nothing in {REFERENCE.name}"
        table = published.published(protocol)
        for row in wanted:
            source = row["source"] + (" (second hand)" if row["second_hand"] == "yes" else "")
            found = table[
                (table["method"] == row["method"])
                & (table["epochs"] == row["pretrain_epochs"])
                & (table["source"] == source)
            ]
            heading = metrics[(row["task"], row["metric"])]
            assert len(found) == 1 and row["value"] in found.iloc[0][heading].split(" / ")


def test_moco_v2_on_voc_as_its_readme_says():
    table = published.published("voc_c4_24k")
    row = table[(table["method"] == "MoCo v2") & (table["epochs"] == "200") & table["source"].str.contains("moco@")]
    assert row[["AP50", "AP", "AP75"]].to_numpy().tolist() == [["82.4", "57.0", "63.6"]]


def test_they_stand_below_a_table_only_where_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    spec = make_spec(task="voc-det", protocol="voc_c4_24k", profile="paper")
    ResultsStore().save(make_record(spec, {"bbox/AP": 50.0}))
    for asked in (False, True):
        markdown, _ = write_tables([("mine", spec)], "paper", "t", with_published=asked)
        assert ("Published under voc_c4_24k" in markdown) is asked
    assert to_markdown(["lbfgs"]) == ""
