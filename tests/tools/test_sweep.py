"""tools/sweep.py with stand-ins for the runs."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from pretrain.common.errors import InputError
from pretrain.presets import PRESETS
from tests.benchmarks.doubles import make_record, make_spec
from tools import sweep
from transfer.checkpoints.families import weights_digest


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    folder = tmp_path / "toy"
    (folder / "imagenet" / "train").mkdir(parents=True)
    section = {"fingerprint": "f" * 64, "classes": [], "counts": {}}
    about = {"name": "toy", "synthetic": True, "description": "", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(about))
    return folder


def test_the_grid_has_six_values_a_form_and_presets_of_both_profiles():
    assert all(len(sweep.GRID[form][1]) >= 6 for form in ("vmf", "bounded"))
    assert all(f"{profile}-{preset}" in PRESETS for profile in ("smoke", "demo") for preset, _ in sweep.GRID.values())


def test_commands(tmp_path):
    first, second, *_ = sweep.points(["bounded"])
    command = first.command("demo", tmp_path, 3, ["--steps", "5"])
    assert command[:5] == ["-m", "pretrain", "demo-superinfo-bounded", "--data", str(tmp_path)]
    assert command[5:] == ["--seed", "3", "--method.deterministic", "--steps", "5"]
    assert second.command("demo", tmp_path, 3, [])[7:] == ["--method.lambda-a", "0", "--method.lambda-b", "0"]


def test_the_table_puts_accuracy_beside_nats_and_says_what_collapsed(root, monkeypatch, capsys):
    def network(point):
        """Of each point its own, with a counter, which a record's digest leaves out."""
        weight = torch.full((1,), float(len(point.weight)))
        return {"bn1.weight": weight, "bn1.num_batches_tracked": torch.tensor(7)}

    def pretrained(point, arguments, name):
        assert name == "sweep-toy-smoke-seed0-vmf"
        if point.weight == "1":
            return dataclasses.replace(point, failure="collapsed: spread 0.05")
        folder = root.parent / point.label.replace(" ", "-")
        folder.mkdir()
        save_file(network(point), folder / "backbone.safetensors")
        (folder / "meta.json").write_text(json.dumps({"git": {"commit": "c" * 40, "dirty": True}}))
        terms = {"predictive": 1.5, "embedding_std": 0.9} if point.weight == sweep.DETERMINISTIC else {
            "predictive": 1.25, "superfluous12": 3.0, "superfluous21": 4.0, "excess12": 0.5, "excess21": 1.0,
            "embedding_std": 0.99, "snr": 2.0,
        }  # fmt: skip
        rows = [{"step": step, **(terms if step >= 18 else dict.fromkeys(terms, 100.0))} for step in range(20)]
        rows.append({"step": 19, "knn_top1": 30.0})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return dataclasses.replace(point, folder=folder)

    def evaluated(done, path, profile):
        for task, value in (("linear", 41.0), ("knn", 32.0)):
            sha256 = weights_digest(network(next(point for point in done if point.weight == sweep.DETERMINISTIC)))
            spec = make_spec(task=task, profile=profile, checkpoint_sha256=sha256)
            ResultsStore().save(make_record(spec, {"top1": value}))
        return 0

    monkeypatch.setattr(sweep, "pretrain", pretrained)
    monkeypatch.setattr(sweep, "evaluate", evaluated)
    assert sweep.main([str(root), "--profile", "smoke", "--form", "vmf"]) == 1
    lines = Path(capsys.readouterr().out.strip()).read_text().splitlines()
    assert "| vmf | deterministic | 41.0 | 32.0 | 1.50 | – | – | 0.90 | – |" in lines
    assert "| vmf | 0.1 | – | – | 1.25 | 3.50 | 0.75 | 0.99 | 2.00 |" in lines
    assert lines[-1].startswith("| vmf | 1 | collapsed: spread 0.05 |")
    assert all(line.count("|") == len(sweep.COLUMNS) + 1 for line in lines[4:])
    assert lines[2] == f"smoke, pretraining seed 0; one run a row; commit {'c' * 12}+changes."


def test_a_flag_that_no_run_takes_stops_the_sweep(root):
    point = sweep.points(["vmf"])[0]
    with pytest.raises(InputError, match="unknown preset nothing"):
        sweep.pretrain(point, ["-m", "pretrain", "nothing"], "sweep")
    assert DataRoot.load(root).name == "toy"
