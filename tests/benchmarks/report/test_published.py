"""Published numbers beside ours."""

import csv
import hashlib

import pytest

from benchmarks.records import ResultsStore
from benchmarks.report import published
from benchmarks.report.published import FROZEN, REFERENCE, TRAINED, UNSTATED, VOCABULARY, setting, to_markdown
from benchmarks.report.tables import write_tables
from benchmarks.tasks import TASKS
from tests.benchmarks.doubles import make_record, make_spec

ROWS = list(csv.DictReader(REFERENCE.open(encoding="utf-8")))
COUNTERPARTS = {name: task.published for name, task in TASKS.items() if task.published}
MOCO = "facebookresearch/moco@"


def test_every_row_of_the_task_is_there_with_its_source():
    for name, counterpart in COUNTERPARTS.items():
        headings = {pair: heading for heading, pair in counterpart.headings.items()}
        wanted = [
            row
            for row in ROWS
            if (row["detector"], row["schedule"]) == (counterpart.detector, counterpart.schedule)
            and (row["task"], row["metric"]) in headings
        ]
        assert wanted, f"{name} matches nothing in {REFERENCE.name}"
        table = published.published(TASKS[name])
        for row in wanted:
            source = row["source"] + (" (second hand)" if row["second_hand"] == "yes" else "")
            found = table[
                (table["method"] == row["method"])
                & (table["epochs"] == row["pretrain_epochs"])
                & (table["source"] == source)
            ]
            heading = headings[(row["task"], row["metric"])]
            assert len(found) == 1 and row["value"] in found.iloc[0][heading].split(" / ")


def test_moco_v2_on_voc_as_its_readme_says():
    table = published.published(TASKS["voc-c4-24k"])
    row = table[(table["method"] == "MoCo v2") & (table["epochs"] == "200") & table["source"].str.contains("moco@")]
    assert row[["AP50", "AP", "AP75"]].to_numpy().tolist() == [["82.4", "57.0", "63.6"]]


def test_the_numbers_are_those_read_from_the_sources():
    """A change of a number needs its source, and the digest of the new ones here."""
    keys = ("method", "pretrain_epochs", "task", "detector", "schedule", "metric", "value", "second_hand", "source")
    lines = sorted("\t".join(row[key] for key in keys) for row in ROWS)
    assert len(lines) == len(set(lines)) == 548
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "0c53926194af886429bed0d54a48a297402cbf90d81564b24f264e52e7da1297"


@pytest.mark.parametrize("column", VOCABULARY)
def test_every_row_has_a_value_of_the_vocabulary_and_docs_explain_it(column):
    assert {row[column] for row in ROWS} <= set(VOCABULARY[column])
    explained = (REFERENCE.parents[2] / "docs" / "published.md").read_text(encoding="utf-8")
    for value in VOCABULARY[column]:
        assert f"`{value.split(' (')[0]}" in explained, value


def test_our_norms_are_read_from_the_protocols_and_are_in_the_vocabulary():
    ours = {name: setting(TASKS[name]).norm for name in COUNTERPARTS if TASKS[name].kind != "finetune"}
    tuned = {setting(task).norm for task in TASKS.values() if task.kind == "finetune"}
    assert tuned == {TRAINED} and TRAINED not in VOCABULARY["norm"]  # no row is the same
    frozen = {name: norm for name, norm in ours.items() if TASKS[name].kind == "frozen"}
    assert set(frozen.values()) == {FROZEN}
    assert {name: norm for name, norm in ours.items() if name not in frozen} == {
        "voc-c4-24k": "naiveSyncBN (backbone)",
        "voc-c4-24k-syncbn": "SyncBN (backbone)",
        "voc-fpn-144k-freeze4": "FrozenBN (backbone)",
        "coco-fpn-1x": "SyncBN (backbone, FPN)",
        "coco-fpn-2x": "SyncBN (backbone, FPN)",
        **{f"coco-fpn-4conv1fc-{long}": "SyncBN (backbone, FPN, heads)" for long in ("1x", "2x", "6x")},
        "coco-c4-1x": "naiveSyncBN (backbone)",
        "coco-c4-2x": "naiveSyncBN (backbone)",
        "coco-c4-2x-syncbn": "SyncBN (backbone)",
        "coco-keypoint-fpn-2x": "SyncBN (backbone, FPN)",
        **{f"coco-det-fpn-{percent}pct": "SyncBN (backbone, FPN)" for percent in (5, 10)},
        "cityscapes-fpn-24k": "SyncBN (backbone, FPN)",
    }
    assert set(ours.values()) <= set(VOCABULARY["norm"])


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_only_like_stands_under_the_same_protocol(name):
    rows = published.published(TASKS[name])
    same = rows[rows["differs in"] == ""]
    ours = setting(TASKS[name])
    assert set(same["norm"]) <= {ours.norm} and set(same["lr searched"]) <= {"no"}
    assert set(same["pretraining data"]) <= {"ImageNet-1k", "none"}
    for _, row in rows[rows["differs in"] != ""].iterrows():
        differs = row["differs in"].split(", ")
        assert ("norm" in differs) is (row["norm"] != ours.norm)
        assert ("lr searched" in differs) is (row["lr searched"] != "no")
        assert ("pretraining data" in differs) is (row["pretraining data"] in {"COCO", UNSTATED})


