"""Run one checkpoint × task × seed in a worker of `python -m benchmarks run` and write its record."""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.executors.process import one_line
from benchmarks.profiles import PROFILES
from benchmarks.records import ResultsStore, RunRecord, RunSpec, require_readable
from benchmarks.tasks import TASKS, Result, Setup
from pretrain.common.errors import RunError
from pretrain.common.files import results_dir
from pretrain.common.provenance import git_state, package_versions, utc_now

if TYPE_CHECKING:
    from benchmarks.tasks.compute.features import Features, FeatureView
    from transfer.checkpoints.backbone import Backbone
    from transfer.checkpoints.store import StoredBackbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """The input of a task's ``run``. ``folder`` is for logs and other files of the run."""

    spec: RunSpec
    root: DataRoot
    checkpoint: EvaluatedCheckpoint
    folder: Path
    num_gpus: int
    loader_workers: int

    def backbone(self) -> Backbone:
        """The checkpoint's tensors under torchvision's names."""
        return _backbone(self.checkpoint.stored)

    def features(self, view: FeatureView | None = None) -> dict[str, Features]:
        """Frozen features of the splits "train" and "val", extracted if absent; by default of the profile's view."""
        from benchmarks.tasks.compute.features import features

        return features(self.backbone(), self.root, self.spec.profile, self.loader_workers, view)


@functools.lru_cache(maxsize=1)
def _backbone(stored: StoredBackbone) -> Backbone:
    """Read and checked once for all the tasks of a job."""
    return stored.load()


def resolve_tasks(tasks: list[str], setup: Setup) -> dict[str, tuple[str, str]]:
    """(digest, precision) of each task's settings as they would run on this machine; imports torch and detectron2."""
    found = {name: TASKS[name].settings(setup) for name in tasks}
    return {name: (settings.digest, settings.precision) for name, settings in found.items()}


