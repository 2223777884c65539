"""Progress on stderr: one line per finished job, with the time left if all estimates are known. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def say(*lines: str) -> None:
    """Print each line on stderr."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    """``12 s``, or ``1.5 min`` from 90 seconds on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def last_line(log: Path | None) -> str:
    """The last line of a log that is not empty; "" where there is none."""
    try:
        with (log or Path(os.devnull)).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1000))
            lines = stream.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def time_left(
    running: Sequence[tuple[float | None, float]], waiting: Sequence[float | None], workers: int
) -> float | None:
    """Seconds until all is done, from (expected, spent) of the running jobs and the expected ones of those waiting.

    None if the time of any of them is unknown.
    """
    rest: list[float] = []
    for expected, spent in [*running, *((expected, 0.0) for expected in waiting)]:
        if expected is None:
            return None
        rest.append(max(0.0, expected - spent))
    return max([sum(rest) / workers, *rest], default=0.0)


def count_and_time_left(done: int, running: int, waiting: int, left: float | None) -> str:
    """``3/16`` with `` · about 12.0 min left`` after it, if that is known and something is left."""
    eta = f" · about {minutes(left)} left" if left is not None and (running or waiting) else ""
    return f"{done}/{done + running + waiting}{eta}"
