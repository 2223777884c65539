"""A run's identity (RunSpec), its result (RunRecord) and their folder (ResultsStore). Imports no torch.

One JSON per attempt, ``results/runs/<spec_id>/<UTC to microseconds>-<6 hex>.json``, written atomically, never changed;
beside it, under the same name without .json, the folder of the attempt's files (a detector's log, losses, predictions).

Files that are not records, damaged ones, and records in another run's folder are named on stderr once per process and
ignored: they count neither as done nor in a table.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.schema import parse, reader
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import digest, json_text, read_text, results_dir, write_json
from pretrain.common.pixels import PixelInput

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 3  # benchmarks/migrate.py brings records of 2 here
ROUNDING = 1e-6  # of a percentage that is computed in floats
UNKNOWN = "unknown"  # digest or precision of an old record that failed before it noted them


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Identity of one downstream run: every choice that changes its numbers.

    ``checkpoint_sha256`` covers the backbone's tensors without counters, ``input`` is its pixel input
    (``assumed`` left out).
    ``protocol_digest`` covers the task's resolved settings without paths, data and seed, so that a protocol is known by
    its content and not by its name. ``seed`` sets the run's initialisation and data order, not the pretraining's.
    ``num_gpus`` of a detection run (0: CPU), since batch, learning rate and norm follow from it; None for the tasks on
    frozen features.
    """

    task: str
    task_version: int
    protocol_digest: str
    precision: str  # of the arithmetic: fp32, tf32, bf16 or fp16
    data_name: str
    data_fingerprint: str
    checkpoint_sha256: str
    input: PixelInput | None  # None: an old record that does not state it
    seed: int
    profile: str
    overrides: tuple[str, ...] = ()
    num_gpus: int | None = None

    @functools.cached_property
    def spec_id(self) -> str:
        """12 hex digits of the canonical JSON's sha256: computed, never parsed from a path."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # asdict copies: slow
        return digest(values | {"input": dataclasses.asdict(self.input) if self.input else None})[:12]

    def column(self) -> RunSpec:
        """The part that all cells of a column share: the spec without checkpoint and seed."""
        return dataclasses.replace(self, checkpoint_sha256="", input=None, seed=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One attempt at a RunSpec. ``metrics`` are in their task's units, undefined values None; times UTC, seconds."""

    schema_version: int = SCHEMA_VERSION
    spec: RunSpec
    label: str  # display name of the checkpoint: outside the spec's digest
    architecture: str | None = None  # of the checkpoint's network; None in records from before it was kept
    checkpoint: dict[str, Any] | None = None  # its path, family and network; None in records from before they were kept
    status: str  # ok | failed
    error: str | None
    metrics: dict[str, float | None]
    test_images: int | None
    data: dict[str, Any]  # description and synthetic flag, for captions
    config: dict[str, Any]  # resolved
    environment: dict[str, Any]
    git: dict[str, Any] | None
    start: str
    end: str
    wall_seconds: float
    peak_memory_mb: float | None
    resumed_at: int | None
    log: str | None
    notes: tuple[str, ...] = ()  # warnings about the number, printed below the table
    files: tuple[str, ...] = ()  # names in the folder of this attempt, which ``files_of`` gives
    migrated: dict[str, Any] | None = None  # schema and spec_id that the record had before
    imported: str | None = None  # name of the import that it is read from, never in its file

    def stored(self) -> dict[str, Any]:
        """The values of the record's file."""
        values = dataclasses.asdict(self)
        del values["imported"]
        return values

    @property
    def detector(self) -> str | None:
        """``Faster R-CNN FPN, 300 iterations``, from a detection run's config; None for other tasks."""
        try:
            model, iterations = self.config["MODEL"], self.config["SOLVER"]["MAX_ITER"]
            kind = "Mask R-CNN" if model["MASK_ON"] else "Faster R-CNN"
            if model.get("META_ARCHITECTURE") == "RetinaNet":
                kind = "RetinaNet"
            return f"{kind} {'FPN' if 'fpn' in model['BACKBONE']['NAME'] else 'C4'}, {iterations:,} iterations"
        except (KeyError, TypeError, ValueError):
            return None

    def outline(self) -> RunRecord:
        """The record without the fields that no table shows: versions, and settings but the detector's kind and choice.

        Ten thousand whole records take 1 GB.
        """
        config: dict[str, Any] = {}
        if self.detector:
            model, solver = self.config["MODEL"], self.config["SOLVER"]
            kind = {key: model[key] for key in ("MASK_ON", "META_ARCHITECTURE") if key in model}
            config = {
                "MODEL": kind | {"BACKBONE": {"NAME": model["BACKBONE"]["NAME"]}},
                "SOLVER": {"MAX_ITER": solver["MAX_ITER"]},
            }
        if isinstance(searched := self.config.get("search"), dict):
            config["search"] = {key: searched.get(key) for key in ("chosen", "held_out")}
        return dataclasses.replace(self, config=config, environment={})


