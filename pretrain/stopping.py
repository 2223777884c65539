"""A request to stop that training looks at between two steps.

Schedulers send SIGTERM some seconds before they kill: the loop then saves and ends with status 143 (128 + 15), and the
same command continues. Tested by ``python -m pytest tests/pretrain/test_resume.py``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 128 + signal.SIGTERM


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM only makes the function that is yielded true. Elsewhere than in the main thread: never.

    A thread cannot set handlers, so that training in one is ended by SIGTERM as any program.
    """
    received = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        received.set()

    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_sigterm_to_parent(worker: int) -> None:
    """For loader processes: schedulers signal the whole group, and the last save needs no loader, but an end in order.

    A loader ends when its parent closes it or is gone.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
