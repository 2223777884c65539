"""Jobs side by side, each in a process of its own, one thread each: a crash costs one job. Imports no torch.

The processes fork from a server that has imported the heavy packages once, so that a job costs no start-up.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pretrain.errors import InputError, RunError

PRELOAD = ["pretrain.train", "transfer.detection", "transfer.convert", "benchmarks.features", "benchmarks.datasets.registration"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """``target`` ("module:function") called with ``arguments`` in a fresh process, output to ``log``.

    ``then`` runs in the parent after success and returns follow-up jobs; ``lost`` runs in the parent when the
    job failed, with the reason. ``units`` is how many lines of work it stands for in the progress count.
    """

    name: str
    target: str
    arguments: dict[str, Any]
    log: Path
    then: Callable[[], list[Job]] | None = None
    lost: Callable[[str], None] | None = None
    report: Callable[[], str] | None = None


def _call(target: str, arguments: dict[str, Any], log: Path, pipe: Any) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    stream = log.open("a", buffering=1, encoding="utf-8")
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    module, function = target.split(":")
    try:
        getattr(importlib.import_module(module), function)(**arguments)
    except Exception as error:
        traceback.print_exc()
        known = isinstance(error, InputError | RunError)
        pipe.send(str(error) if known else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        raise SystemExit(1) from None
    stream.flush()


@dataclasses.dataclass
class _Running:
    job: Job
    process: Any
    pipe: Any
    started: float


def _reason(running: _Running) -> str | None:
    """Why the ended job failed, None if it did not."""
    code = running.process.exitcode
    if code == 0:
        return None
    if running.pipe.poll():
        return str(running.pipe.recv())
    killed = " (killed: out of memory?)" if code == -9 else ""
    return f"ended with status {code}{killed}, see {running.job.log}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_jobs(jobs: Iterable[Job], workers: int, expected: int) -> list[tuple[Job, str]]:
    """Run jobs and their follow-ups, at most ``workers`` at once; return the failed ones with their reasons.

    One line a finished job on stderr with the estimated time left (``expected`` jobs in all).
    """
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    queue, running, failed, done = list(jobs), [], [], 0
    begun = time.monotonic()
    try:
        while queue or running:
            while queue and len(running) < workers:
                job = queue.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_call, args=(job.target, job.arguments, job.log, sender))
                process.start()
                sender.close()
                running.append(_Running(job, process, receiver, time.monotonic()))
            ready = wait([item.process.sentinel for item in running])
            for item in [item for item in running if item.process.sentinel in ready]:
                running.remove(item)
                item.process.join()
                done += 1
                reason = _reason(item)
                follow = _finish(item.job, reason, failed)
                queue[:0] = follow
                elapsed = time.monotonic() - begun
                remaining = max(expected - done, len(queue) + len(running))
                eta = elapsed / done * remaining
                outcome = f"FAILED: {reason}" if reason else (item.job.report() if item.job.report else "done")
                seconds = time.monotonic() - item.started
                _say(f"[{done}/{done + remaining}] {item.job.name}: {outcome} · {seconds:.0f} s · about {eta:.0f} s left")
    finally:
        for item in running:
            item.process.terminate()
            item.process.join()
    return failed


def _finish(job: Job, reason: str | None, failed: list[tuple[Job, str]]) -> list[Job]:
    if reason is None:
        return job.then() if job.then else []
    failed.append((job, reason))
    if job.lost:
        job.lost(reason)
    return []