_read: Callable[[Any], RunRecord] = reader(RunRecord)


def parsed(text: str) -> RunRecord:
    """The record of a JSON text. ValueError that names the first invalid field."""
    record = parse(text, _read, {"schema_version": SCHEMA_VERSION})
    if record.status not in ("ok", "failed"):
        raise ValueError(f"status is {record.status[:20]!r}, not ok or failed")
    if (record.status == "failed") != bool(record.error):
        raise ValueError(f"status is {record.status}, with{'' if record.error else 'out'} an error")
    units = {metric.key: metric.unit for metric in TASKS[record.spec.task].metrics} if record.spec.task in TASKS else {}
    for key, value in record.metrics.items():
        if value is not None and units.get(key) == "%" and not -ROUNDING <= value <= 100 + ROUNDING:
            raise ValueError(f"metrics.{key[:40]} is {value:g}, not a percentage from 0 to 100")
    if not isinstance(record.data.get("description"), str):
        raise ValueError("data.description is not text")
    if record.git and not (isinstance(record.git.get("commit"), str) and isinstance(record.git.get("dirty"), bool)):
        raise ValueError("git lacks commit or dirty")
    if record.imported is not None:
        raise ValueError("imported is set, which no record says of itself")
    for time in (record.start, record.end):
        datetime.fromisoformat(time)
    return record


def require_readable(record: RunRecord) -> None:
    """ValueError with the first place for which ``parsed`` would refuse the record's file, such as a NaN."""
    parsed(json_text(record.stored()))


def files_of(record: Path) -> Path:
    """Folder of the files of the attempt whose record is at ``record``."""
    return record.with_suffix("")


def imports_dir() -> Path:
    """Folder of the imports: a folder of each under its name, laid out as ``results`` is, with its manifest."""
    return results_dir() / "imported"


