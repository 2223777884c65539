"""A job, and where jobs run: anything with ``run(jobs) -> Outcome``. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from pretrain.common.errors import InputError

KINDS = ("import", "frozen", "finetune", "detector", "pretrain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """``target`` ("module:function") called with ``arguments`` in a fresh process, its output appended to any ``log``.

    In the parent, with the function's value: ``failure(value)`` is the reason that it failed, or ""; ``then(value)``
    gives follow-up jobs, of which there will be ``follows``; ``report(value)`` is the progress line's text. If the
    process left no value: ``crashed(reason)``. ``stage`` is the stage that its seconds count for, ``gpus`` how many
    it uses, ``estimate()`` its expected seconds, None if unknown.

    On a cluster: ``kind`` names the resources, one of KINDS; "" runs where the command runs. ``work`` are the
    identities of the results that it makes, by which a later command finds it queued or running. ``still(value)``:
    whether the value of an earlier command's job of the same work holds, so that it need not run again.
    """

    name: str
    stage: str = ""
    target: str
    arguments: dict[str, Any]
    log: Path | None = None
    failure: Callable[[Any], str] = lambda value: ""
    then: Callable[[Any], list[Job]] = lambda value: []
    report: Callable[[Any], str] = lambda value: "done"
    crashed: Callable[[str], None] = lambda reason: None
    follows: int = 0
    gpus: int = 1
    estimate: Callable[[], float | None] = lambda: None
    kind: str = ""
    work: tuple[str, ...] = ()
    still: Callable[[Any], bool] = lambda value: False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of all jobs: the failed ones with their reasons, and the seconds of every job by stage, in order."""

    failed: list[tuple[Job, str]] = dataclasses.field(default_factory=list)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)


def finished(job: Job, good: bool, value: Any, outcome: Outcome, seconds: float) -> tuple[str, list[Job]]:
    """Note the end of ``job`` in ``outcome``; the reason if it failed, and its follow-ups."""
    outcome.seconds.setdefault(job.stage, []).append(seconds)
    reason = job.failure(value) if good else str(value)
    if reason:
        outcome.failed.append((job, reason))
    if good:
        return reason, job.then(value)
    job.crashed(reason)
    return reason, []


class Executor(Protocol):
    """Runs jobs and their follow-ups.

    Follow-ups run first, in order of creation, so that a checkpoint's row is finished before the next one starts.
    """

    def run(self, jobs: Iterable[Job], *, say_failures: bool = True, say_done: bool = True) -> Outcome:
        """Run all of them; one line per finished job on stderr."""


def check_jobs(jobs: list[Job], executor: Executor, say_done: bool = True) -> None:
    """Run jobs that validate input and write nothing; InputError with their reasons in one line if any fails."""
    if failed := executor.run(jobs, say_failures=False, say_done=say_done).failed:
        raise InputError("; ".join(dict.fromkeys(reason for _, reason in failed)))
