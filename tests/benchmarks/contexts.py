"""Contexts of tasks on a tiny data root of generated photographs, for tests that run tasks without the command."""

import json

import numpy as np
from PIL import Image

from benchmarks import run
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from tests.benchmarks.tasks.small import spec_of


def tiny_root(folder, *, classes=6, train=12, val=5, size=40):
    """Classes of a colour each under noise: learnable, but not at once."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(60, 200, (classes, 3))
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            place = folder / "imagenet" / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = colours[label] + rng.normal(0, 40, (size, size + number % 3, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:02d}.png")
    counts = {"train": classes * train, "val": classes * val}
    section = {"classes": [f"class{label}" for label in range(classes)], "counts": counts, "fingerprint": "f" * 64}
    about = {"name": folder.name, "synthetic": True, "description": "a toy", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(about))
    return DataRoot.load(folder)


def context_of(root, checkpoint, task, *, seed=0, profile="smoke", processes=0):
    """What a job hands to ``task``; its folder is the run's own."""
    spec = spec_of(root, checkpoint, task, seed, profile)
    folder = ResultsStore().working_folder(spec)
    return run.Context(spec=spec, root=root, checkpoint=checkpoint, folder=folder, num_gpus=processes, loader_workers=0)
