"""Killed, terminated, out of disk, and continued."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from pretrain import train
from pretrain.common.errors import RunError
from pretrain.methods import METHODS
from pretrain.presets import PRESETS
from pretrain.runtime.metrics import read_metrics
from pretrain.runtime.resume import saves
from tests.pretrain.conftest import write_images

replace = dataclasses.replace
STEPS = 4
pytestmark = pytest.mark.usefixtures("one_thread")


def losses(folder):
    timing = ("images_per_second", "data_wait")
    return [{k: v for k, v in row.items() if k not in timing} for row in read_metrics(folder / "metrics.jsonl")]


def in_child(action):
    """Run in a forked process; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except SystemExit as stop:
            os._exit(stop.code)
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def after_update(number, action):
    """Call ``action`` when the weights have been updated ``number`` times in this process."""
    count = 0

    def hook(optimizer, args, kwargs):
        nonlocal count
        count += 1
        if count == number:
            action()

    register_optimizer_step_post_hook(hook)


def kill(number):
    return lambda: os.kill(os.getpid(), number)


def small(preset, **changes):
    """A preset's method and settings on a small network, without half precision (slow on some CPUs)."""
    sizes = {"backbone": "resnet18", "image_size": 32, "batch_size": 4, "steps": STEPS, "workers": 0}
    return replace(PRESETS[preset], **{"precision": "fp32", "save_every": 2, **sizes, **changes})


def assert_equal_ends(path, folder, rows, wanted):
    state = load_file(path)
    assert path.parent == folder and losses(folder) == rows and not saves(folder)
    assert state.keys() == wanted.keys() and all(torch.equal(wanted[name], state[name]) for name in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"random"}))
def test_killed_at_any_step_and_continued_equals_undisturbed_bitwise(method, class_folders, results, monkeypatch):
    config = small(f"smoke-{method}")
    whole = train.run("x", config, class_folders)
    wanted, rows = load_file(whole), losses(whole.parent)
    step = int(np.random.default_rng(zlib.crc32(method.encode())).integers(1, STEPS))
    monkeypatch.setenv("RESULTS_DIR", str(results / "killed"))

    def die():
        after_update(step, kill(signal.SIGKILL))
        train.run("x", config, class_folders)

    assert in_child(die) == -signal.SIGKILL
    folder = train.results_dir() / "pretrain" / whole.parent.name
    assert bool(saves(folder)) == (step > 2)
    assert_equal_ends(train.run("x", config, class_folders), folder, rows, wanted)


@pytest.mark.parametrize(
    ("precision", "number"),
    [
        ("fp32", signal.SIGTERM),
        ("fp32", signal.SIGINT),
        pytest.param("fp16", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_continues(precision, number, flat_folder, results, monkeypatch):
    config = small("smoke-simclr", save_every=None, precision=precision)
    whole = train.run("x", config, flat_folder)
    wanted, rows = load_file(whole), losses(whole.parent)
    monkeypatch.setenv("RESULTS_DIR", str(results / "terminated"))

    def be_terminated():
        after_update(3, kill(number))
        train.run("x", config, flat_folder)

    assert in_child(be_terminated) == 128 + number
    folder = train.results_dir() / "pretrain" / whole.parent.name
    assert [path.name for path in saves(folder)] == ["state-000000003.pt"]
    assert_equal_ends(train.run("x", config, flat_folder), folder, rows, wanted)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_with_the_last_save_intact(flat_folder, results, monkeypatch, capfd):
    config = small("smoke-simclr", save_every=1)
    whole = train.run("x", config, flat_folder)
    wanted, rows = load_file(whole), losses(whole.parent)
    monkeypatch.setenv("RESULTS_DIR", str(results / "full"))

    def run_full():
        after_update(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)))
        train.run("x", config, flat_folder)

    assert in_child(run_full) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(said) == 1 and "state-000000003.pt" in said[0] and "free some space" in said[0]
    folder = train.results_dir() / "pretrain" / whole.parent.name
    assert saves(folder)[0].name == "state-000000002.pt"
    assert_equal_ends(train.run("x", config, flat_folder), folder, rows, wanted)


@pytest.mark.slow
def test_after_a_damaged_newest_save_the_one_before_it_gives_the_same_end(flat_folder, results, capsys):
    config = small("smoke-simclr", save_every=1)
    whole = train.run("x", config, flat_folder)
    wanted, rows = load_file(whole), losses(whole.parent)
    train.discard(whole.parent)

    def die():
        after_update(4, kill(signal.SIGKILL))
        train.run("x", config, flat_folder)

    assert in_child(die) == -signal.SIGKILL
    newest, before = saves(whole.parent)
    newest.write_bytes(newest.read_bytes()[:-5000])
    assert_equal_ends(train.run("x", config, flat_folder), whole.parent, rows, wanted)
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said and "steps 3 to 4" in said and before.name == "state-000000002.pt"


KILLED = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from pretrain.__main__ import main
count = 0
def hook(*arguments):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
register_optimizer_step_post_hook(hook)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_survives_kill_9_and_a_signal_to_its_whole_group(tmp_path):
    """Same weights and metrics, a loader process before or after; stdout is the path alone."""
    write_images(tmp_path / "images", 40)
    sizes = {"backbone": "resnet18", "image-size": "32", "batch-size": "8", "steps": "24", "save-every": "2"}
    flags = [part for name, value in sizes.items() for part in (f"--{name}", value)]
    arguments = ["smoke-superinfo", "--data", str(tmp_path / "images"), *flags]

    def start(results, *command):
        environment = os.environ | {"RESULTS_DIR": str(tmp_path / results), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        return subprocess.Popen([sys.executable, *command], env=environment, **pipes)

    whole = start("whole", "-m", "pretrain", *arguments)
    killed = start("disturbed", "-c", KILLED, *arguments)
    assert killed.communicate()[0] == "" and killed.returncode == -signal.SIGKILL
    path = tmp_path / whole.communicate()[0].strip()
    assert path.is_file() and whole.returncode == 0
    again = start("disturbed", "-m", "pretrain", *arguments, "--workers", "1")
    disturbed = tmp_path / "disturbed" / "pretrain" / path.parent.name
    while again.poll() is None and len(losses(disturbed)) < 6:
        time.sleep(0.05)
    os.killpg(again.pid, signal.SIGTERM)
    said = again.communicate()[1].splitlines()
    assert again.returncode == 143 and "stopped by SIGTERM after" in said[-1] and "Traceback" not in "".join(said)
    last = start("disturbed", "-m", "pretrain", *arguments)
    end = tmp_path / last.communicate()[0].strip()
    assert end == disturbed / "backbone.safetensors"
    assert_equal_ends(end, disturbed, losses(path.parent), load_file(path))
