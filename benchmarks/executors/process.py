"""The process that a job runs in: it ends with its parent, writes to the job's log, and sends back a value or an error.

Imports no torch.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pretrain.common.errors import in_one_line
from pretrain.common.plugins import load_plugins
from pretrain.common.signals import SIGNALS


def ended(status: int) -> str:
    """How a process ended that sent no result: its signal or exit status."""
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
    """Only the parent ends this process: by SIGTERM, or by its own end, of whatever cause.

    For a process started within ``signals_held``. Ctrl-C, which reaches every process of a terminal, is ignored.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def fork_loaders() -> None:
    """Let this process fork its loader processes, as a program does that was started by itself.

    By itself Python starts them as it has started this process. A server's would have the server for their parent: they
    end at once (pretrain.common.signals.leave_signals_to_parent), or outlive a killed run. Spawned ones import
    everything again, which takes seconds and 0.4 GB each.
    """
    multiprocessing.set_start_method("fork", force=True)


def call(target: str, arguments: dict[str, Any], environment: dict[str, str], log: Path | None, pipe: Any) -> None:
    """Call ``target`` in this process; (True, its value) or (False, the reason in one line) goes through ``pipe``."""
    follow_parent()
    fork_loaders()
    os.environ.update(environment)  # the server's own environment may have another RESULTS_DIR
    with (log or Path(os.devnull)).open("a", buffering=1, encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream
        module, function = target.split(":")
        try:
            load_plugins()
            pipe.send((True, getattr(importlib.import_module(module), function)(**arguments)))
        except Exception as error:
            pipe.send((False, one_line(error)))
            with suppress(OSError):  # a full disk
                traceback.print_exception(error)


def one_line(error: Exception) -> str:
    """The error in one line: the message of a known error, else its type and first line."""
    if known := in_one_line(error):
        return known.splitlines()[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's spawn wraps a child's traceback, whose last line says what happened.
    spawned = type(error).__name__ == "ProcessRaisedException"
    return ": ".join([type(error).__name__, *(lines[-1:] if spawned else lines[:1])])
