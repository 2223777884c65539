"""Jobs side by side, each in a process of its own with one thread: a crash costs one job. Imports no torch.

The processes fork from a server that has imported the heavy packages once, so that a job costs no start-up.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pretrain.errors import InputError, in_one_line
from pretrain.stopping import SIGNALS, signals_held

PRELOAD = ["pretrain.train", "transfer.convert", "benchmarks.linear", "benchmarks.knn", "benchmarks.detection"]
HEARTBEAT_SECONDS = 20.0
GRACE_SECONDS = 30.0  # for jobs to end after SIGTERM: pretraining saves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """``target`` ("module:function") called with ``arguments`` in a fresh process, its output appended to any ``log``.

    In the parent, after success: ``then(value)`` gives follow-up jobs and ``report(value)`` the progress line's text.
    After a failure: ``lost(reason)``. ``stage`` is what its time is booked under. For the time left: ``weight`` is how
    long the job takes beside the others, in any unit, and ``follows`` the weights of the jobs that ``then`` will give.
    """

    name: str
    stage: str = ""
    target: str
    arguments: dict[str, Any]
    log: Path | None = None
    then: Callable[[Any], list[Job]] = lambda value: []
    report: Callable[[Any], str] = lambda value: "done"
    lost: Callable[[str], None] = lambda reason: None
    weight: float = 1.0
    follows: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of jobs: the failed ones with their reasons, and the seconds of every job by stage, in order."""

    failed: list[tuple[Job, str]] = dataclasses.field(default_factory=list)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Running:
    job: Job
    process: Any
    pipe: Any
    started: float

    def progress(self) -> str:
        """One line: how long it has been running and the last thing its log says."""
        lines = []
        if self.job.log and self.job.log.exists():
            with self.job.log.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 400))
                lines = stream.read().decode(errors="replace").replace("\r", "\n").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "starting")
        return f"  … {self.job.name} ({minutes(time.monotonic() - self.started)}): {last[:120]}"

    def outcome(self) -> tuple[bool, Any]:
        """(True, the function's value) or (False, one line why not). Waits for the end of the process."""
        try:
            found: tuple[bool, Any] | None = self.pipe.recv()
        except (EOFError, OSError):  # it ended before, or while it sent
            found = None
        self.process.join()
        return found or (False, ended(self.process.exitcode))


def ended(status: int) -> str:
    """How a process ended that left no word: by which signal or with which status."""
    if status >= 0:
        return f"the process ended with status {status}"
    names = {one.value: one.name for one in signal.Signals}
    hints = {
        "SIGKILL": "; killed, perhaps because memory ran out: lower --workers",
        "SIGABRT": "; as libraries do when memory runs out: lower --workers",
        "SIGBUS": "; perhaps because the disk or the shared memory (/dev/shm) is full",
    }
    name = names.get(-status, f"signal {-status}")
    return f"the process ended with status {status} ({name}{hints.get(name, '')})"


def follow_parent() -> None:
    """Only the parent ends this process, by SIGTERM, or by its own end, however that came.

    For a process that was started within ``signals_held``. Ctrl-C, which reaches all of a terminal, does nothing.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _call(target: str, arguments: dict[str, Any], environment: dict[str, str], log: Path | None, pipe: Any) -> None:
    follow_parent()
    os.environ.update(environment)  # the server keeps what it was started with, in which RESULTS_DIR may be another
    with (log or Path(os.devnull)).open("a", buffering=1, encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream
        module, function = target.split(":")
        try:
            pipe.send((True, getattr(importlib.import_module(module), function)(**arguments)))
        except Exception as error:
            pipe.send((False, one_line(error)))
            with suppress(OSError):  # a full disk
                traceback.print_exception(error)


def one_line(error: Exception) -> str:
    """The error as one line: for people if it can be, else its type and its first words."""
    if known := in_one_line(error):
        return known.splitlines()[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's spawn wraps a child's traceback, whose last line says what happened.
    spawned = type(error).__name__ == "ProcessRaisedException"
    return ": ".join([type(error).__name__, *(lines[-1:] if spawned else lines[:1])])


def _start(job: Job, context: Any) -> _Running:
    job = _with_log(job)
    receiver, sender = context.Pipe(duplex=False)
    arguments = (job.target, job.arguments, dict(os.environ), job.log, sender)
    process = context.Process(target=_call, args=arguments, name=job.name)
    process.start()
    sender.close()
    return _Running(job, process, receiver, time.monotonic())


def _with_log(job: Job) -> Job:
    """``job``, without a log where none can be written: what is done already needs none, the rest fails by itself."""
    if job.log is None:
        return job
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.open("a").close()
    except OSError as error:
        _say(f"{job.name}: no log, since {job.log} cannot be written ({error.strerror})")
        return dataclasses.replace(job, log=None)
    return job


def _end(running: Sequence[_Running]) -> None:
    """End jobs whose results nobody waits for, and the server that they were forked from."""
    for process in multiprocessing.active_children():  # also one that was starting
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for item in running:
        # The pipe closes with the last process that has it: the job's own, or its loaders.
        with suppress(EOFError, OSError):
            while item.pipe.poll(max(0.0, deadline - time.monotonic())):
                item.pipe.recv()
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    _end_server()


def _end_server() -> None:
    """At once: it may be importing still, and would see only then that nobody needs it."""
    if server := getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None):
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    """The seconds, as people read them."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def time_left(
    done: Sequence[tuple[float, float]],
    running: Sequence[tuple[float, float]],
    waiting: Sequence[float],
    workers: int,
) -> float | None:
    """Seconds until all is done, from (weight, seconds) of done and running jobs and the weights of those to come.

    None as long as less than a twentieth of the whole weight is done: too little to tell.
    """
    finished = sum(weight for weight, _ in done)
    if finished < (finished + sum(weight for weight, _ in running) + sum(waiting)) / 20:
        return None
    pace = sum(seconds for _, seconds in done) / finished
    rest = [max(0.0, weight * pace - seconds) for weight, seconds in running]
    return max([(sum(rest) + sum(waiting) * pace) / workers, *rest])