class ResultsStore:
    """The run records under ``root`` (default ``results/runs``)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or results_dir() / "runs"

    def path_for(self, spec: RunSpec) -> Path:
        """Folder of the spec's attempts."""
        return self.root / spec.spec_id

    def working_folder(self, spec: RunSpec) -> Path:
        """Folder where an attempt writes its files; after a kill the next attempt continues in it."""
        return self.path_for(spec) / "files"

    def working_files(self, spec: RunSpec) -> tuple[str, ...]:
        """Names of the files in the working folder, sorted."""
        folder = self.working_folder(spec)
        return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()

    def save(self, record: RunRecord) -> Path:
        """Write a new attempt and return its path. An ok attempt takes the files of the working folder with it."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")  # names sort by time, within a second too
        path = self.path_for(record.spec) / f"{stamp}-{secrets.token_hex(3)}.json"
        if record.status == "ok" and self.working_folder(record.spec).is_dir():
            self.working_folder(record.spec).rename(files_of(path))
        write_json(path, record.stored())
        return path

    def load(self, path: Path) -> RunRecord:
        """Read one record; InputError if it is not one or cannot be read."""
        try:
            return parsed(read_text(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): move it away") from error
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise InputError(f"{path} is not a run record ({reason}): move it away and run again") from error

    def paths(self, spec: RunSpec) -> list[Path]:
        """Files of the attempts at ``spec``, oldest first."""
        return attempt_files(self.path_for(spec))

    def all_paths(self) -> list[Path]:
        """Files of all attempts, the oldest attempt of a spec first. InputError if the folder cannot be listed."""
        try:
            folders = sorted(entry.path for entry in os.scandir(self.root))
        except (FileNotFoundError, NotADirectoryError):  # writing there will raise the error
            return []
        except OSError as error:
            raise InputError(
                f"{self.root} cannot be read ({error.strerror}): fix it or choose another folder with RESULTS_DIR"
            ) from error
        return [path for folder in folders for path in attempt_files(Path(folder))]

    def readable(self, paths: list[Path]) -> Iterator[RunRecord]:
        """The records at ``paths`` that can be read and are in their run's folder; the others are named on stderr."""
        for path in paths:
            try:
                record = self.load(path)
            except InputError as error:
                warn(path, str(error))
                continue
            if record.spec.spec_id == path.parent.name:
                yield record
            else:
                settings = f"its settings belong to run {record.spec.spec_id}, not to its folder"
                warn(path, f"{printable(str(path))} is left out ({settings}): move it away")

    def attempts(self, spec: RunSpec) -> list[RunRecord]:
        """The readable attempts at ``spec``, oldest first."""
        return list(self.readable(self.paths(spec)))

    def newest(self, spec: RunSpec) -> RunRecord | None:
        """The newest ok attempt, else the newest failed one, else None."""
        attempts = self.attempts(spec)
        done = [record for record in attempts if record.status == "ok"]
        found = done or attempts
        return found[-1] if found else None

    def done(self, spec: RunSpec) -> tuple[RunRecord, Path] | None:
        """The newest ok attempt and its record's file; None without one."""
        for path in reversed(self.paths(spec)):
            for record in self.readable([path]):
                if record.status == "ok":
                    return record, path
        return None

    def has(self, spec: RunSpec) -> bool:
        """Whether some attempt is ok."""
        record = self.newest(spec)
        return record is not None and record.status == "ok"

    def load_all(self) -> Iterator[RunRecord]:
        """Every readable record, oldest attempt of a spec first."""
        yield from self.readable(self.all_paths())

    def all_newest(self) -> dict[RunSpec, RunRecord]:
        """``newest`` of every recorded spec, as an outline."""
        found: dict[RunSpec, RunRecord] = {}
        for record in self.load_all():
            if record.status == "ok" or record.spec not in found or found[record.spec].status != "ok":
                found[record.spec] = record.outline()
        return found

    def frame(self) -> pd.DataFrame:
        """One row per spec × metric, from each spec's newest ok attempt."""
        import pandas as pd

        rows = [
            {**dataclasses.asdict(spec), "spec_id": spec.spec_id, "label": record.label, "metric": key, "value": value}
            for spec, record in self.all_newest().items()
            if record.status == "ok"
            for key, value in record.metrics.items()
        ]
        return pd.DataFrame(rows)


def store_of(record: RunRecord) -> ResultsStore:
    """The store that holds the record: this machine's own, or that of its import."""
    return ResultsStore(imports_dir() / record.imported / "runs" if record.imported else None)


_NAMED: set[Path] = set()


def warn(path: Path, line: str) -> None:
    """Say on stderr that ``path`` is left out: once per process, however often it is read."""
    if path not in _NAMED:
        _NAMED.add(path)
        print(f"warning: {line}", file=sys.stderr)


def attempt_files(folder: Path) -> list[Path]:
    """The JSON files of a spec's folder by name, without hidden ones; none where ``folder`` is no folder."""
    try:
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.name.endswith(".json") and not entry.name.startswith(".")
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        warn(folder, f"{printable(str(folder))} cannot be read ({error.strerror}): its records are left out")
        return []
    return [folder / name for name in names]
