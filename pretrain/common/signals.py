"""Signals that ask a command to end: SIGINT (Ctrl-C), SIGTERM (schedulers) and SIGHUP (the terminal was closed).

A command ends in one line with status 128 + the signal's number. Training notes the signal and saves first; the same
command continues.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
AGAIN_SECONDS = 1.0  # terminals, make and torchrun send one request by two ways: a signal this soon is the same request

_LEFT = "ignore:resource_tracker"  # it says, and mends, that processes ended by a signal have left semaphores

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {WORDS[signal.Signals(number)]}")
        self.status = 128 + number


def _handle(handler: Handler) -> dict[signal.Signals, signal.Handlers | Handler | int | None]:
    """Set ``handler`` for SIGNALS and return what was there; a signal that is ignored (nohup, &) stays ignored."""
    return {one: signal.signal(one, handler) for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}


def raise_on_signals() -> None:
    """From now on the first of SIGNALS raises Stopped in the main thread, and one that comes later ends the process.

    Call it in the main thread.
    """
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        first.append(time.monotonic())
        if len(first) == 1:
            raise Stopped(number)
        if first[-1] - first[0] > AGAIN_SECONDS:  # ending in order takes too long: children see that this one is gone
            os._exit(128 + number)

    _handle(stop)


def ignore_signals() -> None:
    """Also to the very end of the process, before which Python gives its own handlers up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_noted() -> Iterator[Callable[[], int]]:
    """Within the block a signal makes the function that is yielded return its number, which is 0 before.

    A second Ctrl-C raises Stopped, for a step that never ends. Elsewhere than in the main thread, where handlers cannot
    be set, the function returns 0 and signals end the program as ever.
    """
    received: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))
        if number == signal.SIGINT and received[-1][1] - received[0][1] > AGAIN_SECONDS:
            raise Stopped(number)

    def first() -> int:
        return received[0][0] if received else 0

    if threading.current_thread() is not threading.main_thread():
        yield first
        return
    before = _handle(note)
    try:
        yield first
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """SIGNALS wait until the end of the block; a process started in it has them blocked until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        sys.warnoptions.append(_LEFT)
        resource_tracker.ensure_running()  # by itself it leaves out SIGHUP alone; its start unblocks the others here
        sys.warnoptions.remove(_LEFT)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(worker: int) -> None:
    """For loader processes: signals often go to the whole group, and the last save needs an end in order.

    A loader ends when its parent closes it or is gone. torch's own watch begins after this call, and would take a
    parent that is already gone for another one.
    """
    ignore_signals()
    parent = multiprocessing.parent_process()
    if parent and os.getppid() != parent.pid:
        os._exit(1)
