"""Hours, memory and disk of paper runs before they start: `run --estimate` times them here, every start says a figure.

Each start of profile paper prints one line, from earlier runs, from the timings of `--estimate` on this machine, or
from the cost of the published protocol; it says which. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.budget import hours
from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.plan import Column, Plan
from benchmarks.records import RunSpec
from benchmarks.tasks import TASKS, by_group
from pretrain.common.files import read_mapping, results_dir, write_json

LINE = "before it starts"
PROFILE = "paper"
Left = tuple[EvaluatedCheckpoint, Column, RunSpec]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """One run of a detector as timed on ``device``: ``seconds`` of all its ``trainings`` and the test.

    ``memory_gib``: peak of a process, of its GPU or, on the CPU, of main memory. ``disk_gb``: checkpoints it keeps.
    """

    task: str
    data: str
    device: str
    processes: int
    iterations: int
    seconds_per_iteration: float
    seconds_per_test_image: float
    trainings: int
    seconds: float
    memory_gib: float
    disk_gb: float


def store() -> Path:
    """The file of all timings, by ``key``."""
    return results_dir() / "estimates.json"


def key(spec: RunSpec, architecture: str, num_gpus: int) -> str:
    """Equal for runs that take the same time on one machine."""
    return "-".join([spec.task, spec.protocol_digest[:12], spec.data_fingerprint[:12], architecture, str(num_gpus)])


def runs_left(plan: Plan, checkpoints: Sequence[EvaluatedCheckpoint]) -> list[Left]:
    """The runs of all checkpoints that are still to do."""
    return [(one, column, spec) for one in checkpoints for column, spec in plan.left(one)]


def estimate(plan: Plan, checkpoints: Sequence[EvaluatedCheckpoint], executor: Executor) -> str:
    """Time every detector that is left, once per data set and architecture; the table of all runs that are left."""
    left = runs_left(plan, checkpoints)
    kinds: dict[str, tuple[Path, RunSpec, DataRoot]] = {}
    for one, column, spec in left:
        if TASKS[spec.task].detects and one.detectron2 is not None:
            kinds.setdefault(key(spec, one.stored.architecture, plan.num_gpus), (one.detectron2, spec, column.root))
    found: dict[str, Timing] = {}

    def keep(name: str, value: list[dict[str, Any]]) -> list[Job]:
        found[name] = Timing(**value[0])
        return []

    for name, detector in kinds.items():
        job = Job(
            name=f"some iterations of {detector[1].task} on {detector[2].name} at full size",
            target="benchmarks.tasks.compute.timed:time_detectors",
            arguments={"detectors": [detector], "num_gpus": plan.num_gpus},
            then=lambda value, name=name: keep(name, value),  # type: ignore[misc]
            gpus=plan.num_gpus,
            kind="detector",
        )
        check_jobs([job], executor)
    if found:
        before = read_mapping(store()) or {}
        write_json(store(), before | {name: dataclasses.asdict(one) for name, one in found.items()})
    return table(plan, left, found)


COLUMNS = ("task", "data", "runs", "iterations", "s/iteration", "h/run", "hours", "memory", "disk GB", "from")


def table(plan: Plan, left: Sequence[Left], timings: Mapping[str, Timing]) -> str:
    """A row per task, data set and architecture; the totals below."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    total = gpu_hours = disk = 0.0
    for (name, about), number in _kinds(plan, left).items():
        task, timing = TASKS[about.task], timings.get(name)
        if timing:
            total += number * timing.seconds / 3600
            disk += number * timing.disk_gb
            rows.append(_timed_row(about, number, timing))
        elif seconds := plan.seconds.get(about.task):
            total += number * seconds / 3600
            rows.append(
                (about.task, about.data_name, f"{number}", "–", "–", *_each(seconds, number), "–", "–", "earlier runs")
            )
        elif task.cost:
            gpu_hours += number * task.cost.gpu_hours
            disk += number * task.cost.disk_gb
            cost = (
                f"{task.cost.gpu_hours:g} GPU",
                f"{number * task.cost.gpu_hours:g} GPU",
                "–",
                f"{task.cost.disk_gb:g}",
            )
            rows.append((about.task, about.data_name, f"{number}", "–", "–", *cost, "published cost"))
        else:
            rows.append((about.task, about.data_name, f"{number}", *["–"] * 6, "not estimated"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    ends = [f"{total:.1f} h, one run after the other"] if total else []
    ends += [f"{gpu_hours:g} GPU hours on the published hardware"] if gpu_hours else []
    return "\n".join([*lines, "", f"in all {' and '.join(ends) or '0 h'}; up to {disk:.1f} GB; {_free()}"])


def _timed_row(about: RunSpec, number: int, timing: Timing) -> tuple[str, ...]:
    kind = "RAM" if timing.device == "cpu" else "GPU"
    many = f" × {timing.trainings}" if timing.trainings > 1 else ""
    where = f"timed on {timing.processes} × {timing.device}"
    return (
        *(about.task, about.data_name, f"{number}", f"{timing.iterations:,}{many}"),
        *(f"{timing.seconds_per_iteration:.2f}", *_each(timing.seconds, number)),
        *(f"{timing.memory_gib:.1f} GiB {kind}", f"{timing.disk_gb:.1f}", where),
    )


def _each(seconds: float, number: int) -> tuple[str, str]:
    return f"{seconds / 3600:.1f}", f"{number * seconds / 3600:.1f}"


def _kinds(plan: Plan, left: Sequence[Left]) -> dict[tuple[str, RunSpec], int]:
    """How many runs are left by ``key``, with the first spec of each."""
    first: dict[str, RunSpec] = {}
    numbers: dict[str, int] = {}
    for one, _, spec in left:
        name = key(spec, one.stored.architecture, plan.num_gpus)
        first.setdefault(name, spec)
        numbers[name] = numbers.get(name, 0) + 1
    return {(name, first[name]): number for name, number in numbers.items()}


def say_forecast(plan: Plan, checkpoints: Sequence[EvaluatedCheckpoint]) -> None:
    """Print the line of a start of profile paper with runs to do; else nothing."""
    left = runs_left(plan, checkpoints) if plan.profile == PROFILE else []
    if left:
        print(forecast(plan, left, read_mapping(store()) or {}), file=sys.stderr)


def forecast(plan: Plan, left: Sequence[Left], timings: Mapping[str, Any]) -> str:
    """``before it starts: 3 runs; about 2.0 h by earlier runs (knn); 58 GPU h by published cost (voc-c4-24k); …``"""
    sums: dict[str, float] = {}
    names: dict[str, list[str]] = {}
    disk = 0.0
    for (name, about), number in _kinds(plan, left).items():
        source, amount = _source(plan, about, timings.get(name))
        sums[source] = sums.get(source, 0.0) + number * amount
        names.setdefault(source, []).append(about.task)
        cost = TASKS[about.task].cost
        disk += number * cost.disk_gb if cost else 0.0
    parts = [_part(source, total, by_group(names[source])) for source, total in sums.items()]
    advice = " · --estimate times detectors here first" if PUBLISHED in sums else ""
    return f"{LINE}: {len(left)} runs; {'; '.join(parts)}; up to {disk:.1f} GB of disk, {_free()}{advice}"


EARLIER, TIMED, PUBLISHED, UNKNOWN = "earlier runs", "--estimate here", "published cost", ""


def _source(plan: Plan, about: RunSpec, timing: Any) -> tuple[str, float]:
    """Which figure there is for a run, and the figure: seconds, or GPU hours of the published cost."""
    if seconds := plan.seconds.get(about.task):
        return EARLIER, seconds
    if isinstance(timing, dict) and isinstance(timing.get("seconds"), int | float):
        return TIMED, float(timing["seconds"])
    cost = TASKS[about.task].cost
    return (PUBLISHED, cost.gpu_hours) if cost else (UNKNOWN, 0.0)


def _part(source: str, total: float, names: list[str]) -> str:
    which = ", ".join(names) if len(names) <= 4 else f"{len(names)} tasks"
    if source == UNKNOWN:
        return f"not estimated: {which}"
    amount = f"{total:,.3g} GPU hours on the published hardware" if source == PUBLISHED else f"about {hours(total)}"
    return f"{amount} by {source} ({which})"


def _free() -> str:
    place = next(path for path in (results_dir(), *results_dir().absolute().parents) if path.exists())
    return f"{shutil.disk_usage(place).free / 1e9:.0f} GB are free"
