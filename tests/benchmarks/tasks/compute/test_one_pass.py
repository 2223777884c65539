"""Heads trained together, alone, after a kill, in two processes: always the same bits."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.predictions import Predictions
from benchmarks.tasks import named
from benchmarks.tasks.base import Result
from benchmarks.tasks.compute import linear_run, one_pass
from benchmarks.tasks.compute.linear_run import held_out
from benchmarks.tasks.compute.one_pass import train_heads
from pretrain.common.errors import InputError, RunError
from tests.benchmarks.contexts import context_of, tiny_root
from tests.benchmarks.tasks.small import checkpoint

TASKS = [task.name for task in named("linear-sgd")]


@pytest.fixture
def setting(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tiny_root(tmp_path / "toy"), checkpoint(tmp_path)


def contexts_of(setting, names, folder, **changes):
    root, checkpoint = setting
    contexts = [context_of(root, checkpoint, name, **changes) for name in names]
    return [dataclasses.replace(one, folder=folder / one.spec.task) for one in contexts]


def outcomes(contexts, views=None):
    found = dict(train_heads(contexts, views))
    assert sorted(found) == list(range(len(contexts)))
    return [found[place] for place in range(len(contexts))]


def heads(folder, names):
    return {name: load_file(folder / name / "head.safetensors") for name in names}


def same(one, other):
    return all(torch.equal(one[name][key], other[name][key]) for name in other for key in ("weight", "bias"))


def test_a_head_trained_beside_all_others_is_the_head_trained_alone(setting, tmp_path):
    together = outcomes(contexts_of(setting, TASKS, tmp_path / "together"))
    assert all(isinstance(one, Result) for one in together)
    beside = heads(tmp_path / "together", TASKS)
    for name, result in zip(TASKS, together, strict=True):
        (alone,) = outcomes(contexts_of(setting, [name], tmp_path / "alone"))
        assert alone.metrics == result.metrics and alone.config == result.config
        assert (alone.predictions.predicted == result.predictions.predicted).all()
    assert same(heads(tmp_path / "alone", TASKS), beside)
    assert result.config["backbone"].startswith("100 tensors have the checkpoint's sha256")


def test_metrics_are_those_of_the_kept_head_on_the_kept_predictions(setting, tmp_path):
    for name, result in zip(TASKS, outcomes(contexts_of(setting, TASKS, tmp_path)), strict=True):
        assert isinstance(result.predictions, Predictions)
        assert result.metrics["top1"] == pytest.approx(100 * result.predictions.correct.mean())
        history = result.config["top1_by_epoch"]
        assert result.metrics["top1_last"] == history[-1] and result.test_images == 30
        best = "the best epoch, chosen on the test images" in result.notes
        assert best == (result.config["reported"] == "best")
        assert result.metrics["top1"] == (max(history) if best else history[-1])
        assert name == "linear-sgd-grid" or len(history) == result.config["epochs"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [3, 11, 22, 30])  # saves of four runs, of three once pycontrast's epoch is over
def test_a_pass_that_was_killed_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(
    setting, tmp_path, monkeypatch, after
):
    """Five chunks per epoch; every chunk is saved, and the kill may come between two runs' saves."""
    names = ["linear-sgd-moco", "linear-sgd-simsiam", "linear-sgd-grid", "linear-sgd-pycontrast"]
    monkeypatch.setattr(one_pass, "PROFILES", {"smoke": dataclasses.replace(one_pass.PROFILES["smoke"], chunk=16)})
    monkeypatch.setattr(one_pass, "SAVE_SECONDS", -1.0)
    whole = outcomes(contexts_of(setting, names, tmp_path / "whole"))
    taken, save = [], linear_run.Run.save

    def killed(run, chunks):
        taken.append(chunks)
        if len(taken) == after:  # one of the runs is saved once less than the others
            raise Killed
        save(run, chunks)

    contexts, found = contexts_of(setting, names, tmp_path / "killed"), {}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(linear_run.Run, "save", killed)
        for place, outcome in train_heads(contexts, None):
            found[place] = outcome
    left = [place for place in range(4) if place not in found]
    rest = outcomes([contexts[place] for place in left])
    found |= dict(zip(left, rest, strict=True))
    assert same(heads(tmp_path / "killed", names), heads(tmp_path / "whole", names))
    assert [found[place].metrics for place in range(4)] == [one.metrics for one in whole]
    assert len(rest) == (4 if after < 19 else 3) and sum(one.resumed_at is not None for one in rest) >= len(rest) - 2
    assert not list((tmp_path / "killed").rglob("heads-*.pt"))


