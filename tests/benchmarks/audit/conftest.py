"""A results folder in which everything behind a table is there and as it was."""

import dataclasses
import functools
import json
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.audit import origins
from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore
from benchmarks.report.cells import collect, recorded
from benchmarks.report.tables import long_form
from benchmarks.tasks import TASKS, Setup
from pretrain.common.files import fingerprint
from tests.benchmarks.doubles import make_record, make_spec
from transfer.checkpoints.backbone import weights_digest

IMAGES = 40


def git(folder, *words):
    done = subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@functools.cache
def linear():
    settings = TASKS["linear"].settings(Setup(profile="smoke"))
    return {"protocol_digest": settings.digest, "precision": settings.precision}


def write_root(folder):
    """A generated set of four images; its fingerprint."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / "imagenet" / split / name).mkdir(parents=True)
            (folder / "imagenet" / split / name / "0.jpg").write_bytes(f"{split} {name}".encode())
    section = {"classes": ["cat", "dog"], "counts": {"train": 2, "val": 2}}
    section["fingerprint"] = fingerprint(folder / "imagenet", hash_images=True)
    about = {"name": folder.name, "synthetic": True, "description": "a toy", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(about))
    return section["fingerprint"]


def keep(label, sha256, backbone, print_, commit, seed, accuracy):
    """A finished run with predictions, at about ``accuracy``."""
    rng = np.random.default_rng([seed, len(label)])
    target = rng.integers(2, size=IMAGES)
    predicted = np.where(rng.random(IMAGES) < accuracy, target, 1 - target)
    predictions = Predictions(target=target, predicted=predicted)
    spec = make_spec(checkpoint_sha256=sha256, data_fingerprint=print_, seed=seed, **linear())
    metrics = {"top1": 100 * predictions.correct.mean(), "top5": None}
    record = make_record(spec, metrics, label=label, commit=commit)
    predictions.save(ResultsStore().working_folder(spec))
    checkpoint = {"path": f"/gone/{label}.pth", "family": "torchvision", "network": "", "backbone": backbone}
    record = dataclasses.replace(record, files=(FILE,), test_images=IMAGES, checkpoint=checkpoint)
    return ResultsStore().save(record)


def write_csv(path, groups=None, newest=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = collect(recorded("smoke", newest=newest), newest, groups)
    path.write_text(long_form(cells).to_csv(index=False))
    return path


@dataclasses.dataclass
class Evidence:
    folder: object
    table: object
    code: object
    records: dict

    def edit(self, label, seed, change):
        """Write another record in the place of one."""
        path = self.records[label, seed]
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))


@pytest.fixture
def evidence(tmp_path, monkeypatch):
    """Two checkpoints, three seeds each."""
    folder, code = tmp_path / "results", tmp_path / "code"
    monkeypatch.setenv("RESULTS_DIR", str(folder))
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr(origins, "CHECKOUT", code)
    (code / "pretrain").mkdir(parents=True)
    (code / "pretrain" / "loss.py").write_text("1")
    (code / "README.md").write_text("1")
    git(code, "init", "-q")
    git(code, "add", ".")
    git(code, "commit", "-qm", "x")
    commit, print_, records = git(code, "rev-parse", "HEAD"), write_root(folder / "data" / "toy"), {}
    for number, label in enumerate(("alpha", "beta")):
        state, backbone = {"conv1.weight": torch.full((2, 3), float(number))}, f"{number}" * 16
        (folder / "backbones" / backbone).mkdir(parents=True)
        save_file(state, folder / "backbones" / backbone / "backbone.safetensors")
        for seed in range(3):
            made = keep(label, weights_digest(state), backbone, print_, commit, seed, 0.9 - 0.3 * number)
            records[label, seed] = made
    return Evidence(folder, write_csv(folder / "tables" / "smoke.csv"), code, records)
