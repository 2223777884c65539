"""What runs inside a Slurm job: one job, in a process of its own as on one's own machine. Imports no torch.

submitit starts ``Task`` on the first of the job's nodes. When its time is nearly over (SIGUSR2), the work is asked to
end as by Ctrl-C, which saves what can be saved, and the job is put into the queue again.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from benchmarks.executors.base import Job
from benchmarks.executors.local import LocalExecutor
from pretrain.common.signals import signals_held

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

NODES, PER_NODE = "TRANSFER_NODES", "TRANSFER_PER_NODE"  # of the job: nodes, and GPUs (or processes) of each
KILLED_AFTER = 120.0  # seconds that Slurm takes at most from its SIGTERM to its SIGKILL


@dataclasses.dataclass
class Task:
    """Calls ``target`` with ``arguments`` under ``environment``, its output in ``log``."""

    name: str
    target: str
    arguments: dict[str, Any]
    log: Path | None
    environment: Mapping[str, str]
    grace: float

    def __call__(self) -> tuple[bool, Any, float]:
        """(True, the function's value) or (False, the reason in one line), and the seconds that it took."""
        begun, values, asked = time.monotonic(), [], list[int]()
        os.environ.update(self.environment)

        def note(number: int, frame: FrameType | None) -> None:
            asked.append(number)

        def keep(value: Any) -> list[Job]:
            values.append(value)
            return []

        signal.signal(signal.SIGTERM, note)
        _start_server()
        job = Job(name=self.name, target=self.target, arguments=self.arguments, log=self.log, then=keep)
        ran = LocalExecutor(workers=1, preload=False).run([job])
        if asked and ran.failed:  # not the work has failed: Slurm ends this job, and SIGKILL follows
            time.sleep(KILLED_AFTER)
            sys.exit(128 + asked[0])
        seconds = time.monotonic() - begun
        if ran.failed:
            return (
                False,
                f"{ran.failed[0][1]} (on {os.environ.get('SLURMD_NODENAME') or socket.gethostname()})",
                seconds,
            )
        return True, values[0], seconds

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the job is to end: end the work, and give what is to run next, which continues it."""
        from submitit.helpers import DelayedSubmission

        deadline = time.monotonic() + self.grace
        for process in multiprocessing.active_children():
            process.terminate()
        for process in multiprocessing.active_children():
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
        return DelayedSubmission(self)


def _start_server() -> None:
    """Start the server that forks the work, without SIGUSR2: Slurm sends it to every process of the job."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    with signals_held():
        multiprocessing.get_context("forkserver").set_forkserver_preload([])
        forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def allotted() -> tuple[int, int]:
    """Nodes of this Slurm job, and GPUs (or processes in their place) of each; (1, 0) elsewhere."""
    return int(os.environ.get(NODES) or 1), int(os.environ.get(PER_NODE) or 0)
