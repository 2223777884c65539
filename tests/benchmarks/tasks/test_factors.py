"""The tasks factors and factors-image, end to end on a tiny set with a random network, and their columns."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from benchmarks.__main__ import main
from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.report.cells import collect
from benchmarks.report.marks import Marks, marks_of
from benchmarks.run import execute, headline
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.factors import IMAGE, KNOWN
from pretrain.checkpoint import save_checkpoint
from pretrain.common.errors import InputError
from pretrain.methods import Sizes
from pretrain.methods.simclr import SimCLR, SimCLRConfig
from tests.benchmarks.tasks.small import executed, spec_of
from transfer.checkpoints.store import import_checkpoint


@pytest.fixture
def grey_root(tmp_path, monkeypatch, capsys):
    """Plain pictures of random greys, a CSV that says the grey and a number that the picture does not hold."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    rng, rows = np.random.default_rng(0), []
    for split, count in (("train", 40), ("val", 20)):
        for name in ("a", "b"):
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                grey = int(rng.integers(20, 230))
                Image.new("RGB", (48, 48), (grey, grey, grey)).save(folder / f"{number:03d}.png")
                rows.append([f"{split}/{name}/{number:03d}.png", grey, rng.normal(), "one value"])
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "grey", "x", "constant"], *rows])
    assert main(["prepare", "imagenet", str(tmp_path / "source"), "--factors", str(tmp_path / "list.csv")]) == 0
    return DataRoot.load(capsys.readouterr().out.strip())


def test_both_tasks_find_what_the_images_hold(grey_root):
    records = executed(grey_root, "factors", "factors-image")
    given, computed = records["factors"], records["factors-image"]
    assert set(given.metrics) == {"grey", "x"} and given.metrics["grey"] > 95 and given.metrics["x"] < 30
    score = given.config["factors"]["grey"]
    assert score["low"] <= score["value"] <= score["high"] and 100 * score["value"] == given.metrics["grey"]
    assert score["images"] == 40 and score["shuffled"] < 0.1
    assert set(computed.metrics) == set(IMAGE) and computed.test_images == 40
    assert computed.metrics["brightness"] > 90 and computed.metrics["position"] < 20  # a plain picture has no places
    # The user's factors are columns of their own; those of the embedded set that the data lack are none.
    cells = collect([(one.label, one.spec) for one in records.values()])
    labels = {cell.metric.label for cell in cells if cell.records[0].spec.task == "factors"}
    assert labels == {"grey", "x"} and marks_of(cells) == Marks()
    assert headline(given).startswith("factors grey ") and headline(computed).startswith("factors-image position ")


def test_settings_and_metrics():
    for name in ("factors", "factors-image"):
        digests = {TASKS[name].settings(Setup(profile=one)).digest for one in ("smoke", "demo", "paper")}
        assert len(digests) == 3 and not any(metric.higher_is_better for metric in TASKS[name].metrics)
    shown = [metric.key for metric in TASKS["factors"].metrics if metric.shown]
    assert shown == list(KNOWN)


def test_a_root_whose_factors_have_one_value(grey_root, tmp_path, capsys):
    text = (tmp_path / "list.csv").read_text().splitlines()
    kept = ["image,constant", *(f"{line.split(',')[0]},1" for line in text[1:])]
    (tmp_path / "list.csv").write_text("\n".join(kept))
    assert main(["prepare", "imagenet", str(tmp_path / "source"), "--factors", str(tmp_path / "list.csv")]) == 0
    root = DataRoot.load(capsys.readouterr().out.strip())
    with pytest.raises(InputError, match="have one value each: give a column that varies"):
        TASKS["factors"].check(root, "smoke")


def test_the_embedding_of_our_own_runs_is_probed_too(grey_root, tmp_path):
    torch.manual_seed(0)
    config = SimCLRConfig(dim=8, hidden_dim=16)
    method = SimCLR(config, nn.Identity(), Sizes(feature_dim=512, num_classes=0, num_images=2))
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    folder = tmp_path / "run"
    folder.mkdir()
    about = {"epoch": 1.0, "images_seen": 2, "dataset": {}, "git": None, "versions": {}, "created": "now"}
    raw = {"raw": {"method": dataclasses.asdict(config)}, "resolved": {}}
    save_checkpoint(
        folder, network.state_dict(), method.head.state_dict(),
        architecture="resnet18", method="simclr", config=raw, **about,
    )  # fmt: skip
    one = EvaluatedCheckpoint(label="ours", stored=import_checkpoint(folder))
    saved = execute(one, grey_root.path, [spec_of(grey_root, one, "factors")], 0, tmp_path / "log.txt", False)
    record = ResultsStore().load(saved[0].path)
    assert set(record.metrics) == {"grey", "x", "z grey", "z x"}
    cells = collect([(record.label, record.spec)])
    assert {cell.metric.label: cell.metric.shown for cell in cells} == {
        "grey": True, "x": True, "z grey": False, "z x": False,
    }  # fmt: skip
    assert record.metrics["grey"] > 95 and record.metrics["z grey"] > 50 and record.metrics["z x"] < 30
