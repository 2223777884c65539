"""One run in several processes of this machine, one per GPU, joined as pretrain.runtime.distributed joins them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from torch.distributed import TCPStore

from benchmarks.executors.process import ended, follow_parent, fork_loaders, one_line
from pretrain.common.errors import RunError, in_one_line
from pretrain.common.plugins import load_plugins
from pretrain.common.signals import signals_held
from pretrain.runtime.distributed import process_group, world_size

GRACE_SECONDS = 1.0  # for the failures of other processes, one of which may be the cause
Work = Callable[..., Iterator[Any] | None]
Message = tuple[Literal["value", "failure", "done"], Any]


def launch(world: int, work: Work, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """The values that ``work(*arguments)`` yields in the first of ``world`` processes, which form a process group.

    One process is this one. Values are picklable, and arrive as soon as they are yielded. RunError with the reason of
    the first process that fails, the others are then ended. All end with this process.
    """
    if world == 1:
        yield from work(*arguments) or ()
        return
    running: dict[Connection, Any] = {}
    # Served from here, as torchrun does, so that no other process can take the port before the first one listens on it.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    try:
        _start(world, store.port, work, arguments, running)
        failures: list[tuple[int, str]] = []
        while running and (ready := wait(list(running), GRACE_SECONDS if failures else None)):
            for receiver in [one for one in running if one in ready]:
                kind, value = _message(receiver, running[receiver])
                if kind == "value":
                    yield value
                    continue
                running.pop(receiver).join()
                failures += [value] if kind == "failure" else []
        if failures:
            raise RunError(min(failures, key=lambda one: one[0])[1])
    finally:
        for process in running.values():
            process.kill()
            process.join()


def loaders(wanted: int) -> int:
    """Loader processes of this process: each GPU needs ``wanted``, as far as there are cores."""
    return min(wanted, max(1, (os.cpu_count() or 1) // world_size()))


def _start(world: int, port: int, work: Work, arguments: tuple[Any, ...], running: dict[Connection, Any]) -> None:
    """Start the processes and add each to ``running`` by the connection that it sends its messages through."""
    context = multiprocessing.get_context("spawn")
    for rank in range(world):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_process, args=(rank, world, port, sender, work, arguments))
        with signals_held():
            process.start()
        sender.close()
        running[receiver] = process


def _message(receiver: Connection, process: Any) -> Message:
    """The next message; of a process that ended without one its end.

    A failure has a rank among several: 0 of a killed process, 1 of a known error, 2 of others, such as that the killed
    one no longer answers.
    """
    try:
        found: Message = receiver.recv()
    except EOFError:
        process.join()
        return "failure", (0, ended(process.exitcode))
    return found


def _process(rank: int, world: int, port: int, sender: Connection, work: Work, arguments: Any) -> None:
    follow_parent()
    fork_loaders()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(True)  # the first process joins the store, as the others do
    with _reporting(sender):
        load_plugins()
        with process_group(), _reporting(sender):
            for value in work(*arguments) or ():
                if rank == 0:
                    sender.send(("value", value))
    sender.send(("done", None))


@contextmanager
def _reporting(sender: Connection) -> Iterator[None]:
    """Send an error's one line and end at once: leaving the group would wait for processes that wait for this one."""
    try:
        yield
    except Exception as error:
        sender.send(("failure", (1 if in_one_line(error) else 2, one_line(error))))
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)