def test_two_processes_give_the_bits_of_one(setting, tmp_path):
    one = outcomes(contexts_of(setting, TASKS, tmp_path / "one"))
    two = outcomes(contexts_of(setting, TASKS, tmp_path / "two", processes=2))
    assert same(heads(tmp_path / "two", TASKS), heads(tmp_path / "one", TASKS))
    assert [other.metrics for other in two] == [result.metrics for result in one]
    cached = outcomes(contexts_of(setting, TASKS[:2], tmp_path / "cached", processes=2), views=2)
    again = outcomes(contexts_of(setting, TASKS[:2], tmp_path / "cached-one"), views=2)
    assert [other.metrics for other in cached] == [result.metrics for result in again]


def test_an_error_in_one_of_two_processes_is_one_line(setting, tmp_path):
    root, _ = setting
    path = next((root.path / "imagenet" / "train" / "class3").iterdir())
    path.write_bytes(b"no image")
    with pytest.raises(RunError, match=r"^cannot read image .*class3"):
        outcomes(contexts_of(setting, TASKS[:1], tmp_path / "two", processes=2))


def test_a_test_image_that_a_loader_process_cannot_read_is_one_line(setting, tmp_path):
    root, _ = setting
    path = next((root.path / "imagenet" / "val" / "class3").iterdir())
    path.write_bytes(b"no image")
    contexts = [dataclasses.replace(one, loader_workers=2) for one in contexts_of(setting, TASKS[:1], tmp_path / "x")]
    with pytest.raises(InputError, match=r"^cannot read image .*class3\S* \(cannot identify image file \S*\): repair"):
        outcomes(contexts)


def test_a_grid_without_a_held_out_image_fails_alone_and_says_so(setting, tmp_path):
    setting = tiny_root(tmp_path / "single", classes=2, train=1), setting[1]
    moco, grid = outcomes(contexts_of(setting, ["linear-sgd-moco", "linear-sgd-grid"], tmp_path))
    assert isinstance(moco, Result)
    assert isinstance(grid, InputError) and str(grid).startswith("no class has a second training image")


def test_a_rate_of_the_grid_is_chosen_on_images_that_its_head_never_saw(setting, tmp_path, monkeypatch):
    labels, seen = np.repeat(np.arange(6), 12), []
    mask = held_out(labels)
    assert [int(mask[labels == label].sum()) for label in range(6)] == [2] * 6
    assert held_out(np.repeat([0, 1], 500)).sum() == 40
    assert held_out(np.array([0, 1, 1, 2])).tolist() in ([False, True, False, False], [False, False, True, False])
    take, take_rows = linear_run.Run.take, linear_run.Head.take

    def spied(run, chunk):
        counts.clear()
        take(run, chunk)
        seen.append((chunk.rows, list(counts)))

    def counted(head, x, y):
        counts.append((head.rows, len(y)))
        take_rows(head, x, y)

    counts = []
    monkeypatch.setattr(linear_run.Run, "take", spied)
    monkeypatch.setattr(linear_run.Head, "take", counted)
    (result,) = outcomes(contexts_of(setting, ["linear-sgd-grid"], tmp_path))
    for rows, taken in seen:
        assert taken == [(72, len(rows))] * 8 + [(60, int((~mask[rows]).sum()))] * 8
    tried = {one["learning_rate"]: one["held_out_top1"] for one in result.config["tried"]}
    assert len(tried) == 8 and result.config["held_out_images"] == 12
    best = max(tried.values())
    assert result.config["learning_rate"] == min(rate for rate, value in tried.items() if value == best)


def test_a_head_that_diverges_fails_alone(setting, tmp_path, monkeypatch):
    contexts = contexts_of(setting, ["linear-sgd-moco", "linear-sgd-vicreg"], tmp_path)
    style = linear_run.style_of
    wild = dataclasses.replace(style("linear-sgd-moco"), learning_rates=(1e38,))
    monkeypatch.setattr(linear_run, "style_of", lambda task: wild if task == "linear-sgd-moco" else style(task))
    moco, vicreg = outcomes(contexts)
    assert isinstance(moco, RunError) and "the head diverged in epoch 1" in str(moco)
    assert isinstance(vicreg, Result)


def test_interrupted_runs_and_new_ones_are_passes_of_their_own(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(one_pass, "SAVE_SECONDS", -1.0)
    contexts = contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "x")
    iterator = train_heads(contexts[:1], None)
    save = linear_run.Run.save

    def killed(run, chunks):
        save(run, chunks)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(linear_run.Run, "save", killed)
        list(iterator)
    moco, swav = outcomes(contexts)
    assert moco.resumed_at == 1 and swav.resumed_at is None
    expected = outcomes(contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "y"))
    assert [moco.metrics, swav.metrics] == [one.metrics for one in expected]


def interrupted(contexts, monkeypatch, at):
    """Kill the pass at the ``at``-th save of a run; the numbers of the runs' saves."""
    taken, save = [], linear_run.Run.save

    def killed(run, chunks):
        taken.append(chunks)
        if len(taken) == at:
            raise Killed
        save(run, chunks)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(linear_run.Run, "save", killed)
        list(train_heads(contexts, None))
    return [[int(path.stem[6:]) for path in sorted(one.folder.glob("heads-*.pt"))] for one in contexts]


