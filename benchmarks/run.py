"""One checkpoint × task × seed into one run record; the matrix of them, side by side, skipping what is done.

python -m benchmarks run --task linear knn voc-det --checkpoint mine=/path/a.pth --data results/data/mine --seed 0 1 2
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.datasets.layout import DataRoot
from benchmarks.pool import Job, one_line
from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.tasks import TASKS
from pretrain.errors import InputError, RunError
from pretrain.files import file_sha256, results_dir
from pretrain.provenance import git_state, package_versions, utc_now

if TYPE_CHECKING:
    from transfer.sources import Backbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint to evaluate: its row's ``label``, its file, its converted .pkl and its tensors' sha256."""

    label: str
    path: Path
    converted: Path
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What a task's runner gets."""

    spec: RunSpec
    root: DataRoot
    checkpoint: Path
    converted: Path
    folder: Path  # for logs and other files of the run
    num_gpus: int
    loader_workers: int

    def backbone(self) -> Backbone:
        """The checkpoint's tensors under torchvision's names."""
        from transfer.sources import read_backbone

        return read_backbone(self.checkpoint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a task's runner returns: flat metrics in percent (None: undefined), and the resolved settings."""

    metrics: dict[str, float | None]
    test_images: int | None
    config: dict[str, Any]
    resumed_at: int | None = None


def converted_path(checkpoint: Path) -> Path:
    """Where the suite keeps the detectron2 form of a checkpoint file, by the file's own hash."""
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint} is not a file: give a checkpoint, as NAME=PATH or PATH")
    return results_dir() / "converted" / f"{file_sha256(checkpoint)[:16]}.pkl"


def source_of(label: str, checkpoint: Path) -> Source | None:
    """The Source of a checkpoint that has been converted before, None if it has not."""
    converted = converted_path(checkpoint)
    proof = converted.with_suffix(".json")
    if not (converted.exists() and proof.exists()):
        return None
    sha256 = json.loads(proof.read_text(encoding="utf-8"))["source_sha256"]
    return Source(label=label, path=checkpoint, converted=converted, sha256=sha256)


def convert_job(label: str, checkpoint: Path, **callbacks: Any) -> Job:
    """The job that converts and proves one checkpoint."""
    return Job(
        name=f"{label} convert",
        target="benchmarks.run:convert_checkpoint",
        arguments={"checkpoint": checkpoint},
        log=results_dir() / "logs" / f"convert-{label}.log",
        report=lambda value: "265/265 tensors, forward pass equal",
        **callbacks,
    )


def convert_checkpoint(checkpoint: Path) -> None:
    """Convert ``checkpoint`` to where the suite looks for it (in a worker)."""
    from transfer.convert import convert

    convert(checkpoint, converted_path(checkpoint))


def specs_for(
    source: Source,
    root: DataRoot,
    cells: Iterable[tuple[str, str]],
    seeds: Iterable[int],
    profile: str,
    opts: tuple[str, ...],
    num_gpus: int,
) -> list[RunSpec]:
    """Specs of (task, protocol) ``cells`` × ``seeds``; a deterministic task takes the first seed only.

    ``opts`` are detectron2 options: they reach, and so identify, detection runs alone.
    """
    seeds = list(seeds)
    return [
        RunSpec(
            task=task.name,
            task_version=task.version,
            protocol=protocol,
            data_name=root.name,
            data_fingerprint=root.section(task.needs)["fingerprint"],
            checkpoint_sha256=source.sha256,
            seed=seed,
            profile=profile,
            overrides=opts if task.needs != "imagenet" else (),
            num_gpus=num_gpus if task.needs != "imagenet" and profile == "paper" else None,
        )
        for task, protocol in ((TASKS[name], protocol) for name, protocol in cells)
        for seed in (seeds[:1] if task.deterministic else seeds)
    ]


def jobs_for(
    source: Source, root: DataRoot, specs: list[RunSpec], *, rerun: str, num_gpus: int, saved: Callable[[str], None]
) -> list[Job]:
    """Jobs of the specs that the re-run policy leaves: frozen-feature tasks share one, a detector has its own.

    ``saved`` is called in the parent with each record's path.
    """
    store = ResultsStore()
    todo = [spec for spec in specs if rerun == "always" or (rerun == "missing" and not store.has(spec))]
    frozen = [spec for spec in todo if TASKS[spec.task].needs == "imagenet"]
    groups = ([frozen] if frozen else []) + [[spec] for spec in todo if spec not in frozen]
    return [_job(source, root, group, num_gpus, rerun == "always", saved) for group in groups]


