"""One checkpoint × task × seed into one run record: what a worker of `python -m benchmarks run` does."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import resource
import shutil
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data.root import DataRoot
from benchmarks.executors.local import one_line
from benchmarks.records import InputConvention, ResultsStore, RunRecord, RunSpec
from benchmarks.tasks.base import TASKS
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import digest, file_sha256, results_dir, write_json
from pretrain.common.pixels import PixelInput
from pretrain.common.provenance import git_state, package_versions, utc_now
from transfer.checkpoints.converted import VERSION, usable

if TYPE_CHECKING:
    from transfer.checkpoints.backbone import Backbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint to evaluate: its row's ``label``, its file, its converted .pkl, and what identifies it."""

    label: str
    path: Path
    converted: Path | None  # None: no detector can have it, only its features are evaluated
    sha256: str  # of its tensors, as transfer.checkpoints.backbone.Backbone.sha256
    input: InputConvention
    architecture: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What a task's ``run`` gets."""

    spec: RunSpec
    root: DataRoot
    checkpoint: Path
    converted: Path | None
    folder: Path  # for logs and other files of the run
    num_gpus: int
    loader_workers: int

    def backbone(self) -> Backbone:
        """The checkpoint's tensors under torchvision's names."""
        return _backbone(self.checkpoint)


@functools.lru_cache(maxsize=1)
def _backbone(checkpoint: Path) -> Backbone:
    """Read and checked once for all the tasks of a job."""
    from benchmarks.tasks.features import read_frozen
    from transfer.checkpoints.reading.read import load_checkpoint

    return read_frozen(load_checkpoint(checkpoint))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a task's ``run`` returns: flat metrics in percent (None: undefined), settings, arithmetic, notes."""

    metrics: dict[str, float | None]
    test_images: int | None
    config: dict[str, Any]
    precision: str
    resumed_at: int | None = None
    notes: tuple[str, ...] = ()


def converted_path(checkpoint: Path) -> Path:
    """Where the suite keeps the detectron2 form of a checkpoint file, by the file's own hash."""
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint} is not a file: give a checkpoint, as NAME=PATH or PATH")
    return results_dir() / "converted" / f"{file_sha256(checkpoint)[:16]}.pkl"


def source_of(label: str, checkpoint: Path) -> Source | None:
    """The Source of a checkpoint that was converted, or found fit for features alone; None if that is still to do."""
    converted = converted_path(checkpoint)
    proof = usable(converted)
    if proof and proof.version == VERSION:
        return Source(
            label=label,
            path=checkpoint,
            converted=converted,
            sha256=proof.source_sha256,
            input=InputConvention.of(proof.input),
            architecture=proof.architecture,
        )
    try:
        found = json.loads(_features_only(converted).read_text(encoding="utf-8"))
        convention = InputConvention.of(PixelInput.from_json(found.pop("input")))
        return Source(label=label, path=checkpoint, converted=None, input=convention, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _features_only(converted: Path) -> Path:
    """Where it is kept which tensors the file has, if they cannot be converted."""
    return converted.with_suffix(".features-only.json")


def convert_checkpoint(checkpoint: Path) -> str:
    """Convert ``checkpoint`` to where the suite looks for it (in a worker); what was proved, in a few words.

    CMC's encoders, which no detector can have, are read and checked only.
    """
    from transfer.checkpoints.convert import convert
    from transfer.checkpoints.reading.read import load_checkpoint
    from transfer.checkpoints.two_encoders import read_two_encoders

    path = converted_path(checkpoint)
    if encoders := read_two_encoders(load_checkpoint(checkpoint)):
        about = {"sha256": encoders.sha256, "architecture": encoders.architecture}
        write_json(_features_only(path), about | {"input": dataclasses.asdict(encoders.input)})
        return "CMC's two encoders: for features alone, no detector can have them"
    converted = convert(checkpoint, path)
    return f"{converted.mapped}/{converted.expected} tensors, forward pass equal"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a task's ``resolve`` returns: the settings that decide the numbers, without checkpoint, data and seed."""

    settings: dict[str, Any]
    precision: str

    @property
    def digest(self) -> str:
        """Sha256 hex of the settings' canonical JSON."""
        return digest(self.settings)


def resolve(task: str, protocol: str, profile: str, num_gpus: int | None, opts: tuple[str, ...]) -> Resolved:
    """The settings of a task under a protocol as they would run on this machine. InputError for unusable ones."""
    module = import_module(TASKS[task].module)
    found: Resolved = module.resolve(task, protocol, profile, num_gpus, opts)
    return found


def resolve_columns(
    columns: list[tuple[str, str]], profile: str, num_gpus: int, opts: tuple[str, ...]
) -> list[tuple[str, str]]:
    """(digest, precision) of each (task, protocol), in a worker: it takes torch and detectron2."""
    found = [resolve(task, protocol, profile, num_gpus, opts) for task, protocol in columns]
    return [(one.digest, one.precision) for one in found]


def execute(source: Source, root: Path, specs: list[RunSpec], num_gpus: int, log: Path, again: bool) -> None:
    """Run ``specs`` one after the other in this process; every one leaves a record, ok or failed.

    A spec that another process is at is waited for, and skipped if it is done then (unless ``again``). Raises RunError
    with the first failure's reason after the last one.
    """
    from pretrain.runtime.resume import locked

    data, store, failures = DataRoot.load(root), ResultsStore(), []
    for spec in specs:
        with locked(store.path_for(spec)):
            if store.has(spec) and not again:
                continue
            if again:
                shutil.rmtree(store.working_folder(spec), ignore_errors=True)  # another attempt's, not to be continued
            record = _attempt(source, data, spec, num_gpus, log)
            store.save(record)
        if record.error:
            failures.append(f"{spec.task}: {record.error}" if len(specs) > 1 else record.error)
    if failures:
        raise RunError(failures[0])


def _attempt(source: Source, root: DataRoot, spec: RunSpec, num_gpus: int, log: Path) -> RunRecord:
    begun, clock = utc_now(), time.monotonic()
    context = Context(
        spec=spec,
        root=root,
        checkpoint=source.path,
        converted=source.converted,
        folder=ResultsStore().working_folder(spec),
        num_gpus=num_gpus,
        loader_workers=0 if spec.profile != "paper" else min(8, os.cpu_count() or 1),
    )
    try:
        result = import_module(TASKS[spec.task].module).run(context)
    except Exception as error:
        seconds = time.monotonic() - clock
        with suppress(OSError):  # the log's disk is full
            traceback.print_exc()
        return _record(spec, source, root, begun, utc_now(), error=one_line(error), log=log, seconds=seconds)
    return _record(spec, source, root, begun, utc_now(), result=result, log=log, seconds=time.monotonic() - clock)


def lost_record(spec: RunSpec, source: Source, root: DataRoot, begun: str, reason: str, log: Path) -> RunRecord:
    """The record of a run whose process ended without leaving one."""
    return _record(spec, source, root, begun, utc_now(), error=reason, log=log)


def _record(
    spec: RunSpec,
    source: Source,
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
        label=source.label,
        architecture=source.architecture,
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
        end=end,
        wall_seconds=round(seconds, 2),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        resumed_at=result.resumed_at if result else None,
        log=os.path.relpath(log, results_dir()),
    )


def environment() -> dict[str, Any]:
    """Versions, detectron2's origin and device of this process; the parent, without torch, gives fewer."""
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
