"""A checkpoint and a plan on a data root without images, for tests that run nothing."""

import json

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.plan import Column, Plan
from tests.benchmarks.doubles import IMAGENET_INPUT
from transfer.checkpoints.store import StoredBackbone


def add_layout(root, layout, **section):
    """Write another section into the root's data.json."""
    values = json.loads((root / "data.json").read_text())
    values[layout] = {"classes": ["a"], "counts": {}, "fingerprint": "f" * 64, **section}
    (root / "data.json").write_text(json.dumps(values))


def evaluated(root, **changes):
    label = changes.pop("label", "x")
    values = {"source": root, "detectron2": root, "sha256": "a" * 64, "input": IMAGENET_INPUT, "folder": root}
    values |= {"architecture": "resnet50", "family": "torchvision", "network": "", "identity": "b" * 16, "reason": ""}
    return EvaluatedCheckpoint(label=label, stored=StoredBackbone(**values | changes))


def plan_of(root, *tasks, seeds=(0,), **changes):
    data = DataRoot.load(root)
    columns = tuple(Column(task=task, root=data, seeds=seeds) for task in tasks)
    values = {"profile": "smoke", "num_gpus": 0, "resolved": {(task, data.path): ("d" * 64, "fp32") for task in tasks}}
    return Plan(columns=columns, **values | changes)
