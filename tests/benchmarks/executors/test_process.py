"""How a job's process says that it ended."""

import pytest

from benchmarks.executors.process import ended, one_line
from pretrain.common.errors import RunError


def test_an_error_in_one_line():
    class ProcessRaisedException(Exception):
        """As torch's, by name."""

    assert one_line(ProcessRaisedException("\n\n-- Process 0\nTraceback\nValueError: no GPU\n")).endswith(
        "ValueError: no GPU"
    )
    assert one_line(AssertionError()) == "AssertionError"
    assert one_line(KeyError("segm")) == "KeyError: 'segm'"
    assert one_line(RunError("did not load")) == "did not load"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-9, "status -9 (SIGKILL; killed, perhaps because memory ran out: lower --workers)"),
        (-7, "SIGBUS; perhaps because the disk"),
        (-6, "SIGABRT; as libraries do when memory runs out"),
        (-11, "status -11 (SIGSEGV)"),
        (-40, "status -40 (signal 40)"),
        (1, "the process ended with status 1"),
    ],
)
def test_how_a_process_ended(status, words):
    assert words in ended(status)
