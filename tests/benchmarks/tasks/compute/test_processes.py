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


def counts(folder):
    for number in range(3):
        yield mean_over_ranks(torch.tensor(float(rank() + number))).item()
        (folder / f"{rank()}-{number}").touch()


@pytest.mark.slow
def test_the_first_process_s_values_arrive_as_they_are_yielded(tmp_path):
    assert list(launch(2, counts, (tmp_path,))) == [0.5, 1.5, 2.5]
    assert len(list(tmp_path.iterdir())) == 6
    values = launch(1, counts, (tmp_path,))  # in this process
    assert next(values) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("how", "words"), [("error", "^no such image$"), ("killed", "SIGKILL")])
def test_the_first_failure_ends_them_all_in_one_line(how, words):
    with pytest.raises(RunError, match=words):
        list(launch(2, fails, (how,)))
    assert "RANK" not in os.environ
