"""The flags of `python -m benchmarks …`: one dataclass a command. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

import tyro

Profile = Literal["smoke", "demo", "paper"]
Rerun = Literal["missing", "always", "never"]


def default_gpus() -> int:
    """GPUs that this process may use: CUDA_VISIBLE_DEVICES, else what the driver lists; no torch needed."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # CUDA ignores what follows the first invalid entry, such as -1
        items = (item.strip() for item in visible.split(","))
        return sum(1 for _ in takewhile(lambda item: item and not item.startswith("-"), items))
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def default_workers() -> int:
    """One worker on a GPU machine, else one a core."""
    if default_gpus():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteArguments:
    """Data, pretraining, conversion, every task, the table; done work is skipped."""

    profile: tyro.conf.Positional[Profile]
    checkpoint: tuple[str, ...] = ()
    """Your own checkpoints as further rows, each NAME=PATH or PATH."""
    workers: int = dataclasses.field(default_factory=default_workers)
    """Jobs side by side, one thread each."""
    num_gpus: int | None = None
    """GPUs a detection run uses, 0 for the CPU; default all of them for paper, at most one otherwise."""
    opts: tuple[str, ...] = ()
    """detectron2 options KEY VALUE …; they become part of the run's identity."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Checkpoints × tasks × seeds on one data root; prints the paths of the new records."""

    task: tuple[str, ...]
    """linear, few-label, knn, voc-det, coco-seg, coco-det (boxes alone, for data without masks)."""
    checkpoint: tuple[str, ...]
    """Checkpoint files, NAME=PATH or PATH."""
    data: Path
    """A data root made by `python -m benchmarks prepare`."""
    seed: tuple[int, ...] = (0,)
    """Seeds of the downstream runs."""
    profile: Profile = "paper"
    """Sizes and iterations: paper is the published protocol; demo and smoke fit a CPU."""
    protocol: tuple[str, ...] = ()
    """Protocols instead of each task's first one, for example voc_fpn_24k."""
    rerun: Rerun = "missing"
    """What to do about runs that a record exists for; failed ones count as missing."""
    workers: int = dataclasses.field(default_factory=default_workers)
    """Jobs side by side, one thread each."""
    num_gpus: int | None = None
    """GPUs a detection run uses, 0 for the CPU; default all of them for paper, at most one otherwise."""
    opts: tuple[str, ...] = ()
    """detectron2 options KEY VALUE …; they become part of the run's identity."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TablesArguments:
    """Collate the finished runs of a profile."""

    profile: tyro.conf.Positional[Profile]
    data: str | None = None
    """Only runs on this data set."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """File name of the tables; default PROFILE-all, with --data PROFILE-DATA."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowArguments:
    """Predictions of a detection run beside the truth: its best and worst test images, as a PNG."""

    record: tyro.conf.Positional[Path]
    """A run record, results/runs/<spec>/<attempt>.json."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """PNG to write; default beside the record."""
    count: int = 6
    """How many of the best and how many of the worst."""