def check_jobs(jobs: list[Job], workers: int, say_done: bool = True) -> None:
    """Run jobs that judge input and write nothing; InputError with their reasons in one line if any fails."""
    if failed := run_jobs(jobs, workers, say_failures=False, say_done=say_done).failed:
        raise InputError("; ".join(dict.fromkeys(reason for _, reason in failed)))


def _count_and_time_left(
    done: Sequence[tuple[float, float]], running: Sequence[_Running], queue: Sequence[Job], workers: int, now: float
) -> tuple[str, str]:
    """``3/16`` and `` · about 12.0 min left``, the latter empty when nothing is left or too little is known."""
    pairs = [(item.job.weight, now - item.started) for item in running]
    ahead = [weight for job in [*(item.job for item in running), *queue] for weight in job.follows]
    waiting = [*(job.weight for job in queue), *ahead]
    left = time_left(done, pairs, waiting, workers)
    eta = f" · about {minutes(left)} left" if (running or queue) and left is not None else ""
    return f"{len(done)}/{len(done) + len(running) + len(waiting)}", eta


def run_jobs(jobs: Iterable[Job], workers: int, say_failures: bool = True, say_done: bool = True) -> Ran:
    """Run jobs and their follow-ups, at most ``workers`` at once.

    Follow-ups go first, in the order they came, so that a checkpoint's row is finished before the next one is begun.
    One line a finished job on stderr, with the time left as estimated from the jobs so far.
    """
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with signals_held():  # the server is not to end while jobs do, and a job unblocks them for itself
        forkserver.ensure_running()
    atexit.register(_end_server)  # a signal may come between two calls of this function
    queue, follow_ups, ran = list(jobs), 0, Ran()  # the first ``follow_ups`` of the queue
    running: list[_Running] = []
    done: list[tuple[float, float]] = []
    try:
        while queue or running:
            while queue and len(running) < workers:
                running.append(_start(queue.pop(0), context))
                follow_ups = max(0, follow_ups - 1)
            ready = wait([item.pipe for item in running], HEARTBEAT_SECONDS)
            if not ready:
                _say(*(item.progress() for item in running))
            for item in [item for item in running if item.pipe in ready]:
                running.remove(item)
                good, value = item.outcome()
                now = time.monotonic()
                done.append((item.job.weight, now - item.started))
                ran.seconds.setdefault(item.job.stage, []).append(now - item.started)
                if good:
                    new = item.job.then(value)
                    queue[follow_ups:follow_ups] = new
                    follow_ups += len(new)
                else:
                    ran.failed.append((item.job, value))
                    item.job.lost(value)
                if say_done if good else say_failures:
                    text = item.job.report(value) if good else f"FAILED: {value}"
                    count = _count_and_time_left(done, running, queue, workers, now)
                    _say(f"[{count[0]}] {item.job.name}: {text} · {minutes(now - item.started)}{count[1]}")
    except BaseException:
        _end(running)
        raise
    return ran
