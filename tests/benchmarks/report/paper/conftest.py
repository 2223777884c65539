"""Records of profile paper."""

import dataclasses

import pytest

from benchmarks.records import ResultsStore
from tests.benchmarks.doubles import make_record, make_spec

STANDARD = {"low-shot": ("imagenet", 50_000), "voc-c4-24k": ("voc", 4952)}


def save(label, task, values, *, sha="a", run="", **changes):
    """A record per seed; a text in place of a value is a failure, None a run without its value.

    ``run``: folder of the pretraining run that made the checkpoint.
    """
    data, images = STANDARD[task]
    for seed, value in enumerate(values):
        gpus = 8 if task == "voc-c4-24k" else None
        fields = {"profile": "paper", "seed": seed, "checkpoint_sha256": sha * 64, "data_name": data, "num_gpus": gpus}
        spec = make_spec(task=task, **(fields | changes))
        failed = isinstance(value, str)
        metrics = {"bbox/AP": value, "bbox/AP50": value, "bbox/AP75": value} if gpus else {"top1": value}
        record = make_record(spec, {} if failed else metrics, label=label, error=value if failed else None)
        checkpoint = {"path": f"results/pretrain/{run}/backbone.safetensors"} if run else None
        ResultsStore().save(dataclasses.replace(record, test_images=images, checkpoint=checkpoint))


@pytest.fixture
def results(tmp_path, monkeypatch):
    """alpha and beta_2 with three seeds, gamma with one and a failed VOC run, and delta of two pretraining runs."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    save("alpha", "low-shot", [10.0, 11.0, 12.0], sha="a")
    save("beta_2", "low-shot", [30.0, 31.5, 31.5], sha="b")
    save("gamma", "low-shot", [20.0], sha="c")
    save("delta #0", "low-shot", [15.0, 17.0], sha="d")
    save("delta #1", "low-shot", [19.0, 21.0], sha="e")
    save("alpha", "voc-c4-24k", [50.0, 51.0, 52.0], sha="a")
    save("beta_2", "voc-c4-24k", [55.0, 56.0, 57.5], sha="b")
    save("gamma", "voc-c4-24k", ["out of memory"], sha="c")
    return tmp_path


SPEC = """
caption = "A caption."
delta_to = "alpha"
published_delta_to = "supervised (MSRA)"

[[columns]]
task = "low-shot"
metric = "top1"

[[columns]]
task = "voc-c4-24k"
metric = "bbox/AP50"
heading = "AP_{50}"
group = "VOC"

[[columns]]
task = "voc-c4-24k"
metric = "bbox/AP"
heading = "AP"
group = "VOC"

[[rows]]
method = "supervised (MSRA)"
source = "facebookresearch/moco"
title = "super."
group = "published"

[[rows]]
method = "MoCo v2"
epochs = "200"
source = "facebookresearch/moco"
group = "published"
beside = "beta_2"

[[rows]]
label = "alpha"
title = "Alpha"
group = "own"

[[rows]]
label = "beta_2"
group = "own"

[[rows]]
label = "gamma"
group = "own"

[[rows]]
label = "delta"
group = "several"
"""


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SPEC)
    return path
