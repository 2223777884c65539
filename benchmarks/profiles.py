"""The four profiles and most settings that they change in the benchmarks, in one table. Imports no torch.

Other settings under the same names: detectron2's keys in transfer/detection/profiles.py, the pretraining presets
``smoke-…`` and ``demo-…`` in pretrain/presets.py, and beside their tasks the epochs and batches of SGD heads
(linear_sgd.SMALL), the decays of many-shot (GRID) and the episodes of few-shot (EPISODES).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

ProfileName = Literal["smoke", "demo", "small", "paper"]
HALF_DECADES = tuple(float(f"{10 ** (-step / 2):.3g}") for step in range(13))  # 1 … 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Evaluation crop: shorter side to ``resize`` px, then the central ``crop`` px square."""

    resize: int
    crop: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """Changes to the styles of fine-tuning (tasks/finetune.py), whose rates scale with the batch as ``batch``/256.

    ``semi_epochs`` on 1 % or 10 % of the labels, ``full_epochs`` on all; ``replicas`` share a batch. Tested every
    ``test_every`` epochs and after the last: otherwise a core would test for longer than it trains.
    """

    semi_epochs: int
    full_epochs: int
    batch: int
    replicas: int
    test_every: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """The settings of one profile. ``meaning`` completes "Profile smoke (…)" in a table's caption."""

    meaning: str
    view: View
    decays: tuple[float, ...]  # of linear evaluation, the largest first
    tolerance: float  # of its gradient
    neighbours: int  # k of kNN
    information_images: int  # drawn for the estimate of information
    information_dim: int  # of its z
    chunk: int  # images per forward pass of the frozen backbone under linear heads
    tuning: Tuning | None  # None: as the style was published
    loader_workers: int  # at most, per job
    every_gpu: bool  # whether a detector uses all GPUs by default; small batches do not divide


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        meaning="it proves that the pipeline works; its numbers mean nothing",
        view=View(resize=48, crop=48),
        decays=(1e-1, 1e-2, 1e-3),
        tolerance=1e-3,
        neighbours=20,  # its classes have 20 images
        information_images=200,
        information_dim=4,
        chunk=64,
        tuning=Tuning(semi_epochs=5, full_epochs=2, batch=16, replicas=2, test_every=3),
        loader_workers=0,
        every_gpu=False,
    ),
    "demo": Profile(
        meaning="small and quick; not comparable with published numbers",
        view=View(resize=64, crop=64),
        decays=HALF_DECADES,
        tolerance=1e-5,
        neighbours=20,
        information_images=1000,
        information_dim=16,
        chunk=64,
        tuning=Tuning(semi_epochs=20, full_epochs=3, batch=32, replicas=2, test_every=5),
        loader_workers=0,
        every_gpu=False,
    ),
    "small": Profile(
        meaning="one's own photographs on one GPU or a CPU; not comparable with published numbers",
        view=View(resize=183, crop=160),  # as 256 to 224
        decays=HALF_DECADES,
        tolerance=1e-5,
        neighbours=20,
        information_images=1000,
        information_dim=8,  # so that 256 test images suffice
        chunk=64,
        tuning=Tuning(semi_epochs=20, full_epochs=10, batch=32, replicas=2, test_every=5),
        loader_workers=2,
        every_gpu=False,
    ),
    "paper": Profile(
        meaning="the protocols as published",
        view=View(resize=256, crop=224),
        decays=HALF_DECADES,
        tolerance=1e-5,
        neighbours=200,  # as lightly's ResNet-50 benchmark
        information_images=1000,
        information_dim=16,
        chunk=256,
        tuning=None,
        loader_workers=8,
        every_gpu=True,
    ),
}
