"""Bring run records of schema 2 to schema 3, so that runs finished under schema 2 still count.

``run``, ``suite``, ``tables`` and ``show`` call it first. In schema 2 a task and its protocol were two names; now each
pair of them is a task of its own. The settings' digests are the same. The old records are kept under
``results/runs-schema-2``. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import SCHEMA_VERSION, ResultsStore, attempt_files, files_of, parsed, warn
from benchmarks.report.text import shortened
from pretrain.common.errors import printable
from pretrain.common.files import digest, locked, read_text, write_json

OLD = 2
HEAD = 64  # bytes: a record is written with its schema version first
# Exceptions that reading an arbitrary JSON file can raise.
FAULTS = (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
RENAMED = {"lbfgs": "linear", "lbfgs-10": "low-shot"}  # protocol → task; the others are named as their protocol
INPUT = {"pixel_mean": "mean", "pixel_std": "std", "channel_order": "order", "stride_in_1x1": "stride_in_1x1"}


def migrate(store: ResultsStore) -> int:
    """Rewrite every record of schema 2 under ``store`` and say so on stderr; returns how many there were.

    A file that lacks a record's fields is named on stderr and stays where it is.
    """
    old = [path for path in store.all_paths() if _schema(path) == OLD]
    if not old:
        return 0
    kept, count = store.root.parent / f"runs-schema-{OLD}", 0
    try:
        with locked(kept):
            for path in old:
                count += _migrate(store, path, kept / path.parent.name)
    except OSError as error:  # a read-only folder, a full disk: the other records still count
        where = f" ({printable(str(error.filename))})" if error.filename else ""
        print(f"warning: records of schema {OLD} cannot be migrated: {error.strerror}{where}", file=sys.stderr)
    if count:
        print(f"migrated {count} run records to schema {SCHEMA_VERSION}; the old ones are in {kept}", file=sys.stderr)
    return count


def _schema(path: Path) -> int | None:
    """The schema version that a record begins with; not parsed, since every command reads them all."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for its writer
        try:
            found = re.match(rb'\{\s*"schema_version":\s*(\d+)', os.read(file, HEAD))
        finally:
            os.close(file)
    except OSError:  # named where it is read
        return None
    return int(found[1]) if found else None


def _migrate(store: ResultsStore, path: Path, kept: Path) -> bool:
    """Whether the record moved. Files that a killed migration wrote are written again, identically."""
    if path not in attempt_files(path.parent):  # another process has moved it meanwhile
        return False
    try:
        values = json.loads(read_text(path))
        if digest(values["spec"])[:12] != path.parent.name:
            raise ValueError("it is not a record of its folder's run")
        record = parsed(json.dumps(migrated(values, path.parent.name), allow_nan=False))
    except FAULTS as error:
        reason = shortened([printable(repr(error))], 200)[0]
        warn(path, f"{printable(str(path))} is not a run record ({reason}): move it away")
        return False
    target = store.path_for(record.spec) / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    if files_of(path).is_dir():
        files_of(path).rename(files_of(target))
    if files_of(target).is_dir():  # also one that a killed migration had moved
        files = sorted(one.name for one in files_of(target).iterdir())
        record = dataclasses.replace(record, files=tuple(files))
    write_json(target, record.stored())
    path.rename(kept / path.name)
    return True


def migrated(values: Mapping[str, Any], spec_id: str) -> dict[str, Any]:
    """``values``, the JSON of a record of schema 2, as one of schema 3."""
    spec = dict(values["spec"])
    protocol = spec.pop("protocol")
    spec["task"] = RENAMED.get(protocol, protocol.replace("_", "-"))
    if spec["input"]:
        spec["input"] = {INPUT[key]: value for key, value in spec["input"].items()}
    about = values.get("migrated") or {"schema_version": OLD, "spec_id": spec_id}
    return {**values, "schema_version": SCHEMA_VERSION, "spec": spec, "migrated": about}
