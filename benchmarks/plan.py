"""What is to be run: tasks × protocols × seeds on data, for one checkpoint after the other, less what is done."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.data.root import DataRoot
from benchmarks.executors.local import Job, check_jobs
from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.report.text import checked_label
from benchmarks.run import Source, lost_record, source_of
from benchmarks.tasks.base import TASKS
from pretrain.common.errors import InputError, RunError, printable
from pretrain.common.files import require_writable, results_dir
from pretrain.common.provenance import utc_now
from pretrain.data import is_image

FROZEN, DETECTOR = 1.0, 2.0  # how long the jobs take beside each other, in the demo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One column of the table: a task under a protocol with the seeds it takes."""

    task: str
    protocol: str
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Cells on data. ``roots`` gives the data root by section (imagenet, voc, coco).

    ``rerun``: missing (failed ones too), always (a new attempt) or never. ``opts`` are detectron2 options KEY VALUE …:
    they reach, and so identify, detection runs alone. ``resolved`` is filled by ``resolve_columns``: digest and
    precision by (task, protocol).
    """

    profile: str
    cells: tuple[Cell, ...]
    roots: Mapping[str, DataRoot]
    num_gpus: int
    rerun: str = "missing"
    opts: tuple[str, ...] = ()
    resolved: Mapping[tuple[str, str], tuple[str, str]] = dataclasses.field(default_factory=dict)

    def specs(self, source: Source) -> list[RunSpec]:
        """The specs of one checkpoint's row; a deterministic task has one, of seed 0.

        Without detectors where the checkpoint was not converted.
        """
        return [
            self._spec(source, cell, seed)
            for cell in self.cells
            if source.converted or TASKS[cell.task].needs == "imagenet"
            for seed in ((0,) if TASKS[cell.task].deterministic else cell.seeds)
        ]

    def _spec(self, source: Source, cell: Cell, seed: int) -> RunSpec:
        task = TASKS[cell.task]
        detection = task.needs != "imagenet"
        protocol_digest, precision = self.resolved[cell.task, cell.protocol]
        return RunSpec(
            task=task.name,
            task_version=task.version,
            protocol=cell.protocol,
            protocol_digest=protocol_digest,
            precision=precision,
            data_name=self.roots[task.needs].name,
            data_fingerprint=self.roots[task.needs].section(task.needs)["fingerprint"],
            checkpoint_sha256=source.sha256,
            input=source.input,
            seed=seed,
            profile=self.profile,
            overrides=self.opts if detection else (),
            num_gpus=self.num_gpus if detection else None,
        )

    def weights(self) -> tuple[float, ...]:
        """How long the jobs of a whole row take, as benchmarks.executors.local.Job has it."""
        detectors = sum(len(cell.seeds) for cell in self.cells if TASKS[cell.task].needs != "imagenet")
        return (FROZEN,) * any(TASKS[cell.task].needs == "imagenet" for cell in self.cells) + (DETECTOR,) * detectors

    def jobs(self, source: Source, saved: list[str]) -> list[Job]:
        """The row's jobs that are left: frozen-feature tasks share one, a detector has its own.

        The paths of new records are added to ``saved`` as they come.
        """
        store = ResultsStore()
        specs = [] if self.rerun == "never" else self.specs(source)
        todo = [spec for spec in specs if self.rerun == "always" or not store.has(spec)]
        frozen = [spec for spec in todo if TASKS[spec.task].needs == "imagenet"]
        groups = ([frozen] if frozen else []) + [[spec] for spec in todo if spec not in frozen]
        return [self._job(source, group, saved) for group in groups]

    def _job(self, source: Source, specs: list[RunSpec], saved: list[str]) -> Job:
        first, store, begun = specs[0], ResultsStore(), utc_now()
        needs, log = TASKS[first.task].needs, store.path_for(first) / "log.txt"
        tasks = " ".join(dict.fromkeys(spec.task for spec in specs))
        detector = f" {first.protocol} seed {first.seed}" if needs != "imagenet" else ""

        def report(value: None) -> str:
            return ", ".join(_headline(record) for record in new_records()) or "done by another process"

        def lost(reason: str) -> None:
            """Specs that left no record, because their process was killed, get one that says so."""
            recorded = {record.spec for record in new_records()}
            for spec in specs:
                if spec not in recorded:
                    record = lost_record(spec, source, self.roots[needs], begun, reason, log)
                    try:
                        saved.append(str(store.save(record)))
                    except OSError as error:  # a full disk: the run counts as missing
                        print(f"warning: no record of a failed {spec.task}: {error.strerror}", file=sys.stderr)

        def new_records() -> list[RunRecord]:
            found = []
            for spec in specs:
                attempts = store.attempts(spec)
                if attempts and attempts[-1].start >= begun:
                    found.append(attempts[-1])
                    path = str(store.paths(spec)[-1])
                    if path not in saved:  # two rows may have the same tensors
                        saved.append(path)
            return found

        return Job(
            name=f"{source.label} {tasks}{detector}",
            weight=DETECTOR if detector else FROZEN,
            stage=f"{tasks} {first.protocol}" if detector else tasks,
            target="benchmarks.run:execute",
            arguments={
                "source": source,
                "root": self.roots[needs].path,
                "specs": specs,
                "num_gpus": self.num_gpus,
                "again": self.rerun == "always",
                "log": log,
            },
            log=log,
            report=report,
            lost=lost,
        )


def check_data(plan: Plan, boxes_only: str) -> None:
    """InputError where a task cannot run on its data: no such section, no masks, a class with too few images.

    ``boxes_only``: the command in place of coco-seg's for data without masks.
    """
    for name in dict.fromkeys(cell.task for cell in plan.cells):
        task, root = TASKS[name], plan.roots[TASKS[name].needs]
        section = root.section(task.needs)
        if task.needs_masks and section.get("masks", "none") == "none":
            raise InputError(f"{name} needs masks, and data set {root.name} has boxes alone: run `{boxes_only}`")
        if task.images_per_class > 1:
            for label in section["classes"]:
                count = _images(root.folder(task.needs) / "train" / label, task.images_per_class)
                if count < task.images_per_class:
                    raise InputError(
                        f"class {label} of data set {root.name} has {count} training images, and {name} takes "
                        f"{task.images_per_class} of each: add images, remove the class, or leave out {name}"
                    )


def _images(folder: Path, enough: int) -> int:
    """How many images ``folder`` has, no more than ``enough`` of them being counted."""
    count = 0
    for _, _, names in os.walk(folder, followlinks=True):
        count += sum(map(is_image, names))
        if count >= enough:
            break
    return count


def resolve_columns(plan: Plan, workers: int) -> Plan:
    """``plan`` with its protocols resolved as they will run here.

    InputError for options that one of them refuses, and for a protocol that its task does not list.
    """
    columns = list(dict.fromkeys((cell.task, cell.protocol) for cell in plan.cells))
    if strange := [pair for pair in columns if pair[1] not in TASKS[pair[0]].protocols]:
        task, protocol = strange[0]
        raise InputError(f"{protocol} is no protocol of {task}: add it to the task's in benchmarks/tasks/base.py")
    found: list[tuple[str, str]] = []

    def keep(value: list[tuple[str, str]]) -> list[Job]:
        found.extend(value)
        return []

    job = Job(
        name="protocols",
        target="benchmarks.run:resolve_columns",
        arguments={"columns": columns, "profile": plan.profile, "num_gpus": plan.num_gpus, "opts": plan.opts},
        then=keep,
    )
    check_jobs([job], workers, say_done=False)
    return dataclasses.replace(plan, resolved=dict(zip(columns, found, strict=True)))


def check_detectors(plan: Plan, sources: list[Source], workers: int) -> None:
    """InputError for a network or ``opts`` that some detector of the plan cannot have, before anything is started."""
    detectors = {
        (spec.protocol, source.architecture): (source, spec, len(plan.roots[needs].section(needs)["classes"]))
        for source in sources
        for spec in plan.specs(source)
        if (needs := TASKS[spec.task].needs) != "imagenet"
    }
    if detectors:
        job = Job(
            name="detectors",
            target="benchmarks.tasks.detection:check",
            arguments={"detectors": list(detectors.values()), "num_gpus": plan.num_gpus},
        )
        check_jobs([job], workers, say_done=False)


def _headline(record: RunRecord) -> str:
    metric = TASKS[record.spec.task].metrics[0]
    value = record.metrics.get(metric.key)
    return f"{record.spec.task} {metric.label} {'undefined' if value is None else f'{value:.1f}'}"


def parse_checkpoints(items: tuple[str, ...]) -> dict[str, Path]:
    """``NAME=PATH`` or ``PATH`` items as label → file. InputError for a repeated name or a missing file.

    What exists is a path, so that ``epoch=99-step=500400.ckpt`` and ``lr=0.1/x.pth`` need no name.
    """
    found: dict[str, Path] = {}
    for item in items:
        label, path = _label_and_path(item)
        file = path / "backbone.safetensors" if _is_there(path, stat.S_ISDIR) else path
        if not label or not _is_there(file, stat.S_ISREG):
            raise InputError(f"--checkpoint {item}: {file} is not a file; give a PATH, or NAME=PATH")
        label = checked_label(label)
        if label in found:
            raise InputError(f"two checkpoints are named {label}: give each its own as NAME=PATH")
        found[label] = file.resolve()
    return found


def _label_and_path(item: str) -> tuple[str, Path]:
    """The item as a path if there is one of that name; else split at the first "=" after which there is one."""
    whole = Path(item).expanduser()
    splits = [(item[:at], Path(item[at + 1 :]).expanduser()) for at, letter in enumerate(item) if letter == "="]
    named = [(name, path) for name, path in splits if "/" not in name and path.name]
    if named and not _is_there(whole):
        return next((pair for pair in named if _is_there(pair[1])), named[0])
    return printable(whole.name if _is_there(whole, stat.S_ISDIR) else whole.stem), whole


def _is_there(path: Path, is_kind: Callable[[int], bool] = bool) -> bool:
    """Whether there is something of this kind; Path's own questions raise where a name is too long."""
    try:
        return is_kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def convert_first(checkpoints: dict[str, Path], workers: int) -> list[Source]:
    """Convert what has not been converted; InputError with the reasons if any is refused, before other work."""
    todo = [
        Job(
            name=f"{label} convert",
            target="benchmarks.run:convert_checkpoint",
            arguments={"checkpoint": path},
            report=str,
        )
        for label, path in checkpoints.items()
        if source_of(label, path) is None
    ]
    if todo:
        require_writable(results_dir() / "converted")
    check_jobs(todo, workers)
    found = {label: source_of(label, path) for label, path in checkpoints.items()}
    if lost := [label for label, source in found.items() if source is None]:
        raise RunError(f"{lost[0]}: its conversion is not under {results_dir() / 'converted'} any more: run again")
    return [source for source in found.values() if source is not None]
