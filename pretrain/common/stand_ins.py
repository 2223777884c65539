"""Processes on the CPU in place of GPUs, so that a run for several GPUs can be tried on a machine without any.

``CPU_PROCESSES=2 python -m benchmarks run …`` starts two processes joined by gloo where two GPUs would be used. The
settings, and so the identity, of a detector's run name the CPU. Imports no torch.
"""

from __future__ import annotations

import os

from pretrain.common.errors import InputError

VARIABLE = "CPU_PROCESSES"


def cpu_processes() -> int:
    """The number in CPU_PROCESSES; 0 where it is not set. InputError if it is not a number above 0."""
    given = os.environ.get(VARIABLE)
    if not given:
        return 0
    if not given.isascii() or not given.isdigit() or int(given) < 1:
        raise InputError(f"{VARIABLE}={given}: give a number of processes, 1 or more, or leave it out")
    return int(given)
