"""Several processes as one run; test_finetune.py has one that succeeds."""

import os
import signal

import pytest
import torch

from benchmarks.tasks.compute.processes import launch
from pretrain.common.errors import InputError, RunError
from pretrain.runtime.distributed import mean_over_ranks, rank


def fails(how):
    if rank() == 1 and how == "error":
        raise InputError("no such image")
    if rank() == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    mean_over_ranks(torch.ones(1))  # waits for the other process


@pytest.mark.slow
@pytest.mark.parametrize(("how", "words"), [("error", "^no such image$"), ("killed", "SIGKILL")])
def test_the_first_failure_ends_them_all_in_one_line(how, words):
    with pytest.raises(RunError, match=words):
        launch(2, fails, (how,))
    assert "RANK" not in os.environ
