"""The types of a downstream task: one self-describing value with the function that runs it. Imports no torch.

A task is one file in this folder that ends in ``TASK = Task(…)`` or ``TASKS = (Task(…), …)``, or in a module of a user
that calls ``benchmarks.tasks.register``; a detection task is a YAML (detection.py). See CONTRIBUTING.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pretrain.common.files import digest

if TYPE_CHECKING:
    from benchmarks.data.root import DataRoot
    from benchmarks.predictions import Predictions
    from benchmarks.run import Context

Kind = Literal["frozen", "finetune", "detection"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a task. ``key`` is the evaluator's flattened key; percent is 0 to 100.

    ``shown``: in the table itself; other metrics are only in its CSV. ``higher_is_better`` None: no cell is bold.
    """

    key: str
    label: str
    unit: str = "%"
    higher_is_better: bool | None = True
    decimals: int = 1
    shown: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """The rows of results/reference/published.csv to show beside a task.

    ``headings`` maps a column's heading to the file's (task, metric).
    """

    detector: str
    schedule: str
    headings: Mapping[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The inputs of a task's settings: profile, GPUs (0: the CPU), detectron2 options KEY VALUE …, the data.

    Detectors of profile small are fitted to the data; with ``root`` None such settings say so instead of a value.
    """

    profile: str
    num_gpus: int = 0
    opts: tuple[str, ...] = ()
    root: DataRoot | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The resolved settings that decide a task's numbers, without checkpoint, data and seed; and its arithmetic."""

    values: dict[str, Any]
    precision: str  # fp32, tf32, bf16 or fp16

    @property
    def digest(self) -> str:
        """Sha256 hex of the values' canonical JSON."""
        return digest(self.values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a task's ``run`` returns. Undefined metrics are None; ``notes`` are printed below the table.

    ``predictions`` of the test images are kept beside the record, so that later statistics need no further run.
    """

    metrics: dict[str, float | None]
    test_images: int
    config: dict[str, Any]
    precision: str
    resumed_at: int | None = None
    notes: tuple[str, ...] = ()
    predictions: Predictions | None = None


Together = Callable[[Sequence["Context"]], Iterator[tuple[int, Result | Exception]]]
"""Several runs in one pass over the same data: (place in the sequence, outcome) of each as soon as it is done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimated cost of one run of the published protocol on the data it was published on; ``how`` it is estimated."""

    gpu_hours: float
    disk_gb: float
    how: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A downstream task.

    ``kind``: on frozen features, by fine-tuning the network, or by training a detector around it. ``layout`` is the
    section of a data root that it reads, one of LAYOUTS (data/layouts.py). Raise ``version`` with any change that moves
    its numbers. A deterministic task runs once and prints n = 1. ``metrics[0]`` is the primary one. ``settings`` and
    ``run`` import torch themselves. ``check(root, profile)`` raises InputError for data that it cannot run on, before
    anything starts. ``protocol`` is a detection task's file. ``group`` is a name that stands for several tasks on the
    command line. Tasks of one ``together`` function run in one pass where checkpoint, data and seed are the same.
    ``fingerprint(root)`` replaces the layout's fingerprint as the data's identity. ``every_gpu``: one run uses all the
    GPUs it is given. ``data`` says which data the published protocol needs, for `list`; ``settings_table`` is its table
    in results/reference/protocols.toml, as linear.moco.
    ``own_runs``: only for checkpoints of this project's pretraining, others are refused when it runs.
    ``open_metrics`` makes the metric of a key, where the data decide which of the metrics, and which others, a run has.
    """

    name: str
    title: str
    kind: Kind
    layout: str
    version: int
    metrics: tuple[Metric, ...]
    deterministic: bool
    reference: str
    settings: Callable[[Setup], Settings]
    run: Callable[[Context], Result]
    published: Published | None = None
    check: Callable[[DataRoot, str], None] | None = None
    protocol: Path | None = None
    group: str = ""
    together: Together | None = None
    fingerprint: Callable[[DataRoot], str] | None = None
    every_gpu: bool = False
    own_runs: bool = False
    data: str = ""
    settings_table: str = ""
    cost: Cost | None = None
    open_metrics: Callable[[str], Metric] | None = None

    def data_fingerprint(self, root: DataRoot) -> str:
        """The identity of the data of ``root`` that this task reads."""
        return self.fingerprint(root) if self.fingerprint else root.section(self.layout)["fingerprint"]

    def primary(self, there: Iterable[str]) -> Metric:
        """The primary metric of a run that has the keys ``there``: where those are open, the first that it has."""
        keys = list(there)
        if not self.open_metrics or not keys or self.metrics[0].key in keys:
            return self.metrics[0]
        return next((one for one in self.metrics if one.key in keys), self.open_metrics(keys[0]))

    @property
    def detects(self) -> bool:
        """Whether it trains a detector: only then detectron2 options and several GPUs apply."""
        return self.kind == "detection"

    @property
    def needs_masks(self) -> bool:
        """Whether it also evaluates instance masks."""
        return any(metric.key.startswith("segm/") for metric in self.metrics)