def test_runs_that_were_killed_twice_between_their_saves_stay_in_one_pass(setting, tmp_path, monkeypatch):
    """The second time the saves are at other chunks than the first: what the first left beyond them has to go."""
    monkeypatch.setattr(one_pass, "PROFILES", {"smoke": dataclasses.replace(one_pass.PROFILES["smoke"], chunk=8)})
    contexts = contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "x")
    calls = []

    def every_third(flag, saves=(3, 6)):
        calls.append(flag)
        return (len(calls) in saves,)

    monkeypatch.setattr(one_pass, "any_rank", every_third)
    assert interrupted(contexts, monkeypatch, at=4) == [[3, 6], [3]]
    calls.clear()
    monkeypatch.setattr(one_pass, "any_rank", lambda flag: every_third(flag, saves=(1, 2)))
    assert interrupted(contexts, monkeypatch, at=4) == [[4, 5], [3, 4]]
    passes, one_pass_ = [], one_pass._pass

    def spied(runs, start, *rest):
        passes.append((len(runs), start))
        yield from one_pass_(runs, start, *rest)

    monkeypatch.setattr(one_pass, "_pass", spied)
    found = outcomes(contexts)
    assert passes == [(2, 4)]
    expected = outcomes(contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "y"))
    assert [one.metrics for one in found] == [one.metrics for one in expected]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-500], lambda content: b"x" * 9000])
def test_a_damaged_save_is_named_and_the_one_before_it_taken(setting, tmp_path, monkeypatch, capfd, damage):
    monkeypatch.setattr(one_pass, "SAVE_SECONDS", -1.0)
    contexts = contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "x")
    assert interrupted(contexts, monkeypatch, at=5) == [[1, 2], [1, 2]]
    newest = contexts[1].folder / "heads-0000000002.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    found = outcomes(contexts)
    assert f"{newest} is damaged" in capfd.readouterr().err
    assert [one.resumed_at for one in found] == [1, 1] and not list((tmp_path / "x").rglob("heads-*.pt"))
    expected = outcomes(contexts_of(setting, ["linear-sgd-moco", "linear-sgd-swav"], tmp_path / "y"))
    assert [one.metrics for one in found] == [one.metrics for one in expected]


def test_a_disk_that_is_full_at_the_end_leaves_the_saves(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(one_pass, "SAVE_SECONDS", -1.0)
    contexts = contexts_of(setting, ["linear-sgd-moco"], tmp_path / "x")

    def full(predictions, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Predictions, "save", full)
        list(train_heads(contexts, None))
    (again,) = outcomes(contexts)
    assert again.resumed_at and not list((tmp_path / "x").rglob("heads-*.pt"))


def test_cached_crops_are_at_most_one_per_epoch_and_the_record_has_their_number(setting, tmp_path):
    names = ["linear-cached-moco", "linear-cached-pycontrast"]  # of two epochs, and of one
    many, one = (outcomes(contexts_of(setting, names, tmp_path / str(views)), views=views) for views in (50, 1))
    assert [result.config["views"] for result in many] == [2, 1]
    assert [result.config["views"] for result in one] == [1, 1]
    assert len(list((tmp_path / "results" / "features").glob("*-crops-*/view1-*.npy"))) == 2


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(tmp_path):
    """As a user meets it: records of every style, the weights of an undisturbed run."""
    tiny_root(tmp_path / "toy", train=60)
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "r18.pth")

    def command(results):
        words = ["-m", "benchmarks", "run", "--task", "linear-sgd", "--checkpoint", f"r={tmp_path / 'r18.pth'}"]
        words += ["--data", str(tmp_path / "toy"), "--profile", "smoke", "--workers", "1"]
        patch = "import benchmarks.tasks.compute.one_pass as one; one.SAVE_SECONDS = 0.02"
        (tmp_path / "often.py").write_text(patch)
        environment = os.environ | {"RESULTS_DIR": str(tmp_path / results), "PYTHONPATH": f"{tmp_path}:."}
        return [sys.executable, *words[:2], "--plugin", "often", *words[2:]], environment

    def heads_of(results):
        found = {}
        for path in (tmp_path / results / "runs").glob("*/*.json"):
            record = json.loads(path.read_text())
            if record["status"] == "ok":
                found[record["spec"]["task"]] = load_file(path.with_suffix("") / "head.safetensors")
        return found

    words, environment = command("whole")
    subprocess.run(words, env=environment, check=True, capture_output=True)
    words, environment = command("killed")
    started = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("heads-*.pt")):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert len(heads_of("killed")) < len(TASKS)
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert heads_of("killed").keys() == set(TASKS) and same(heads_of("killed"), heads_of("whole"))
