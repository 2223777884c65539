"""One piece of work in several processes that share a process group, or in this one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch.multiprocessing as multiprocessing
from torch.multiprocessing.spawn import ProcessException

from benchmarks.executors.process import one_line
from pretrain.common.errors import RunError
from pretrain.common.plugins import load_plugins
from pretrain.runtime.distributed import process_group, rank

Work = Callable[..., Iterator[Any]]


def launch(world: int, work: Work, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """What ``work(*arguments)`` yields in the first of ``world`` processes (picklable), as soon as it does.

    One process is this one. RunError with the reason, in one line, of the first process that failed.
    """
    if world == 1:
        yield from work(*arguments)
        return
    found = multiprocessing.get_context("spawn").SimpleQueue()
    started = multiprocessing.spawn(_process, (world, _free_port(), work, arguments, found), nprocs=world, join=False)
    assert started is not None  # join=False
    try:
        over = False
        while not over:
            over = started.join(timeout=0.1)
            yield from _values(found)
    except ProcessException as error:  # of any process: the reason of the first is in the queue
        yield from _values(found)
        raise RunError(f"one of {world} processes ended: {one_line(error)}") from error
    finally:
        for process in started.processes:
            process.kill()


def _values(found: Any) -> Iterator[Any]:
    """The values that have arrived. RunError for an error among them."""
    while not found.empty():
        error, value = found.get()
        if error:
            raise RunError(error)
        yield value


def _process(place: int, world: int, port: int, work: Work, arguments: tuple[Any, ...], found: Any) -> None:
    names = {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    load_plugins()
    with process_group():
        try:
            for one in work(*arguments):
                if rank() == 0:
                    found.put((None, one))
        except Exception as error:  # put before the group closes, at which the others fail as well
            found.put((one_line(error), None))
            raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
