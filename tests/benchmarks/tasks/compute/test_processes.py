"""Several processes as one run; test_finetune.py has one that succeeds."""

import os
import signal

import pytest
import torch

from benchmarks.tasks.compute import processes
from benchmarks.tasks.compute.processes import launch, loaders
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


@pytest.mark.parametrize(
    ("wanted", "cores", "world", "expected"),
    [(8, 64, 8, 8), (8, 32, 8, 4), (8, 4, 8, 1), (8, 16, 1, 8), (0, 16, 2, 0)],
)
def test_every_gpu_has_its_loaders(monkeypatch, wanted, cores, world, expected):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(processes, "world_size", lambda: world)
    assert loaders(wanted) == expected
