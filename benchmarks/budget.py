"""Say before a run of profile small which sizes and schedule its detectors take from the data, and how long they take.

Imports no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.plan import Plan
from benchmarks.records import RunSpec
from benchmarks.tasks import TASKS
from transfer.detection.profiles import FITTED

if TYPE_CHECKING:
    from benchmarks.tasks.compute.budget import Budget


def say_budget(plan: Plan, checkpoints: list[EvaluatedCheckpoint], executor: Executor, workers: int) -> None:
    """Print the budget of the detectors that are left to do, and keep their seconds in the plan; else do nothing."""
    left = [
        (one, column, spec)
        for one in checkpoints
        for column, spec in (plan.left(one) if plan.profile == FITTED else [])
        if TASKS[spec.task].detects
    ]
    if not left:
        return
    kinds: dict[object, tuple[Path, RunSpec, DataRoot]] = {}
    runs: dict[object, int] = {}
    for one, column, spec in left:
        assert one.detectron2 is not None  # or it has no detectors
        kind = (spec.task, column.root.path, one.stored.architecture)
        kinds.setdefault(kind, (one.detectron2, spec, column.root))
        runs[kind] = runs.get(kind, 0) + 1
    found: list[Budget] = []

    def keep(value: list[Budget]) -> list[Job]:
        found.extend(value)
        return []

    job = Job(
        name="a few iterations of each detector, for its hours",
        target="benchmarks.tasks.compute.budget:budgets",
        arguments={"detectors": list(kinds.values()), "num_gpus": plan.num_gpus},
        then=keep,
        gpus=plan.num_gpus,
        kind="detector",
    )
    check_jobs([job], executor, say_done=False)
    total = 0.0
    for budget, number in zip(found, runs.values(), strict=True):
        total += number * budget.seconds
        plan.seconds.setdefault(budget.task, budget.seconds)
        print(f"{budget.text}; {hours(budget.seconds)} per run, {number} to do", file=sys.stderr)
    at_once = min(workers, len(left))
    print(f"detectors: about {hours(total / at_once)} with {at_once} at a time", file=sys.stderr)


def hours(seconds: float) -> str:
    """``0.2 h``, or ``3 min`` below a tenth of an hour."""
    return f"{seconds / 3600:.1f} h" if seconds >= 360 else f"{max(1, round(seconds / 60))} min"