@pytest.mark.parametrize(
    ("name", "method", "epochs", "source", "differs"),
    [
        ("voc-c4-24k", "MoCo v2", "800", MOCO, ""),
        ("voc-c4-24k", "supervised (MSRA)", "", MOCO, ""),
        ("voc-c4-24k", "PixPro", "400", "zdaxie/PixPro", ""),
        ("voc-c4-24k", "SimSiam optimal", "200", "SimSiam paper", "norm, lr searched"),
        ("voc-c4-24k", "supervised (MSRA)", "", "SimSiam paper", "norm, lr searched"),
        ("voc-c4-24k", "supervised (torchvision)", "", "open-mmlab/mmselfsup@0b768363", "norm"),
        ("voc-c4-24k", "DenseCL (COCO pretrain)", "800", "WXinlong/DenseCL", "norm, pretraining data"),
        ("voc-c4-24k", "Barlow Twins", "1000", "Barlow Twins paper", "norm, lr searched"),
        ("voc-c4-24k", "MoCo v2", "800", "zdaxie/PixPro", "norm, lr searched, pretraining data"),
        ("coco-c4-1x", "InfoMin", "200", "HobbitLong/PyContrast", ""),
        ("coco-fpn-1x", "MoCo v1", "200", "MoCo paper", "norm"),
        ("knn", "SwAV", "100", "lightly-ai/lightly", ""),
    ],
)
def test_known_rows_stand_in_their_group(name, method, epochs, source, differs):
    rows = published.published(TASKS[name])
    row = rows[(rows["method"] == method) & (rows["epochs"] == epochs) & rows["source"].str.startswith(source)]
    assert row["differs in"].to_list() == [differs]


def test_the_groups_have_their_own_headings_and_show_what_differs():
    same, other = to_markdown({"voc-c4-24k": True}).split("\n### ")
    assert same.startswith("### Published under the same protocol as voc-c4-24k")
    assert "82.5" in same and "SimSiam" not in same and UNSTATED not in same
    assert other.startswith("Published, same detector and schedule as voc-c4-24k, but not known to be the same")
    assert "| differs in" in other and "SimSiam" in other
    assert "No published row is known to share them all." in to_markdown({"coco-fpn-1x": True})
    assert to_markdown({"knn": True}).count("###") == 1


def test_they_stand_below_a_table_only_where_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    spec = make_spec(task="voc-c4-24k", profile="paper", num_gpus=8)
    ResultsStore().save(make_record(spec, {"bbox/AP": 50.0}))
    for asked in (False, True):
        _, paths = write_tables([("mine", spec)], "paper", "t", with_published=asked)
        markdown = paths[0].read_text(encoding="utf-8")
        assert ("Published under the same protocol as voc-c4-24k" in markdown) is asked
    assert to_markdown({"linear": True}) == ""


def test_a_protocol_of_one_gpu_is_as_published_on_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    for number, same in ((1, True), (8, False)):
        spec = make_spec(task="voc-fpn-144k-freeze4", profile="paper", num_gpus=number)
        ResultsStore().save(make_record(spec, {"bbox/AP": 50.0}))
        _, paths = write_tables([("mine", spec)], "paper", "t", with_published=True)
        markdown = paths[0].read_text(encoding="utf-8")
        assert ("No published row is known to share them all." not in markdown) is same
        assert ("our GPUs, options or network" not in markdown) is same


@pytest.mark.parametrize("change", [{"num_gpus": 1}, {"num_gpus": 0}, {"overrides": ("SOLVER.BASE_LR", "0.1")}])
def test_beside_a_run_on_fewer_gpus_or_with_options_no_row_is_the_same(tmp_path, monkeypatch, change):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    spec = make_spec(**{"task": "voc-c4-24k", "profile": "paper", "num_gpus": 8, **change})
    ResultsStore().save(make_record(spec, {"bbox/AP": 50.0}))
    _, paths = write_tables([("mine", spec)], "paper", "t", with_published=True)
    markdown = paths[0].read_text(encoding="utf-8")
    assert "No published row is known to share them all." in markdown and "our GPUs, options or network" in markdown


def test_every_published_detector_is_a_resnet_50_and_no_row_is_the_same_beside_a_deeper_one(tmp_path, monkeypatch):
    detectors = {row["detector"] for row in ROWS if row["detector"].startswith(("Faster", "Mask", "Keypoint"))}
    assert all("R50" in name or "unstated" in name for name in detectors) and len(detectors) > 5
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    spec = make_spec(task="voc-c4-24k", profile="paper", num_gpus=8)
    for network, same in (("resnet50", True), ("resnet101", False)):
        ResultsStore().save(make_record(spec, {"bbox/AP": 50.0}, architecture=network))
        _, paths = write_tables([("mine", spec)], "paper", "t", with_published=True)
        markdown = paths[0].read_text(encoding="utf-8")
        assert ("our GPUs, options or network" not in markdown) is same
