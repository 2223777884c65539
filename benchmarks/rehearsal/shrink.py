"""All that a rehearsal makes smaller than profile paper, in one place; the code path is that of a paper run.

Detectors are shrunk by ``--opts``, on the command line of the rehearsal. Other tasks have no such flag: the plugin
``benchmarks.rehearsal.plugin`` calls ``shrink_profile`` in every process of the rehearsal. On GPUs images keep their
published size, so that memory is that of a real run. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import os

from benchmarks import profiles
from benchmarks.profiles import Tuning, View
from benchmarks.tasks import few_shot, linear_sgd, many_shot

VARIABLE = "REHEARSAL_ON"
"""In the environment of a rehearsal's commands: cpu or gpu."""

KEPT_AT = 3  # the iteration of the first saved checkpoint
SHORTER: dict[str, str] = {
    "SOLVER.MAX_ITER": "4",
    "SOLVER.STEPS": "(2, 3)",
    "SOLVER.WARMUP_ITERS": "1",
    "SOLVER.CHECKPOINT_PERIOD": str(KEPT_AT),
    "TEST.PRECISE_BN.NUM_ITER": "2",
}
"""Of detectors, on every device."""
SMALLER: dict[str, str] = {
    "INPUT.MIN_SIZE_TRAIN": "(64, 72)",
    "INPUT.MIN_SIZE_TEST": "64",
    "INPUT.MAX_SIZE_TRAIN": "128",
    "INPUT.MAX_SIZE_TEST": "128",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "100",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "20",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "16",
    "TEST.DETECTIONS_PER_IMAGE": "10",
    "DATALOADER.NUM_WORKERS": "1",
}
"""Of detectors, on the CPU: 800 px and 1,000 proposals would take minutes for each image."""


def on_cpu() -> bool:
    """Whether the rehearsal runs on the CPU."""
    return os.environ.get(VARIABLE, "cpu") == "cpu"


def options(cpu: bool, iterations: int | None = None) -> list[str]:
    """The words after ``--opts``; ``iterations`` other than those of SHORTER, for a run that is to be killed."""
    chosen = SHORTER | (SMALLER if cpu else {}) | ({} if iterations is None else {"SOLVER.MAX_ITER": str(iterations)})
    return [word for pair in chosen.items() for word in pair]


def described(cpu: bool) -> list[str]:
    """Lines that say how a rehearsal is smaller than a run of profile paper."""
    sides = "; 48 px crops, 100 images for information in 2 dimensions" if cpu else ""
    keys = SHORTER | (SMALLER if cpu else {})
    return [
        "data: generated miniatures of a few images in the real layouts",
        f"detectors: {', '.join(f'{key} {value}' for key, value in keys.items())}",
        f"other tasks: 2 epochs of linear heads, 1 of fine-tuning, 2 decays, 5 few-shot episodes{sides}",
        *(["SyncBN is BN in one process and naiveSyncBN in two: torch's needs GPUs"] if cpu else []),
    ]


def shrink_profile() -> None:
    """Replace settings of profile paper in this process, for good."""
    paper = profiles.PROFILES["paper"]
    small = dataclasses.replace(
        paper,
        decays=(10.0, 1.0),  # large ones take few iterations
        tolerance=1e-1,
        tuning=Tuning(semi_epochs=1, full_epochs=1, batch=256, replicas=8, test_every=1),
    )
    if on_cpu():
        small = dataclasses.replace(
            small, view=View(resize=54, crop=48), information_images=100, information_dim=2, chunk=128
        )
    profiles.PROFILES["paper"] = small
    linear_sgd.SMALL["paper"] = (50, 1)  # divisors of epochs, and of batch and rate
    many_shot.GRID["paper"] = 3
    few_shot.EPISODES["paper"] = 5