def resolve_each(columns: list[tuple[str, DataRoot]], setup: Setup) -> dict[tuple[str, Path], tuple[str, str]]:
    """``resolve_tasks`` of each task on its data, by task and the data's path."""
    return {
        (task, root.path): resolve_tasks([task], dataclasses.replace(setup, root=root))[task] for task, root in columns
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A record that ``execute`` wrote, and the reason if its run failed."""

    path: Path
    task: str
    seconds: float
    headline: str
    error: str | None


def execute(
    checkpoint: EvaluatedCheckpoint, root: Path, specs: list[RunSpec], num_gpus: int, log: Path, again: bool
) -> list[Saved]:
    """Run ``specs`` one after the other in this process; each leaves a record, ok or failed, which is returned.

    If another process is running a spec, wait for it and skip it if it succeeded (unless ``again``).
    """
    from pretrain.common.files import locked

    data, store, saved = DataRoot.load(root), ResultsStore(), []
    groups: dict[object, list[RunSpec]] = {}
    for spec in specs:
        together = TASKS[spec.task].together
        groups.setdefault((together, spec.seed) if together else spec, []).append(spec)
    for group in groups.values():
        with ExitStack() as locks:
            claims = [  # in one order: two processes never wait crosswise
                locks.enter_context(locked(store.path_for(spec), f"{checkpoint.label} {spec.task} seed {spec.seed}"))
                for spec in sorted(group, key=store.path_for)
            ]
            left = [spec for spec in group if again or not store.has(spec)]
            for spec in left if again else []:
                shutil.rmtree(store.working_folder(spec), ignore_errors=True)  # another attempt's: do not continue it
            for record in _attempts(checkpoint, data, left, num_gpus, log) if left else ():
                for claim in claims:
                    claim.require()
                saved.append(
                    Saved(
                        path=store.save(record),
                        task=record.spec.task,
                        seconds=record.wall_seconds,
                        headline=headline(record),
                        error=record.error,
                    )
                )
    return saved


def headline(record: RunRecord) -> str:
    """``linear top-1 38.2``, or the task with the reason of its failure."""
    metric = TASKS[record.spec.task].primary(record.metrics)
    value = record.metrics.get(metric.key)
    number = "undefined" if value is None else f"{value:.{metric.decimals}f}"
    return f"{record.spec.task}: {record.error}" if record.error else f"{record.spec.task} {metric.label} {number}"


def _attempts(
    checkpoint: EvaluatedCheckpoint, root: DataRoot, specs: Sequence[RunSpec], num_gpus: int, log: Path
) -> Iterator[RunRecord]:
    """The record of each of ``specs``, which share a pass if there are several, as soon as it is done."""
    begun, clock = utc_now(), time.monotonic()
    contexts = [
        Context(
            spec=spec,
            root=root,
            checkpoint=checkpoint,
            folder=ResultsStore().working_folder(spec),
            num_gpus=num_gpus,
            loader_workers=min(PROFILES[spec.profile].loader_workers, os.cpu_count() or 1),
        )
        for spec in specs
    ]
    for place, outcome in _outcomes(contexts):
        if isinstance(outcome, Result) and outcome.predictions:
            try:
                outcome.predictions.save(contexts[place].folder)
            except OSError as error:
                outcome = error
        seconds = time.monotonic() - clock
        about: dict[str, Any] = {"log": log, "seconds": seconds}
        if isinstance(outcome, Result):
            record = _record(specs[place], checkpoint, root, begun, result=outcome, **about)
            try:
                require_readable(record)
            except ValueError as error:
                outcome = RunError(f"its result cannot be kept: {error}")
        if isinstance(outcome, Exception):
            with suppress(OSError):  # the log's disk is full
                traceback.print_exception(outcome)
            record = _record(specs[place], checkpoint, root, begun, error=one_line(outcome), **about)
        yield record


def _outcomes(contexts: Sequence[Context]) -> Iterator[tuple[int, Result | Exception]]:
    """(place, result or error) of every context: an error that ends a shared pass is that of all runs left."""
    left = dict.fromkeys(range(len(contexts)))
    try:
        task = TASKS[contexts[0].spec.task]
        alone = ((place, task.run(context)) for place, context in enumerate(contexts))
        for place, outcome in task.together(contexts) if task.together else alone:
            left.pop(place)
            yield place, outcome
    except Exception as error:
        for place in left:
            yield place, error


def lost_record(
    spec: RunSpec, checkpoint: EvaluatedCheckpoint, root: DataRoot, begun: str, reason: str, log: Path
) -> RunRecord:
    """The record of a run whose process ended without leaving one."""
    return _record(spec, checkpoint, root, begun, error=reason, log=log)


def _record(
    spec: RunSpec,
    checkpoint: EvaluatedCheckpoint,
    root: DataRoot,
    begun: str,
    *,
    log: Path,
    result: Result | None = None,
    error: str | None = None,
    seconds: float = 0.0,
) -> RunRecord:
    return RunRecord(
        spec=spec,
        label=checkpoint.label,
        architecture=checkpoint.stored.architecture,
        checkpoint={
            "path": str(checkpoint.stored.source),
            "family": checkpoint.stored.family,
            "network": checkpoint.stored.network,
            "backbone": checkpoint.stored.identity,
        },
        status="failed" if error else "ok",
        error=error,
        metrics=result.metrics if result else {},
        test_images=result.test_images if result else None,
        data={"description": root.description, "synthetic": root.synthetic},
        config=result.config if result else {},
        environment=environment() | {"precision": result.precision if result else None},
        notes=result.notes if result else (),
        git=git_state(),
        start=begun,
        end=utc_now(),
        wall_seconds=round(seconds, 2),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        resumed_at=result.resumed_at if result else None,
        log=os.path.relpath(log, results_dir()),
        files=() if error else ResultsStore().working_files(spec),
    )


def environment() -> dict[str, Any]:
    """Versions, detectron2's origin and device of this process; fewer in the parent, which has no torch."""
    from transfer.detection.detectron2_version import detectron2_origin

    found: dict[str, Any] = {
        "versions": package_versions(
            "torch", "torchvision", "pycocotools", "fvcore", "numpy", "pandas", "scikit-learn"
        ),
        "detectron2": detectron2_origin(),
    }
    if torch := sys.modules.get("torch"):
        cuda = torch.cuda.is_available()
        found |= {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "cuda": torch.version.cuda if cuda else None,
            "threads": torch.get_num_threads(),
        }
    return found
