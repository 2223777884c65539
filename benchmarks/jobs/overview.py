"""Every run of a results folder in a few words: done, failed, running; fast over tens of thousands. No torch."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from pretrain.common import claims
from pretrain.common.claims import Owner
from pretrain.common.files import results_dir

HEAD = 6000  # bytes of a record before its numbers, generously
LIVELY_SECONDS = 3600.0  # a claim without a heartbeat for as long is not even looked at: clocks may differ
_CLAIM = re.compile(r"\.claim-(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a record's head says; ``name`` as in progress lines."""

    path: Path
    name: str
    task: str
    good: bool
    error: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Working:
    """A live process that holds a run's folder."""

    folder: Path
    owner: Owner


@dataclasses.dataclass
class Overview:
    """``failed``: the newest attempt of each run without a number, oldest first."""

    done: int = 0
    failed: list[Attempt] = dataclasses.field(default_factory=list)
    working: list[Working] = dataclasses.field(default_factory=list)
    unreadable: int = 0


def overview() -> Overview:
    """Of results/runs and results/pretrain."""
    found = Overview()
    for kind in ("runs", "pretrain"):
        for folder in _folders(results_dir() / kind):
            records, claim = _content(folder)
            if claim and (owner := claims.holder(folder)):
                found.working.append(Working(folder=folder, owner=owner))
            if records and kind == "runs":
                _add(found, [folder / name for name in sorted(records, reverse=True)])
    found.failed.sort(key=lambda attempt: attempt.path.name)
    return found


def _folders(place: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(place) if entry.is_dir()]
    except OSError:
        return []


def _content(folder: Path) -> tuple[list[str], bool]:
    """Names of the records, and whether there is a claim that may be a live process's."""
    records, claim = [], False
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return [], False
    for entry in entries:
        if entry.name.endswith(".json") and not entry.name.startswith("."):
            records.append(entry.name)
        elif _CLAIM.fullmatch(entry.name):
            claim |= time.time() - entry.stat().st_mtime < LIVELY_SECONDS
    return records, claim


def _add(found: Overview, paths: list[Path]) -> None:
    """Count the run whose attempts are at ``paths``, newest first."""
    newest = None
    for path in paths:
        attempt = attempt_at(path)
        if attempt and attempt.good:
            found.done += 1
            return
        newest = newest or attempt
    if newest:
        found.failed.append(newest)
    else:
        found.unreadable += 1


def attempt_at(path: Path) -> Attempt | None:
    """The head of the record at ``path``; None of a file that is no record."""
    try:
        with path.open("rb") as stream:
            head, end, _ = stream.read(HEAD).partition(b'\n "metrics":')
            text = head + b'"metrics":{}}' if end else head + stream.read()
        values: dict[str, Any] = json.loads(text)
        spec = values["spec"]
        return Attempt(
            path=path,
            name=f"{values['label']} {spec['task']} on {spec['data_name']} seed {spec['seed']}",
            task=spec["task"],
            good=values["status"] == "ok",
            error=str(values["error"] or ""),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
