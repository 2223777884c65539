"""A tiny data root of images and a random ResNet-18, for tests that run a task on frozen features end to end."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from benchmarks import plan
from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.prepare import main
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.run import execute, resolve_tasks
from benchmarks.tasks import TASKS, Setup
from transfer.checkpoints.store import import_checkpoint


def pictures(folder, grey, count, seed=0, suffix=".png"):
    """``count`` different images of about one grey, which tells the class."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng([seed, number, grey]).integers(grey - 20, grey + 20, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}{suffix}")


def image_root(tmp_path, monkeypatch, greys, train=20, val=5):
    """A prepared user ImageFolder of the classes ``greys``, whose features tell them apart; RESULTS_DIR is set."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    for name, grey in greys.items():
        pictures(tmp_path / "source" / "train" / name, grey, train)
        pictures(tmp_path / "source" / "val" / name, grey, val, seed=1)
    assert main(["imagenet", str(tmp_path / "source"), "--name", "greys"]) == 0
    return DataRoot.load(tmp_path / "data" / "greys")


def checkpoint(folder, architecture="resnet18"):
    """A ResNet with random weights, imported as a command does it."""
    torch.manual_seed(0)
    path = Path(folder) / "random.pth"
    torch.save(torchvision.models.get_model(architecture, weights=None).state_dict(), path)
    return EvaluatedCheckpoint(label="random", stored=import_checkpoint(path))


def spec_of(root, evaluated, task, seed=0, profile="smoke"):
    resolved = resolve_tasks([task], Setup(profile=profile))[task]
    return plan.spec_of(TASKS[task], resolved, root, evaluated, profile, seed)


def executed(root, *tasks, seed=0, profile="smoke", architecture="resnet18"):
    """{task: its record} of runs of a random network; the first failure is raised."""
    folder = root.path.parent
    evaluated = checkpoint(folder, architecture)
    specs = [spec_of(root, evaluated, task, seed, profile) for task in tasks]
    saved = execute(evaluated, root.path, specs, 0, folder / "log.txt", False)
    assert [one.error for one in saved] == [None] * len(tasks)
    return {task: ResultsStore().load(one.path) for task, one in zip(tasks, saved, strict=True)}
