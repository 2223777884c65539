"""One run in several processes of this machine, one per GPU, joined as pretrain.runtime.distributed joins them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmarks.executors.process import ended, follow_parent, one_line
from pretrain.common.errors import RunError, in_one_line
from pretrain.common.plugins import load_plugins
from pretrain.common.signals import signals_held
from pretrain.runtime.distributed import process_group

GRACE_SECONDS = 1.0  # for the failures of other processes, one of which may be the cause


def launch(world: int, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call ``target(*args)`` in ``world`` new processes that form a process group; return when all have ended.

    RunError with the reason of the first that fails, the others are then ended. All end with this process.
    """
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running: dict[Connection, Any] = {}
    try:
        for rank in range(world):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(rank, world, port, sender, target, args))
            with signals_held():
                process.start()
            sender.close()
            running[receiver] = process
        failures: list[tuple[int, str]] = []
        while running and (ready := wait(list(running), GRACE_SECONDS if failures else None)):
            for receiver in [one for one in running if one in ready]:
                if failure := _failure(receiver, running.pop(receiver)):
                    failures.append(failure)
        if failures:
            raise RunError(min(failures, key=lambda one: one[0])[1])
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _failure(receiver: Connection, process: Any) -> tuple[int, str] | None:
    """None from a process that has done its work, else the reason and its rank among several: 0 for a killed one, 1
    for a known error, 2 for others, such as that the killed one no longer answers."""
    try:
        found: tuple[int, str] | None = receiver.recv()
    except EOFError:
        process.join()
        return 0, ended(process.exitcode)
    process.join()
    return found


def _work(rank: int, world: int, port: int, sender: Connection, target: Callable[..., Any], args: Any) -> None:
    follow_parent()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with reporting(sender):
        load_plugins()
        with process_group(), reporting(sender):
            target(*args)
    sender.send(None)


@contextmanager
def reporting(sender: Connection) -> Iterator[None]:
    """Send an error's one line and end at once: leaving the group would wait for processes that wait for this one."""
    try:
        yield
    except Exception as error:
        sender.send((1 if in_one_line(error) else 2, one_line(error)))
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)
