"""What jobs ask Slurm for, without a Slurm."""

import dataclasses

import pytest

from benchmarks.executors import slurm, slurm_queue
from benchmarks.executors.base import Job
from benchmarks.executors.local import LocalExecutor
from benchmarks.executors.slurm import SlurmExecutor
from benchmarks.executors.slurm_options import Options, parse_options
from pretrain.common.errors import InputError


def test_a_kinds_own_value_counts_before_the_common_one_and_words_before_files(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        'partition = "gpu"\ngpus = 1\ntime = "8:00:00"\nsetup = ["module load cuda"]\n'
        '[detector]\ngpus = 8\nsbatch = { exclusive = true, reservation = "x" }\n[pretrain]\nnodes = 2\n'
    )
    found = parse_options([str(path), "pretrain.nodes=4", "at_most=20"])
    assert set(found) == {"frozen", "finetune", "detector", "pretrain"}
    assert found["frozen"] == Options(partition="gpu", gpus=1, time="8:00:00", setup=("module load cuda",), at_most=20)
    assert found["detector"].gpus == 8 and found["detector"].sbatch == {"exclusive": True, "reservation": "x"}
    assert found["finetune"] == found["detector"]  # it trains the same networks
    assert found["pretrain"].nodes == 4
    assert parse_options(["import.cpus=2"])["import"].cpus == 2


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 2), ("2:00:00", 120), ("1-0", 1440), ("1-2:30", 1590), ("2-0:0:1", 2881), ("0:0:59", 1)],
)
def test_times_are_slurms(text, minutes):
    assert Options(time=text).minutes == minutes


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("partitions=x", "--slurm partitions=x: unknown partitions: did you mean partition?"),
        ("detectors.gpus=1", "unknown detectors: did you mean detector?"),
        ("gpus=many", "gpus is 'many': give a whole number, 0 or more"),
        ("gpus=1.5", "gpus is '1.5'"),
        ("nodes=0", "give a whole number, 1 or more"),
        ("time=soon", "give minutes, or"),
        ("time=0", "give minutes, or"),
        ("sbatch=x", "give a table of sbatch's options"),
        ("/nowhere.toml", "give a TOML file or KEY=VALUE (No such file"),
        ("FILE:gpus =", "not TOML"),
        ("FILE:[detection]\ngpus = 1", "[detection]: unknown detection: did you mean detector?"),
        ("FILE:gpus = true", "gpus is True"),
        ('FILE:sbatch = { signal = "USR1" }', "give a table of sbatch's options but"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, word, said):
    if word.startswith("FILE:"):
        (tmp_path / "x.toml").write_text(word.removeprefix("FILE:"))
        word = str(tmp_path / "x.toml")
    with pytest.raises(InputError) as caught:
        parse_options([word])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def executor(*words):
    return SlurmExecutor(options=parse_options(words), here=LocalExecutor(workers=1))


def test_nodes_and_gpus_of_a_job(monkeypatch):
    on = executor("gpus=4", "detector.nodes=2", "pretrain.nodes=2", "pretrain.gpus=8")
    small = Job(name="x", target="", arguments={}, kind="frozen", gpus=1)
    assert on.request(small) == (1, 1, 1)
    assert on.request(dataclasses.replace(small, gpus=0)) == (1, 0, 0)
    assert on.request(dataclasses.replace(small, kind="detector", gpus=4)) == (1, 4, 4)
    assert on.request(dataclasses.replace(small, kind="detector", gpus=8)) == (2, 4, 4)
    assert on.request(dataclasses.replace(small, kind="pretrain")) == (2, 8, 8)
    assert executor().request(small) == (1, 0, 1)  # nodes without GPUs
    with pytest.raises(InputError, match="8 GPUs, and a node for frozen has 4: give --num-gpus 4"):
        on.request(dataclasses.replace(small, gpus=8))
    with pytest.raises(InputError, match="6 GPUs, and a node for detector has 4"):
        on.request(dataclasses.replace(small, kind="detector", gpus=6))
    monkeypatch.setenv("CPU_PROCESSES", "2")
    assert executor("detector.nodes=2").request(dataclasses.replace(small, kind="detector", gpus=4)) == (2, 0, 2)
    assert on.is_here(Job(name="x", target="", arguments={}, kind="import")) and not on.is_here(small)


def test_sbatch_gets_what_was_asked_for(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/a b")
    options = Options(partition="p", memory_gb=1.5, cpus=3, time="1:00:00", at_most=7, sbatch={"reservation": "r"})
    found = slurm._parameters("name", options, (2, 4, 4))
    assert found["partition"] == "p" and found["mem"] == "1536MB" and found["time"] == 60 and found["nodes"] == 2
    assert found["gpus_per_node"] == 4 and found["cpus_per_task"] == 3 and found["array_parallelism"] == 7
    assert found["setup"] == [f"export PYTHONPATH='{slurm.CHECKOUT}:/a b'"] and "account" not in found
    assert found["additional_parameters"] == {"requeue": True, "ntasks-per-node": 1, "reservation": "r"}


def test_without_slurm_the_command_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="no sbatch here"):
        slurm_queue.require_slurm()
