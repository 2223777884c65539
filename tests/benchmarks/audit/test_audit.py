"""Everything that can be tampered with behind a table is found and named; a table without a fault passes."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from benchmarks.audit.command import main
from benchmarks.predictions import FILE, Predictions, load_predictions
from benchmarks.records import ResultsStore, files_of
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.detection import detection_task
from pretrain.common.errors import InputError
from tests.benchmarks.audit.conftest import git, keep, write_csv
from tests.benchmarks.doubles import make_record, make_spec
from transfer.checkpoints.backbone import weights_digest


def run(evidence, capsys, *flags):
    """Status, the lines of problems, and the summary's."""
    status = main([str(evidence.table), *flags])
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(r"\d+ cells: ", line))
    return status, lines[:start], lines[start:-1]


def test_a_table_with_all_its_evidence_passes(evidence, capsys):
    status, problems, summary = run(evidence, capsys)
    assert (status, problems) == (0, [])
    assert summary[0] == "4 cells: 4 ok, 0 changed, 0 that cannot be checked in every part"
    assert "  predictions: 2 ok, 0 changed, 0 cannot be checked, 2 not checked" in summary  # top-5 is not in them
    for check in ("numbers", "records", "checkpoint", "data", "settings", "code"):
        assert f"  {check}: 4 ok, 0 changed, 0 cannot be checked" in summary
    report = (evidence.folder / "tables" / "audit-smoke.md").read_text()
    assert report.count("| ok ") == 4 * 7 - 2 and "## Problems" not in report


def edit_csv(evidence, change):
    frame = pd.read_csv(evidence.table, dtype=str, keep_default_na=False)
    change(frame)
    frame.to_csv(evidence.table, index=False)


def test_a_changed_number_in_a_record(evidence, capsys):
    evidence.edit("alpha", 1, lambda values: values["metrics"].update(top1=99.0))
    status, problems, _ = run(evidence, capsys)
    first, second = problems
    assert status == 1 and first.startswith("changed: alpha / linear / top1: numbers: mean ")
    assert "seed 1: 99" in first
    assert re.search(r"alpha / linear / top1: predictions: top1 of runs/\S+ is \S+, its record says 99$", second)


def test_a_record_and_its_table_changed_alike_differ_from_the_predictions(evidence, capsys):
    evidence.edit("alpha", 1, lambda values: values["metrics"].update(top1=99.0))
    write_csv(evidence.table)
    status, problems, _ = run(evidence, capsys)
    assert status == 1 and len(problems) == 1 and "its record says 99" in problems[0]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("mean", "99.5", "numbers: mean 99.5 in the table, "),
        ("std", "0.1", "numbers: std 0.1 in the table, "),
        ("n", "5", "numbers: n 5 in the table, 3 from its records"),
        ("checkpoint", "beta", "was recorded as alpha, and another checkpoint is beta"),
        ("column", "knn", "numbers: column knn shows runs of linear"),
        ("metric", "top1_k20", "numbers: metric top1_k20 is not in its records"),
        ("protocol_digest", "abc", "numbers: protocol_digest abc in the table, "),
        ("data_fingerprint", "abc", "numbers: data_fingerprint abc in the table, "),
        ("seeds", "0 1", "numbers: seeds 0 1 in the table, 0 1 2 in its records"),
        ("commit", "abc", "numbers: commit abc in the table, "),
        ("runs", "", "but no run is named"),
    ],
)
def test_a_changed_value_in_the_table(evidence, capsys, column, value, said):
    edit_csv(evidence, lambda frame: frame.__setitem__(column, [value, *frame[column][1:]]))
    status, problems, summary = run(evidence, capsys)
    assert status == 1 and problems[0].startswith("changed: ") and said in problems[0]
    assert summary[0].startswith("4 cells: 3 ok, 1 changed")


def test_a_seed_left_out_of_a_cell(evidence, capsys):
    edit_csv(evidence, lambda frame: frame.__setitem__("runs", [frame.runs[0][:25], *frame.runs[1:]]))
    status, problems, _ = run(evidence, capsys)
    assert status == 1 and "numbers: mean" in problems[0]


def test_seeds_that_a_table_leaves_out_are_noted(evidence, capsys):
    newest = ResultsStore().all_newest()
    write_csv(
        evidence.table, newest={spec: one for spec, one in newest.items() if (one.label, spec.seed) != ("beta", 1)}
    )
    status, problems, summary = run(evidence, capsys)
    assert status == 0 and summary[0].startswith("4 cells: 4 ok")
    assert problems == ["note: beta / linear / top1 and 1 other cells: finished runs that it leaves out: seed 1"]


def test_a_label_that_no_record_has_cannot_be_checked(evidence, capsys):
    edit_csv(evidence, lambda frame: frame.__setitem__("checkpoint", ["ours", *frame.checkpoint[1:]]))
    status, problems, _ = run(evidence, capsys)
    assert status == 0 and problems[0].startswith("cannot be checked: ours / linear / top1: numbers: run ")


