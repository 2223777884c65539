"""Several processes as one run."""

import os
import signal

import pytest
import torch

from benchmarks.tasks.compute.processes import launch
from pretrain.common.errors import InputError, RunError
from pretrain.runtime.distributed import mean_over_ranks, rank


def average(folder, value):
    torch.save(mean_over_ranks(torch.tensor(float(rank() + value))), folder / f"{rank()}.pt")


def fails(how):
    if rank() == 1 and how == "error":
        raise InputError("no such image")
    if rank() == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    mean_over_ranks(torch.ones(1))  # waits for the other process


def test_the_processes_form_a_group(tmp_path):
    launch(2, average, (tmp_path, 3))
    assert [torch.load(tmp_path / f"{number}.pt").item() for number in range(2)] == [3.5, 3.5]
    assert "RANK" not in os.environ


@pytest.mark.parametrize(("how", "words"), [("error", "^no such image$"), ("killed", "SIGKILL")])
def test_the_first_failure_ends_them_all_in_one_line(how, words):
    with pytest.raises(RunError, match=words):
        launch(2, fails, (how,))
