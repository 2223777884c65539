"""Whole runs, small: ``python -m pytest tests/pretrain/test_train.py``."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from pretrain import train
from pretrain.alarms import WINDOW, CollapseWatch, check_finite
from pretrain.checkpoint import tensor_digest
from pretrain.config import resolve
from pretrain.errors import InputError, RunError
from pretrain.methods import RandomConfig, SimCLRConfig, SupervisedConfig
from pretrain.presets import PRESETS
from pretrain.state import Metrics, load_state, locked, read_metrics, save_state
from tests.pretrain.conftest import write_images

replace = dataclasses.replace


def losses(folder):
    timing = ("images_per_second", "data_wait")
    return [{k: v for k, v in row.items() if k not in timing} for row in read_metrics(folder / "metrics.jsonl")]


def test_random_is_torchvisions_initialisation_for_the_seed(class_folders, results, tiny):
    random = replace(PRESETS["demo-random"], seed=3)
    path = train.run("x", random, class_folders)
    torch.manual_seed(3)
    reference = torchvision.models.resnet50(weights=None)
    reference.fc = nn.Identity()
    state = load_file(path)
    assert len(state) == 318 and all(torch.equal(state[k], v) for k, v in reference.state_dict().items())
    reference.load_state_dict(state, strict=True)
    meta = json.loads((path.parent / "meta.json").read_text())
    assert meta["sha256"] == tensor_digest(state) and meta["method"] == "random" and meta["images_seen"] == 0
    with pytest.raises(InputError, match="nothing to train"):
        train.run("x", replace(tiny, method=RandomConfig(), steps=1), class_folders)


@pytest.mark.parametrize("zero", [True, False])
def test_zero_initialised_blocks_pass_their_input_on(zero, tiny):
    backbone = train.build_method(resolve(replace(tiny, zero_init_residual=zero), 24, torch.device("cpu")), 2, 24).backbone
    x = torch.rand(2, 64, 8, 8)
    assert torch.equal(backbone.layer1[1](x), x) == zero


@pytest.mark.parametrize("method", ["superinfo", "simclr", "supervised"])
def test_a_run_leaves_a_checkpoint_metrics_and_curves(method, class_folders, results, tiny):
    other = {"simclr": SimCLRConfig(dim=16, hidden_dim=32), "supervised": SupervisedConfig()}
    path = train.run("x", replace(tiny, method=other.get(method, tiny.method)), class_folders)
    folder = path.parent
    assert folder.parent == results / "pretrain" and folder.name.startswith("x-")
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == [
        "backbone.safetensors", "loss.png", "meta.json", "metrics.jsonl"
    ]  # fmt: skip
    assert [row["step"] for row in losses(folder)] == [0, 1, 2]
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["method"] == method and meta["images_seen"] == 24 and meta["epoch"] == 1.0
    assert meta["dataset"]["size"] == 24 and meta["config"]["resolved"]["steps"] == 3
    state = load_file(path)
    assert all(v.dtype in (torch.float32, torch.int64) for v in state.values()) and not any(
        k[:2] == "fc" for k in state
    )
    backbone = train.build_method(train.resolve(tiny, 24, torch.device("cpu")), 0, 24).backbone
    moved = [k for k, v in backbone.state_dict().items() if not torch.equal(v, state[k])]
    assert "conv1.weight" in moved and "layer4.1.conv2.weight" in moved and "bn1.running_mean" in moved


def test_a_finished_run_returns_at_once(flat_folder, results, tiny, monkeypatch):
    path = train.run("x", tiny, flat_folder)
    monkeypatch.setattr(train, "train", None)
    assert train.run("x", replace(tiny, workers=1), flat_folder) == path
    with pytest.raises(TypeError):
        train.run("x", replace(tiny, seed=1), flat_folder)


def test_supervised_needs_labels(flat_folder, results, tiny):
    with pytest.raises(InputError, match=r"needs labels, but .*flat"):
        train.run("x", replace(tiny, method=SupervisedConfig()), flat_folder)


def test_non_finite_loss_is_named(flat_folder, results, tiny):
    with pytest.raises(RunError, match=r"is (nan|inf) at step 1;"):
        train.run("x", replace(tiny, optimizer="sgd", learning_rate=1e30, warmup=0.0), flat_folder)
    with pytest.raises(RunError, match="nce is nan at step 7"):
        check_finite(7, {"loss": 1.0, "nce": float("nan")})


def test_identical_images_collapse_and_stop_the_run(tmp_path, results, tiny):
    (tmp_path / "black").mkdir()
    for i in range(16):
        Image.new("RGB", (32, 32)).save(tmp_path / "black" / f"{i}.png")
    for _ in range(2):  # the second attempt continues from the last save, a few steps before the end
        with pytest.raises(RunError, match=f"collapsed: spread .* step {WINDOW - 1}\\)"):
            train.run("x", replace(tiny, steps=WINDOW + 5, save_every=6), tmp_path / "black")
    assert not list(results.rglob("backbone.safetensors"))


def test_collapse_watch_waits_and_warns_once(capsys):
    watch = CollapseWatch(1000)
    for step in range(100):
        watch.check(step, {"spread": 0.01, "predictive": 0.0})
    assert capsys.readouterr().err == ""
    with pytest.raises(RunError, match="step 100"):
        watch.check(100, {"spread": 0.01})
    watch = CollapseWatch(1000)
    for step in range(280, 400):
        watch.check(step, {"spread": 0.5, "predictive": 1.0})
    assert capsys.readouterr().err.count("warning: spread 0.500") == 1
    for step in range(10):
        CollapseWatch(10).check(step, {"spread": 0.0})  # too short a run to judge


def test_a_damaged_save_is_named_and_the_run_starts_anew(flat_folder, results, tiny, capsys):
    config = replace(tiny, save_every=1)
    whole = train.run("x", config, flat_folder)
    truth = tensor_digest(load_file(whole))
    for name in ("meta.json", "backbone.safetensors"):
        (whole.parent / name).unlink()
    (whole.parent / "state.pt").write_bytes(b"PK\x03\x04 half a file")
    assert tensor_digest(load_file(train.run("x", config, flat_folder))) == truth
    assert "state.pt is damaged" in capsys.readouterr().err
    assert [row["step"] for row in losses(whole.parent)] == [0, 1, 2]


def test_a_full_disk_leaves_the_previous_save(tmp_path):
    model = nn.Linear(1000, 1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_state(tmp_path / "state.pt", 1, model, optimizer)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(RunError, match=r"could not save .*state\.pt") as caught:
            save_state(tmp_path / "state.pt", 2, model, optimizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and [p.name for p in tmp_path.iterdir()] == ["state.pt"]
    assert load_state(tmp_path / "state.pt", model, optimizer, torch.device("cpu")) == 1


def test_metrics_are_cut_to_the_step_resumed_at(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    Metrics(path, 1).write({"step": 1, "loss": 0.6})
    assert read_metrics(path) == [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.6}]


HOLD = """
import fcntl, pathlib, sys, time
with open(sys.argv[1], "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print(flush=True)
    input()
    time.sleep(0.2)
    pathlib.Path(sys.argv[2]).touch()
"""


def test_a_second_process_waits_for_the_first(tmp_path, monkeypatch):
    folder, done, said = tmp_path / "run", tmp_path / "done", []
    folder.mkdir()
    (folder / ".state.pt.1.tmp").write_bytes(b"half")  # what kill -9 during a save leaves
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, folder / ".lock", done], **pipes) as first:
        first.stdout.readline()

        def say(line, file):  # said before it waits: now let the first process go on
            said.append(line)
            first.stdin.write(b"\n")
            first.stdin.flush()

        monkeypatch.setattr("builtins.print", say)
        with locked(folder):
            assert done.exists() and "another process works in" in said[0]
            assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["superinfo", "simclr"])
def test_training_lowers_the_contrastive_loss(method, flat_folder, results, tiny):
    methods = {"superinfo": tiny.method, "simclr": SimCLRConfig(dim=16, hidden_dim=32, temperature=0.2)}
    views = replace(tiny.views, crop_scale=(0.5, 1.0), jitter=0.0, grey=0.0)
    config = replace(tiny, method=methods[method], batch_size=24, steps=30, views=views)
    rows = losses(train.run("x", config, flat_folder).parent)
    name = "nce" if method == "superinfo" else "loss"
    assert sum(r[name] for r in rows[-5:]) < sum(r[name] for r in rows[:5]) - 2.5  # half a nat


KILLED = """
import os, signal, sys
from pretrain import train
from pretrain.__main__ import main
save, count = train.save_state, 0
def save_and_die(*arguments):
    global count
    save(*arguments)
    count += 1
    if count == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
train.save_state = save_and_die
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_killed_and_continued_equals_undisturbed_bitwise(tmp_path):
    """kill -9 after the first or third save, a loader process then: same weights and metrics; stdout is the path."""
    write_images(tmp_path / "images", 40)
    settings = {"backbone": "resnet18", "image-size": "32", "batch-size": "8", "steps": "10", "save-every": "2"}
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    arguments = ["smoke-superinfo", "--data", str(tmp_path / "images"), *flags]

    def finish(results, *command):
        environment = os.environ | {"RESULTS_DIR": str(tmp_path / results), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
        return done.stdout, done.returncode

    printed = [finish("whole", "-m", "pretrain", *arguments)]
    for saves in ("1", "3"):
        assert finish(f"killed-{saves}", "-c", KILLED, saves, *arguments) == ("", -signal.SIGKILL)
        printed.append(finish(f"killed-{saves}", "-m", "pretrain", *arguments, "--workers", "1"))
    assert all(out.count("\n") == 1 and status == 0 for out, status in printed)
    whole, *resumed = (tmp_path / out.strip() for out, _ in printed)
    wanted = load_file(whole)
    for path in resumed:
        state = load_file(path)
        assert all(torch.equal(wanted[name], state[name]) for name in wanted) and path != whole
        assert losses(whole.parent) == losses(path.parent)
