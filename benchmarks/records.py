"""What was asked (RunSpec), what came out (RunRecord) and where it is kept (ResultsStore). Imports no torch.

One JSON per attempt, ``results/runs/<spec_id>/<UTC>-<6 hex>.json``, written whole and never changed; beside it, under
the same name without .json, the folder of the attempt's files (a detector's log, losses, predictions).
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pretrain.errors import InputError
from pretrain.files import digest, results_dir, write_json
from transfer.weights import InputConvention

SCHEMA_VERSION = 2  # benchmarks/migrate.py brings records of 1 here
UNKNOWN = "unknown"  # digest or precision of a record of schema 1 that failed before it noted them


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Identity of one downstream run: everything about it that is chosen and moves its numbers.

    ``checkpoint_sha256`` is of the backbone's tensors without counters, ``input`` how the network wants its images.
    ``protocol_digest`` is of the resolved settings without paths, data and seed, so that a protocol is known by its
    content and not by its name. ``seed`` sets the run's initialisation and data order, not the pretraining's.
    ``num_gpus`` of a detection run (0: CPU), since batch, learning rate and norm follow from it; None for the tasks on
    frozen features.
    """

    task: str
    task_version: int
    protocol: str
    protocol_digest: str
    precision: str  # of the arithmetic: fp32, tf32, bf16 or fp16
    data_name: str
    data_fingerprint: str
    checkpoint_sha256: str
    input: InputConvention | None  # None: of a record from before it was kept, and nothing else says it
    seed: int
    profile: str
    overrides: tuple[str, ...] = ()
    num_gpus: int | None = None

    @property
    def spec_id(self) -> str:
        """12 hex digits of the canonical JSON's sha256: computed, never parsed from a path."""
        return digest(dataclasses.asdict(self))[:12]

    def column(self) -> RunSpec:
        """What all cells of a column share: the spec without checkpoint and seed."""
        return dataclasses.replace(self, checkpoint_sha256="", input=None, seed=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One attempt at a RunSpec. ``metrics`` are percent, undefined values None; times are UTC and seconds."""

    schema_version: int = SCHEMA_VERSION
    spec: RunSpec
    label: str  # display name of the checkpoint: outside the spec's digest
    architecture: str | None = None  # of the checkpoint's network; None in records from before it was kept
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
    notes: tuple[str, ...] = ()  # what a reader of the number has to know; printed below the table
    migrated: dict[str, Any] | None = None  # schema and spec_id that the record had before


def _record(text: str) -> RunRecord:
    values = json.loads(text)
    if values.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema_version {values.get('schema_version')}, expected {SCHEMA_VERSION}")
    spec = values["spec"]
    if spec["input"]:
        spec["input"] = InputConvention(**{key: _tuple(value) for key, value in spec["input"].items()})
    values["spec"] = RunSpec(**{**spec, "overrides": tuple(spec["overrides"])})
    values["notes"] = tuple(values["notes"])
    return RunRecord(**values)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def files_of(record: Path) -> Path:
    """Folder of the files of the attempt whose record is at ``record``."""
    return record.with_suffix("")


class ResultsStore:
    """The run records under ``root`` (default ``results/runs``)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or results_dir() / "runs"

    def path_for(self, spec: RunSpec) -> Path:
        """Folder of the spec's attempts."""
        return self.root / spec.spec_id

    def working_folder(self, spec: RunSpec) -> Path:
        """Folder where an attempt writes its files, and which a killed one leaves for the next to continue in."""
        return self.path_for(spec) / "files"

    def save(self, record: RunRecord) -> Path:
        """Write a new attempt and return its path. An ok attempt takes the files of the working folder with it."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self.path_for(record.spec) / f"{stamp}-{secrets.token_hex(3)}.json"
        if record.status == "ok" and self.working_folder(record.spec).is_dir():
            self.working_folder(record.spec).rename(files_of(path))
        write_json(path, dataclasses.asdict(record))
        return path

    def load(self, path: Path) -> RunRecord:
        """Read one record; InputError if it is not one."""
        try:
            return _record(path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not a run record ({error}): move it away and run again") from error

    def paths(self, spec: RunSpec) -> list[Path]:
        """Files of the attempts at ``spec``, oldest first."""
        return sorted(self.path_for(spec).glob("*.json"))

    def attempts(self, spec: RunSpec) -> list[RunRecord]:
        """The readable attempts at ``spec``, oldest first; an unreadable one is named on stderr and does not count."""
        found = []
        for path in self.paths(spec):
            try:
                found.append(self.load(path))
            except InputError as error:
                print(f"warning: {error}", file=sys.stderr)
        return found

    def newest(self, spec: RunSpec) -> RunRecord | None:
        """The newest ok attempt, else the newest failed one, else None."""
        attempts = self.attempts(spec)
        done = [record for record in attempts if record.status == "ok"]
        found = done or attempts
        return found[-1] if found else None

    def has(self, spec: RunSpec) -> bool:
        """Whether some attempt is ok."""
        record = self.newest(spec)
        return record is not None and record.status == "ok"

    def load_all(self) -> Iterator[RunRecord]:
        """Every record, oldest attempt of a spec first."""
        for path in sorted(self.root.glob("*/*.json")):
            yield self.load(path)

    def frame(self) -> pd.DataFrame:
        """One row a spec × metric, from each spec's newest ok attempt."""
        newest = {record.spec: record for record in self.load_all() if record.status == "ok"}
        rows = [
            {**dataclasses.asdict(spec), "spec_id": spec.spec_id, "label": record.label, "metric": key, "value": value}
            for spec, record in newest.items()
            for key, value in record.metrics.items()
        ]
        return pd.DataFrame(rows)
