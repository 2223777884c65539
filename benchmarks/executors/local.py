"""Run jobs in parallel on this machine, each in its own process with one thread: a crash costs one job.

The processes fork from a server that has imported the heavy packages once, so that jobs start at once. If there
are GPUs, a job gets as many as it asks for and sees no others. Imports no torch.
"""

from __future__ import annotations

import atexit
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any

from benchmarks.executors.base import Job, Outcome, finished
from benchmarks.executors.process import call, ended
from benchmarks.executors.progress import count_and_time_left, last_line, minutes, say, time_left
from pretrain.common.errors import RunError
from pretrain.common.signals import signals_held

PRELOAD = [
    "pretrain.train",
    "transfer.checkpoints.convert",
    "benchmarks.tasks.compute.logistic",
    "benchmarks.tasks.compute.detector",
]
HEARTBEAT_SECONDS = 20.0
GRACE_SECONDS = 30.0  # for jobs to end after SIGTERM: pretraining saves


@dataclasses.dataclass(frozen=True)
class _Running:
    job: Job
    process: Any
    pipe: Any
    started: float
    gpus: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started

    def progress(self) -> str:
        """One line: how long it has been running, and the last line of its log."""
        last = last_line(self.job.log) or "starting"
        return f"  … {self.job.name} ({minutes(self.seconds)}): {last[:120]}"

    def outcome(self) -> tuple[bool, Any]:
        """(True, the function's value) or (False, the error in one line). Waits for the process to end."""
        try:
            found: tuple[bool, Any] | None = self.pipe.recv()
        except (EOFError, OSError):  # it ended before, or while it sent
            found = None
        self.process.join()
        return found or (False, ended(self.process.exitcode))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """At most ``workers`` jobs at once; with ``gpus`` (their names in CUDA_VISIBLE_DEVICES) no two share one.

    Jobs start in order: none overtakes a job that waits for free GPUs. ``preload``: whether the server imports the
    heavy packages, which pays for more than one job.
    """

    workers: int
    gpus: tuple[str, ...] = ()
    preload: bool = True

    def run(self, jobs: Iterable[Job], *, say_failures: bool = True, say_done: bool = True) -> Outcome:
        """See executors.base.Executor."""
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD if self.preload else [])
        with signals_held():  # the server must outlive its jobs; each job unblocks signals for itself
            forkserver.ensure_running()
        atexit.register(_end_server)  # a signal may arrive between two calls
        queue, follow_ups, done, outcome = list(jobs), 0, 0, Outcome()  # the first ``follow_ups`` of the queue
        running: list[_Running] = []
        try:
            while queue or running:
                while queue and (taken := self._room(queue[0], running)) is not None:
                    running.append(_start(queue.pop(0), context, taken if self.gpus else None))
                    follow_ups = max(0, follow_ups - 1)
                ready = wait([item.pipe for item in running], HEARTBEAT_SECONDS)
                if not ready:
                    say(*(item.progress() for item in running))
                for item in [item for item in running if item.pipe in ready]:
                    running.remove(item)
                    good, value = item.outcome()
                    done += 1
                    reason, new = finished(item.job, good, value, outcome, item.seconds)
                    queue[follow_ups:follow_ups] = new
                    follow_ups += len(new)
                    if say_failures if reason else say_done:
                        text = f"FAILED: {reason}" if reason else item.job.report(value)
                        count, _, left = self._progress(done, running, queue).partition(" ")
                        say(f"[{count}] {item.job.name}: {text} · {minutes(item.seconds)}{left and f' {left}'}")
        except BaseException:
            _end(running)
            raise
        return outcome

    def _room(self, job: Job, running: Sequence[_Running]) -> tuple[str, ...] | None:
        """The GPUs for ``job``, () if there are none; None if it has to wait."""
        used = {name for item in running for name in item.gpus}
        free = tuple(name for name in self.gpus if name not in used)
        needed = min(job.gpus, len(self.gpus))
        return free[:needed] if len(running) < self.workers and needed <= len(free) else None

    def _progress(self, done: int, running: Sequence[_Running], queue: Sequence[Job]) -> str:
        jobs = [*(item.job for item in running), *queue]
        to_come = sum(job.follows for job in jobs)
        spent = [(item.job.estimate(), item.seconds) for item in running]
        left = None if to_come else time_left(spent, [job.estimate() for job in queue], self.workers)
        return count_and_time_left(done, len(running), len(queue) + to_come, left)


def _start(job: Job, context: Any, gpus: tuple[str, ...] | None) -> _Running:
    """Start ``job`` in a process that sees only ``gpus``; None: with the environment unchanged."""
    job = _with_log(job)
    receiver, sender = context.Pipe(duplex=False)
    environment = dict(os.environ) | ({} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)})
    arguments = (job.target, job.arguments, environment, job.log, sender)
    process = context.Process(target=call, args=arguments, name=job.name)
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise RunError("the process that starts jobs was killed: the same command continues") from error
    sender.close()
    return _Running(job, process, receiver, time.monotonic(), gpus or ())


def _with_log(job: Job) -> Job:
    """``job``, without a log if none can be written: a finished job needs none, others fail by themselves."""
    if job.log is None:
        return job
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.open("a").close()
    except OSError as error:
        say(f"{job.name}: no log, since {job.log} cannot be written ({error.strerror})")
        return dataclasses.replace(job, log=None)
    return job


def _end(running: Sequence[_Running]) -> None:
    """End the running jobs, whose results are no longer needed, and the server that forked them."""
    for process in multiprocessing.active_children():  # also one that was starting
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for item in running:
        # The pipe closes with the last process that holds it: the job's own, or its loader workers.
        with suppress(EOFError, OSError):
            while item.pipe.poll(max(0.0, deadline - time.monotonic())):
                item.pipe.recv()
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    _end_server()


def _end_server() -> None:
    """Kill the server at once: while it is still importing it would not notice that its parent ended."""
    if server := getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None):
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