def test_a_damaged_record_and_one_in_anothers_folder(evidence, capsys):
    evidence.records["alpha", 0].write_text("{}")
    strange = evidence.records["beta", 2]
    shutil.copy(strange, evidence.records["beta", 1].with_name(strange.name))
    status, problems, _ = run(evidence, capsys)
    assert status == 1
    assert any("records: runs/" in line and "is not a run record" in line and "alpha" in line for line in problems)
    assert any("not of its folder's" in line and "beta" in line for line in problems)


def test_records_that_are_gone(evidence, capsys):
    shutil.rmtree(evidence.records["alpha", 0].parent)
    status, problems, summary = run(evidence, capsys)
    assert status == 0 and summary[0].startswith("4 cells: 2 ok, 0 changed, 2 that cannot")
    assert "numbers: 1 of its 3 runs are not here" in problems[0] and "is gone" in problems[1]


def test_predictions_missing_replaced_or_damaged(evidence, capsys):
    folders = {key: files_of(path) for key, path in evidence.records.items()}
    (folders["alpha", 0] / FILE).unlink()
    status, problems, _ = run(evidence, capsys)
    assert status == 0 and problems[0].endswith(f"{FILE} is gone") and problems[0].startswith("cannot be checked")
    whole = load_predictions(folders["beta", 0])
    Predictions(target=whole.target, predicted=whole.target).save(folders["beta", 0])
    status, problems, _ = run(evidence, capsys)
    assert status == 1 and "is 100, its record says" in problems[0]
    Predictions(target=whole.target[:9], predicted=whole.predicted[:9]).save(folders["beta", 0])
    assert "has predictions of 9 images, not 40" in run(evidence, capsys)[1][0]
    (folders["beta", 0] / FILE).write_bytes(b"PK")
    assert "its predictions cannot be read" in run(evidence, capsys)[1][0]


def test_a_replaced_checkpoint(evidence, capsys):
    stored = evidence.folder / "backbones" / ("1" * 16) / "backbone.safetensors"
    save_file({"conv1.weight": torch.full((2, 3), 7.0)}, stored)
    status, problems, summary = run(evidence, capsys)
    assert status == 1 and "beta / linear / top1 and 1 other cells: checkpoint: backbones/1111" in problems[0]
    assert "  checkpoint: 2 ok, 2 changed, 0 cannot be checked" in summary
    quick = run(evidence, capsys, "--quick")
    assert quick[:2] == (0, []) and "  checkpoint: 0 ok, 0 changed, 0 cannot be checked, 4 not checked" in quick[2]
    stored.write_bytes(b"not tensors")
    assert "tensors that cannot be read" in run(evidence, capsys)[1][0]
    shutil.rmtree(stored.parent)
    status, problems, _ = run(evidence, capsys)
    assert status == 0 and "neither /gone/beta.pth nor its stored tensors are here" in problems[0]


def test_a_source_file_that_now_holds_other_tensors(evidence, capsys, tmp_path):
    source = tmp_path / "r18.pth"
    state = torchvision.models.resnet18().state_dict()
    sha256 = weights_digest({name: one for name, one in state.items() if not name.startswith("fc.")})
    spec = ResultsStore().load(evidence.records["alpha", 0]).spec
    path = keep("gamma", sha256, "", spec.data_fingerprint, git(evidence.code, "rev-parse", "HEAD"), 0, 0.7)
    values = json.loads(path.read_text())
    values["checkpoint"]["path"] = str(source)
    path.write_text(json.dumps(values))
    write_csv(evidence.table)
    torch.save(state, source)
    assert run(evidence, capsys)[:2] == (0, [])
    state["conv1.weight"][0, 0, 0, 0] += 1
    torch.save(state, source)
    status, problems, _ = run(evidence, capsys)
    assert status == 1 and f"{source} holds other tensors" in problems[0]
    source.write_text("<html>")
    assert f"{source} is no longer the checkpoint" in run(evidence, capsys)[1][0]


def test_changed_data(evidence, capsys, tmp_path):
    root = evidence.folder / "data" / "toy"
    image = root / "imagenet" / "val" / "cat" / "0.jpg"
    image.write_bytes(b"VAL cat")  # of the same size
    status, problems, _ = run(evidence, capsys)
    assert status == 1 and problems[0].endswith("are no longer those that it was prepared with")
    assert run(evidence, capsys, "--quick")[0] == 0
    about = json.loads((root / "data.json").read_text())
    about["imagenet"]["fingerprint"] = "e" * 64
    (root / "data.json").write_text(json.dumps(about))
    status, problems, _ = run(evidence, capsys, "--quick")
    assert status == 1 and "it was prepared again" in problems[0]
    root.rename(tmp_path / "elsewhere")
    status, problems, _ = run(evidence, capsys)
    assert status == 0 and "data set toy is not here: give its root with --data" in problems[0]


def test_data_elsewhere(evidence, capsys, tmp_path):
    (evidence.folder / "data" / "toy").rename(tmp_path / "elsewhere")
    assert run(evidence, capsys, "--data", str(tmp_path / "elsewhere"))[:2] == (0, [])


