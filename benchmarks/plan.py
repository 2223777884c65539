"""The runs still to do for each checkpoint: columns (task × data × seeds) minus finished ones. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.records import ResultsStore, RunSpec
from benchmarks.run import Saved, lost_record
from benchmarks.tasks import TASKS, Setup, Task, by_group
from pretrain.common.errors import InputError
from pretrain.common.files import digest
from pretrain.common.plugins import VARIABLE
from pretrain.common.provenance import git_state, package_versions, utc_now

MOST_NAMED = 3  # tasks of a group in a job's line, before they are counted
KIND = {"frozen": "frozen", "finetune": "finetune", "detection": "detector"}
"""Kind of task → kind of job."""
RECENT = 200  # newest records that expected seconds are taken from: reading ten thousand takes seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table: a task on a data root with the seeds it takes."""

    task: str
    root: DataRoot
    seeds: tuple[int, ...]


def spec_of(
    task: Task, resolved: tuple[str, str], root: DataRoot, checkpoint: EvaluatedCheckpoint, profile: str, seed: int
) -> RunSpec:
    """The identity of a run of ``task`` whose settings are ``resolved``: digest and precision."""
    protocol, precision = resolved
    return RunSpec(
        task=task.name,
        task_version=task.version,
        protocol_digest=protocol,
        precision=precision,
        data_name=root.name,
        data_fingerprint=task.data_fingerprint(root),
        checkpoint_sha256=checkpoint.sha256,
        input=checkpoint.input,
        seed=seed,
        profile=profile,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Columns under a profile.

    ``rerun``: missing (failed ones too), always (a new attempt) or never. ``opts`` are detectron2 options KEY VALUE …:
    part of the identity of detection runs, and only of those. ``resolved`` is filled by ``resolve_columns``: digest and
    precision by task and data path. ``seconds``: expected seconds by task, from earlier records and this command's.
    """

    profile: str
    columns: tuple[Column, ...]
    num_gpus: int
    rerun: str = "missing"
    opts: tuple[str, ...] = ()
    resolved: Mapping[tuple[str, Path], tuple[str, str]] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def specs(self, checkpoint: EvaluatedCheckpoint) -> list[RunSpec]:
        """The specs of one checkpoint's row; a deterministic task has one, of seed 0.

        Without detectors if the checkpoint was not converted.
        """
        return [spec for _, spec in self._specs(checkpoint)]

    def _specs(self, checkpoint: EvaluatedCheckpoint) -> list[tuple[Column, RunSpec]]:
        return [
            (column, self._spec(checkpoint, column, seed))
            for column in self.columns
            if checkpoint.detectron2 or not TASKS[column.task].detects
            for seed in ((0,) if TASKS[column.task].deterministic else column.seeds)
        ]

    def left(self, checkpoint: EvaluatedCheckpoint) -> list[tuple[Column, RunSpec]]:
        """The row's runs that are still to do."""
        store = ResultsStore()
        specs = [] if self.rerun == "never" else self._specs(checkpoint)
        return [(column, spec) for column, spec in specs if self.rerun == "always" or not store.has(spec)]

    def _spec(self, checkpoint: EvaluatedCheckpoint, column: Column, seed: int) -> RunSpec:
        task = TASKS[column.task]
        resolved = self.resolved[column.task, column.root.path]
        spec = spec_of(task, resolved, column.root, checkpoint, self.profile, seed)
        return dataclasses.replace(spec, overrides=self.opts, num_gpus=self.num_gpus) if task.detects else spec

    def kinds(self) -> list[str]:
        """The kinds of its jobs on checkpoints."""
        return list(dict.fromkeys(KIND[TASKS[column.task].kind] for column in self.columns))

    def jobs_per_row(self) -> int:
        """How many jobs a row without any finished run has."""
        return len({_sharing(column, seed) for column in self.columns for seed in column.seeds})

    def jobs(self, checkpoint: EvaluatedCheckpoint, saved: list[Path]) -> list[Job]:
        """The row's remaining jobs: tasks that share features or a pass share one.

        The paths of new records are appended to ``saved``.
        """
        groups: dict[object, list[tuple[Column, RunSpec]]] = {}
        for column, spec in self.left(checkpoint):
            groups.setdefault(_sharing(column, spec.seed), []).append((column, spec))
        return [
            self._job(checkpoint, group[0][0].root, [spec for _, spec in group], saved) for group in groups.values()
        ]

    def _job(self, checkpoint: EvaluatedCheckpoint, root: DataRoot, specs: list[RunSpec], saved: list[Path]) -> Job:
        first, store, begun = specs[0], ResultsStore(), utc_now()
        log, before = store.path_for(first) / "log.txt", {spec: set(store.paths(spec)) for spec in specs}
        tasks = _named(spec.task for spec in specs)
        task = TASKS[first.task]

        def failure(value: list[Saved]) -> str:
            errors = [one for one in value if one.error]
            return (errors[0].headline if len(specs) > 1 else errors[0].error or "") if errors else ""

        def then(value: list[Saved]) -> list[Job]:
            saved.extend(one.path for one in value if one.path not in saved)
            self.seconds.update({one.task: one.seconds for one in value if not one.error})
            return []

        def crashed(reason: str) -> None:
            """Write a failure record for each run whose process was killed before it left one."""
            for spec in specs:
                if new := [path for path in store.paths(spec) if path not in before[spec]]:
                    saved.extend(path for path in new if path not in saved)
                    continue
                try:
                    saved.append(store.save(lost_record(spec, checkpoint, root, begun, reason, log)))
                except OSError as error:  # a full disk: the run counts as missing
                    print(f"warning: no record of a failed {spec.task}: {error.strerror}", file=sys.stderr)

        where = f" on {root.name}" if len({column.root.path for column in self.columns}) > 1 else ""
        seed = f" seed {first.seed}" if task.every_gpu or task.together else ""
        return Job(
            name=f"{checkpoint.label} {tasks}{where}{seed}",
            stage=tasks,
            target="benchmarks.run:execute",
            arguments={
                "checkpoint": checkpoint,
                "root": root.path,
                "specs": specs,
                "num_gpus": self.num_gpus,
                "log": log,
                "again": self.rerun == "always",
            },
            log=log,
            failure=failure,
            then=then,
            report=lambda value: ", ".join(one.headline for one in value) or "done by another process",
            crashed=crashed,
            gpus=self.num_gpus if task.every_gpu else min(1, self.num_gpus),
            estimate=lambda: self._estimate(specs),
            kind=KIND[task.kind],
            work=tuple(spec.spec_id + ("-again" if self.rerun == "always" else "") for spec in specs),
        )

    def _estimate(self, specs: list[RunSpec]) -> float | None:
        known = [self.seconds.get(spec.task) for spec in specs]
        if None in known:
            return None
        shared = TASKS[specs[0].task].together is not None  # each record then has the seconds of the whole pass
        return (max if shared else sum)(one for one in known if one is not None)


def _named(names: Iterable[str]) -> str:
    """``linear voc07-svm``, a whole group by its name, and of more than MOST_NAMED others ``linear-sgd (10 tasks)``."""
    groups: dict[str, list[str]] = {}
    for name in by_group(names):
        groups.setdefault((TASKS[name].group if name in TASKS else "") or name, []).append(name)
    return " ".join(
        f"{group} ({len(some)} tasks)" if len(some) > MOST_NAMED else " ".join(some) for group, some in groups.items()
    )


def _sharing(column: Column, seed: int) -> object:
    """Equal for runs of one row that share a job: a pass over the same data, or the same features."""
    task = TASKS[column.task]
    if task.together:
        return column.root.path, task.together, seed
    if task.every_gpu:
        return column.root.path, task.name, 0 if task.deterministic else seed
    return column.root.path


def seconds_by_task(paths: list[Path], profile: str) -> dict[str, float]:
    """Mean wall seconds of each task's ok runs among the records at ``paths``, under ``profile``."""
    found: dict[str, list[float]] = {}
    for path in paths:
        try:
            record = ResultsStore().load(path)
        except InputError:  # named where tables are made
            continue
        if record.status == "ok" and record.spec.profile == profile:
            found.setdefault(record.spec.task, []).append(record.wall_seconds)
    return {task: sum(times) / len(times) for task, times in found.items()}


def check_data(plan: Plan, boxes_only: str) -> None:
    """InputError where a task cannot run on its data: no such layout, no masks, or by the task's own check.

    ``boxes_only``: the command to suggest for data without masks.
    """
    for column in plan.columns:
        task, root = TASKS[column.task], column.root
        section = root.section(task.layout)
        if task.needs_masks and section.get("masks", "none") == "none":
            raise InputError(f"{task.name} needs masks, and data set {root.name} has only boxes: run `{boxes_only}`")
        if task.check:
            task.check(root, plan.profile)


def resolve_columns(plan: Plan, executor: Executor) -> Plan:
    """``plan`` with its tasks' settings resolved as they will run here, and its expected seconds.

    InputError for options that one of the tasks rejects.
    """
    found: dict[tuple[str, Path], tuple[str, str]] = {}

    def keep(value: dict[tuple[str, Path], tuple[str, str]]) -> list[Job]:
        found.update(value)
        return []

    check_jobs([_settings_job(plan, kind, keep) for kind in plan.kinds()], executor, say_done=False)
    recent = sorted(ResultsStore().all_paths(), key=lambda path: path.name)[-RECENT:]
    seconds = seconds_by_task(recent, plan.profile)
    return dataclasses.replace(plan, resolved=found, seconds=seconds)


def _settings_job(plan: Plan, kind: str, keep: Callable[[Any], list[Job]]) -> Job:
    """Resolve the settings of the tasks of one kind, on a machine like those that will run them."""
    columns = list(
        {
            (one.task, one.root.path): (one.task, one.root)
            for one in plan.columns
            if KIND[TASKS[one.task].kind] == kind
        }.values()
    )
    setup, state = Setup(profile=plan.profile, num_gpus=plan.num_gpus, opts=plan.opts), git_state()
    roots = [(task, str(root.path), root.sections) for task, root in columns]
    about = [kind, roots, plan.profile, plan.num_gpus, plan.opts, state, package_versions("torch", "detectron2")]
    return Job(
        name=f"settings of the {kind} tasks",
        target="benchmarks.run:resolve_each",
        arguments={"columns": columns, "setup": setup},
        then=keep,
        gpus=min(1, plan.num_gpus),
        kind=kind,
        work=(f"settings-{digest(about)[:12]}",),
        # Of changed code nothing is known, and a user's module is outside.
        still=lambda value: bool(state and not state["dirty"] and not os.environ.get(VARIABLE)),
    )


def check_detectors(plan: Plan, checkpoints: list[EvaluatedCheckpoint], executor: Executor) -> None:
    """InputError for a network or ``opts`` that some detector of the plan cannot use, before anything is started."""
    detectors = {
        (spec.task, column.root.path, one.stored.architecture): (one.detectron2, spec, column.root)
        for one in checkpoints
        for column, spec in plan._specs(one)
        if TASKS[spec.task].detects
    }
    if detectors:
        job = Job(
            name="detectors",
            target="benchmarks.tasks.compute.detector:check",
            arguments={"detectors": list(detectors.values()), "num_gpus": plan.num_gpus},
        )
        check_jobs([job], executor, say_done=False)
