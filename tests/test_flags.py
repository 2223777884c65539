"""The flags people type do not change by accident."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FLAGS = {
    # backbone and steps are in the example of --flags
    "benchmarks suite": (
        "backbone checkpoint data executor flags num-gpus opts preset pretrain-seeds profile search slurm steps workers"
    ),
    "benchmarks run": (
        "checkpoint data estimate executor num-gpus opts search profile rerun seed series slurm task workers"
    ),
    "benchmarks rehearsal": "checkpoint data task",
    "benchmarks tables": "check data delta-to name output profile ranks row theirs",
    "benchmarks audit": "data quick",
    "benchmarks export": "hub-dataset label logs model-index profile source-url task",
    "benchmarks import": "as",
    "benchmarks compare": "force profile sizes task",
    "benchmarks show": "class count output",
    "benchmarks status": "all",
    "benchmarks retry": "show",
    "benchmarks cancel": "",
    "benchmarks logs": "lines",
    "benchmarks sheet": "output",
    "benchmarks prepare emoji": "pretraining profile workers",
    "benchmarks prepare voc": "drop-unreadable name seed val-fraction",
    "benchmarks prepare coco": "annotations drop-unreadable images name seed val-annotations val-fraction val-images",
    "benchmarks prepare imagenet": "drop-unreadable factors labels-10percent labels-1percent name seed val-fraction",
    "benchmarks prepare cityscapes": "name",
    "benchmarks prepare lvis": "images name",
    "benchmarks prepare torchvision": "download name",
    "transfer convert": "channel-order drop family network output pixel-mean pixel-std prefix stride-in-1x1",
    "transfer verify": "detector",
    "transfer inspect": "",
    "transfer export": "channel-order drop family network output pixel-mean pixel-std prefix stride-in-1x1",
    "pretrain demo-superinfo": (
        "backbone batch-size bias-lr-ratio compile crop-backend data decay-bias-and-norm epochs fixed-lr-modules "
        "image-size keep learning-rate lr-drops lr-scaling method.bound method.deterministic method.dim "
        "method.hidden-dim method.kappa-b "
        "method.kappa-e method.lambda-a method.lambda-b method.lambda-warmup method.output-norm "
        "method.parameterisation method.sigma-max method.sigma-min momentum optimizer "
        "pair.crop-distance pair.frequency-split precision probe-every "
        "resume save-every save-seconds schedule "
        "seed steps views.blur views.brightness views.contrast views.crop-scale views.flip views.grayscale views.hue "
        "views.jitter views.rand-augment views.rand-color views.rand-magnitude views.saturation "
        "views.shuffle-jitter views.solarize warmup weight-decay workers zero-init-residual"
    ),
}


@pytest.mark.parametrize("command", FLAGS)
def test_flags(command):
    room, *words = command.split()
    done = subprocess.run(
        [sys.executable, "-m", room, *words, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    found = set(re.findall(r"--([a-z][a-z0-9.-]*[a-z0-9])", done.stdout)) - {"help"}
    found = {flag for flag in found if not re.search(r"(^|\.)no-", flag)}
    assert found == set(FLAGS[command].split())