def test_an_edited_protocol(evidence, capsys, tmp_path, monkeypatch):
    original = TASKS["voc-fpn-24k"]
    edited = tmp_path / "voc_fpn_24k.yaml"
    text = original.protocol.read_text()
    for base in re.findall(r'"(base/[^"]+)"', text):
        text = text.replace(base, str(original.protocol.parent / base))
    edited.write_text(text)
    monkeypatch.setitem(TASKS, "voc-fpn-24k", detection_task(edited))
    settings = TASKS["voc-fpn-24k"].settings(Setup(profile="smoke"))
    spec = make_spec(task="voc-fpn-24k", protocol_digest=settings.digest, precision=settings.precision, num_gpus=0)
    metrics = {"bbox/AP": 1.0, "bbox/AP50": 2.0, "bbox/AP75": 1.0}
    record = make_record(spec, metrics, commit=git(evidence.code, "rev-parse", "HEAD"), config=settings.values)
    ResultsStore().save(record)
    write_csv(evidence.table)
    assert "  settings: 7 ok, 0 changed, 0 cannot be checked" in run(evidence, capsys)[2]
    edited.write_text(text + "MODEL:\n  RPN:\n    NMS_THRESH: 0.5\n")
    monkeypatch.setitem(TASKS, "voc-fpn-24k", detection_task(edited))
    status, problems, _ = run(evidence, capsys)
    assert status == 1
    assert "mine / VOC FPN / bbox/AP and 2 other cells: settings: voc-fpn-24k has other settings today" in problems[0]
    assert problems[0].endswith("MODEL.RPN.NMS_THRESH is 0.5, it was 0.7")
    monkeypatch.setitem(TASKS, "voc-fpn-24k", dataclasses.replace(original, version=original.version + 1))
    assert f"the run was v{original.version}" in run(evidence, capsys)[1][0]


def test_code_that_has_changed_or_is_unknown(evidence, capsys):
    (evidence.code / "README.md").write_text("2")
    assert run(evidence, capsys)[1] == []
    (evidence.code / "pretrain" / "loss.py").write_text("2")
    status, problems, _ = run(evidence, capsys)
    assert status == 0 and "code: 1 files that can move numbers differ from commit" in problems[0]
    assert problems[0].endswith("first pretrain/loss.py") and "and 3 other cells" in problems[0]
    evidence.edit("alpha", 0, lambda values: values.update(git={"commit": "c" * 40, "dirty": False}))
    evidence.edit("beta", 0, lambda values: values.update(git={"commit": "--output=x", "dirty": True}))
    write_csv(evidence.table)
    lines = run(evidence, capsys)[1]
    assert any("commit cccccccccccc is not in this repository" in line for line in lines)
    assert any("changes that were not committed are not known" in line for line in lines)
    evidence.edit("beta", 0, lambda values: values.update(git={"commit": "--output=x", "dirty": False}))
    write_csv(evidence.table)
    assert any("its commit is --output=x" in line for line in run(evidence, capsys)[1])


def test_published_rows_are_those_of_the_reference_file(evidence, capsys):
    def add(frame):
        frame["kind"] = "own"
        for value in ("59.5", "61.5"):
            frame.loc[len(frame)] = dict.fromkeys(frame.columns, "") | {
                "kind": "published",
                "checkpoint": "InstDis",
                "column": "linear",
                "metric": "top1",
                "mean": value,
            }

    edit_csv(evidence, add)
    status, problems, summary = run(evidence, capsys)
    assert status == 1 and "  numbers: 5 ok, 1 changed, 0 cannot be checked" in summary
    assert problems == ["changed: InstDis / linear / top1: numbers: no published number of InstDis is 61.5"]


def test_a_row_of_several_pretraining_runs(evidence, capsys):
    first = ResultsStore().load(evidence.records["alpha", 0])
    commit = first.git["commit"]
    for number in range(2):
        for seed in range(2):
            keep(f"ours #{number}", f"{number}" * 64, "", first.spec.data_fingerprint, commit, seed, 0.5 + number / 5)
    write_csv(evidence.table, {f"ours #{number}": "ours" for number in range(2)})
    frame = pd.read_csv(evidence.table).set_index(["checkpoint", "metric"])
    assert frame.loc[("ours", "top1"), "n"] == 2 and np.isfinite(frame.loc[("ours", "top1"), "std_within"])
    status, problems, summary = run(evidence, capsys)
    assert status == 0 and all("checkpoint:" in line for line in problems)
    assert "  numbers: 6 ok, 0 changed, 0 cannot be checked" in summary


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "has no column checkpoint"),
        ("checkpoint,column,metric,mean,std,n,runs\n", "has no row"),
        ("checkpoint,column,metric,mean,std,n,runs\na,b\n", "row 2 has fewer columns"),
        ("checkpoint,column,metric,mean,std,n,runs\na,b,c,1,,1,../../etc\n", "row 2 names the run ../../etc"),
        ("", "is no table"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        main([str(tmp_path / "x.csv")])