def _job(
    source: Source, root: DataRoot, specs: list[RunSpec], num_gpus: int, again: bool, saved: Callable[[str], None]
) -> Job:
    first = specs[0]
    name = " ".join(dict.fromkeys(spec.task for spec in specs))
    detector = f" {first.protocol} seed {first.seed}" if TASKS[first.task].needs != "imagenet" else ""
    log = ResultsStore().path_for(first) / "log.txt"

    def lost(reason: str) -> None:
        """A process that was killed could write no record of its own."""
        for spec in specs:
            newest = ResultsStore().newest(spec)
            if newest is None or newest.start < begun:
                saved(str(ResultsStore().save(_record(spec, source.label, root, begun, begun, error=reason, log=log))))

    def report(paths: list[str]) -> str:
        for path in paths:
            saved(path)
        records = [ResultsStore().load(Path(path)) for path in paths]
        return ", ".join(_headline(record) for record in records)

    begun = utc_now()
    arguments = {"source": source, "root": root.path, "specs": specs, "num_gpus": num_gpus, "log": log, "again": again}
    return Job(
        name=f"{source.label} {name}{detector}",
        target="benchmarks.run:execute",
        arguments=arguments,
        log=log,
        lost=lost,
        report=report,
    )


def _headline(record: RunRecord) -> str:
    metric = TASKS[record.spec.task].metrics[0]
    value = record.metrics.get(metric.key)
    return f"{record.spec.task} {metric.label} {'undefined' if value is None else f'{value:.1f}'}"


def execute(source: Source, root: Path, specs: list[RunSpec], num_gpus: int, log: Path, again: bool) -> list[str]:
    """Run ``specs`` one after the other in this process; every one leaves a record, ok or failed. Paths of the records.

    A spec that another process is at is waited for, and skipped if it is done then (unless ``again``). Raises RunError
    with the first failure's reason after the last one.
    """
    from pretrain.state import locked

    data, store, paths, failures = DataRoot.load(root), ResultsStore(), [], []
    for spec in specs:
        with locked(store.path_for(spec)):
            if store.has(spec) and not again:
                continue
            record = _attempt(source, data, spec, num_gpus, log)
            paths.append(str(store.save(record)))
        if record.error:
            failures.append(f"{spec.task}: {record.error}" if len(specs) > 1 else record.error)
    if failures:
        raise RunError(failures[0])
    return paths


def _attempt(source: Source, root: DataRoot, spec: RunSpec, num_gpus: int, log: Path) -> RunRecord:
    begun, clock = utc_now(), time.monotonic()
    module, function = TASKS[spec.task].runner.split(":")
    context = Context(
        spec=spec,
        root=root,
        checkpoint=source.path,
        converted=source.converted,
        folder=ResultsStore().path_for(spec) / "files",
        num_gpus=num_gpus,
        loader_workers=0 if spec.profile != "paper" else min(8, os.cpu_count() or 1),
    )
    try:
        result = getattr(import_module(module), function)(context)
    except Exception as error:
        import traceback

        traceback.print_exc()
        return _record(spec, source.label, root, begun, utc_now(), error=one_line(error), log=log)
    return _record(spec, source.label, root, begun, utc_now(), result=result, log=log, seconds=time.monotonic() - clock)


def _record(
    spec: RunSpec,
    label: str,
    root: DataRoot,
    begun: str,
    end: str,
    *,
    log: Path,
    result: Result | None = None,
    error: str | None = None,
    seconds: float = 0.0,
) -> RunRecord:
    return RunRecord(
        spec=spec,
        label=label,
        status="failed" if error else "ok",
        error=error,
        metrics=result.metrics if result else {},
        test_images=result.test_images if result else None,
        data={"description": root.description, "synthetic": root.synthetic},
        config=result.config if result else {},
        environment=environment(),
        git=git_state(),
        start=begun,
        end=end,
        wall_seconds=round(seconds, 2),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        resumed_at=result.resumed_at if result else None,
        log=os.path.relpath(log, results_dir()),
    )


def environment() -> dict[str, Any]:
    """Versions, detectron2's origin, device and precision of this process; the parent, without torch, gives fewer."""
    from transfer.origin import detectron2_origin

    found: dict[str, Any] = {
        "versions": package_versions(
            "torch", "torchvision", "pycocotools", "fvcore", "numpy", "pandas", "scikit-learn"
        ),
        "detectron2": detectron2_origin(),
    }
    if torch := sys.modules.get("torch"):
        from benchmarks.features import eval_precision

        cuda = torch.cuda.is_available()
        found |= {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "cuda": torch.version.cuda if cuda else None,
            "threads": torch.get_num_threads(),
            "precision": eval_precision(),
        }
    return found
