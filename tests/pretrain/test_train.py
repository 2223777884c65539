"""Whole runs, small."""

import dataclasses
import json

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from pretrain import train
from pretrain.common.errors import InputError, RunError
from pretrain.common.tensors import tensor_digest
from pretrain.config import resolve
from pretrain.data import list_images
from pretrain.loader import StepSampler
from pretrain.methods.random import RandomConfig
from pretrain.methods.simclr import SimCLRConfig
from pretrain.methods.supervised import SupervisedConfig
from pretrain.presets import PRESETS
from pretrain.runtime.collapse import WINDOW, CollapseWatch, check_finite
from pretrain.runtime.metrics import read_metrics
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fixed_lr_modules": ("predictr",)}, "--fixed-lr-modules predictr: superinfo has "),
        ({"fixed_lr_modules": ("backbone", "nobody")}, "--fixed-lr-modules nobody"),
        ({"method": dataclasses.replace(PRESETS["smoke-mocov2-superinfo"].method, bound="learned")}, "--method.bound"),
    ],
)
def test_what_the_method_or_its_optimiser_refuses_leaves_no_folder(changes, words, class_folders, results, tiny):
    with pytest.raises(InputError, match=words):
        train.run("x", replace(tiny, **changes), class_folders)
    assert not results.exists()


@pytest.mark.parametrize("zero", [True, False])
def test_zero_initialised_blocks_pass_their_input_on(zero, tiny):
    resolved = resolve(replace(tiny, zero_init_residual=zero), 24, torch.device("cpu"))
    backbone = train.build_method(resolved, 2, 24).backbone
    x = torch.rand(2, 64, 8, 8)
    assert torch.equal(backbone.layer1[1](x), x) == zero


@pytest.mark.parametrize("method", ["superinfo", "simclr", "supervised"])
def test_a_run_leaves_a_checkpoint_metrics_and_curves(method, class_folders, results, tiny):
    other = {"simclr": SimCLRConfig(dim=16, hidden_dim=32), "supervised": SupervisedConfig()}
    path = train.run("x", replace(tiny, method=other.get(method, tiny.method)), class_folders)
    folder = path.parent
    assert folder.parent == results / "pretrain" and folder.name.startswith("x-")
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == [
        *("backbone.safetensors", *["head.safetensors"] * (method != "supervised"), "loss.png"),
        *("meta.json", "metrics.jsonl", "settings.json", "tensorboard"),
    ]
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
        with pytest.raises(RunError, match=f"embeddings collapsed \\(std .* step {WINDOW - 1}\\)"):
            train.run("x", replace(tiny, steps=WINDOW + 5, save_every=6), tmp_path / "black")
    assert not list(results.rglob("backbone.safetensors"))


def test_collapse_watch_waits_and_warns_once(capsys):
    watch = CollapseWatch(1000)
    for step in range(100):
        watch.check(step, {"embedding_std": 0.01, "predictive": 0.0})
    assert capsys.readouterr().err == ""
    with pytest.raises(RunError, match="step 100"):
        watch.check(100, {"embedding_std": 0.01, "predictive": 0.0})
    watch = CollapseWatch(1000)
    for step in range(280, 400):
        watch.check(step, {"embedding_std": 0.5, "predictive": 1.0})
    assert capsys.readouterr().err.count("warning: embedding_std 0.500") == 1
    watch = CollapseWatch(1000)  # with a queue or without negatives half of the sphere may be healthy
    for step in range(280, 400):
        watch.check(step, {"embedding_std": 0.5})
    for step in range(400, 500):
        watch.check(step, {"embedding_std": 0.05})
    assert capsys.readouterr().err == ""
    with pytest.raises(RunError, match=r"embeddings collapsed \(std .* < 0\.02"):
        for step in range(500, 600):
            watch.check(step, {"embedding_std": 0.001})
    for step in range(10):
        CollapseWatch(10).check(step, {"embedding_std": 0.0})  # too short a run to judge


def test_a_finished_run_is_done_again_when_asked(flat_folder, results, tiny):
    path = train.run("x", tiny, flat_folder)
    first = (path.stat().st_mtime_ns, tensor_digest(load_file(path)), losses(path.parent))
    assert train.run("x", tiny, flat_folder, "never") == path
    assert path.stat().st_mtime_ns > first[0]
    assert (tensor_digest(load_file(path)), losses(path.parent)) == first[1:]


def test_one_unreadable_image_in_a_hundred_is_named_and_counted_and_two_end_the_run(tmp_path, results, tiny, capsys):
    write_images(tmp_path / "images", 100)
    images = list_images(tmp_path / "images")
    read = [index for _, index in next(iter(StepSampler(100, 8, seed=0, start=0, stop=1)))]
    (images.root / images.paths[read[1]]).write_bytes(b"no image")
    path = train.run("x", tiny, images.root)
    said = capsys.readouterr().err
    assert said.count("cannot read image") == 1 and images.paths[read[1]] in said and "(1 of 100 so far)" in said
    assert json.loads((path.parent / "meta.json").read_text())["dataset"]["unreadable"] == 1
    (images.root / images.paths[read[5]]).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 of 100 images could not be read, more than 1%: cannot read") as caught:
        train.run("x", replace(tiny, seed=0, steps=4), images.root)
    assert "\n" not in str(caught.value)


def test_the_probe_is_logged_every_so_many_epochs_and_changes_no_weight(class_folders, results, tiny, capsys):
    config = replace(tiny, steps=7, probe_every=1)
    without = tensor_digest(load_file(train.run("x", replace(config, probe_every=None), class_folders)))
    path = train.run("x", config, class_folders, "never")
    probed = {row["step"]: row["knn_top1"] for row in losses(path.parent) if "knn_top1" in row}
    assert list(probed) == [2, 5, 6] and all(0 <= value <= 1 for value in probed.values())
    assert tensor_digest(load_file(path)) == without
    assert capsys.readouterr().err.count("kNN probe") == 3


def test_a_deleted_checkpoint_is_made_again(flat_folder, results, tiny):
    path = train.run("x", tiny, flat_folder)
    digest = tensor_digest(load_file(path))
    path.unlink()
    assert train.run("x", tiny, flat_folder) == path and tensor_digest(load_file(path)) == digest


def test_one_class_is_nothing_to_be_supervised_by(tmp_path, results, tiny):
    write_images(tmp_path / "images" / "cat", 12)
    with pytest.raises(InputError, match="at least two classes"):
        train.run("x", replace(tiny, method=SupervisedConfig()), tmp_path / "images")


def test_an_unfinished_run_is_drawn_says_its_settings_and_is_named_by_the_next(flat_folder, results, tiny, capsys):
    """The run is stopped after its first save; a flag more is another run, which names the first."""
    save_state = train.save_state

    def stopped(folder, *more):
        save_state(folder, *more)
        raise RunError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "save_state", stopped)
        with pytest.raises(RunError, match="stopped"):
            train.run("x", replace(tiny, steps=3, save_every=2), flat_folder)
    (folder,) = (results / "pretrain").iterdir()
    assert (folder / "loss.png").exists()
    noted = json.loads((folder / "settings.json").read_text())
    assert noted["preset"] == "x" and noted["data"] == str(flat_folder) and noted["config"]["seed"] == 0
    capsys.readouterr()
    train.run("x", replace(tiny, steps=3, seed=1), flat_folder)
    assert f"unfinished with other settings, images or processes: {folder.name}" in capsys.readouterr().err
    train.run("x", replace(tiny, steps=3, save_every=2), flat_folder)
    assert "unfinished with" not in capsys.readouterr().err


def test_compilation_covers_every_resnet(flat_folder, results, tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    train.run("x", replace(tiny, compile=True), flat_folder)
    assert compiled == ["ResNet"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_ends_in_float32(precision, flat_folder, results, tiny):
    path = train.run("x", replace(tiny, precision=precision), flat_folder)
    rows = losses(path.parent)
    assert rows[-1]["loss"] != rows[0]["loss"] and all(v.dtype != torch.float16 for v in load_file(path).values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["superinfo", "simclr"])
def test_training_lowers_the_contrastive_loss(method, flat_folder, results, tiny):
    methods = {"superinfo": tiny.method, "simclr": SimCLRConfig(dim=16, hidden_dim=32, temperature=0.2)}
    views = replace(tiny.views, crop_scale=(0.5, 1.0), jitter=0.0, grayscale=0.0)
    config = replace(tiny, method=methods[method], batch_size=24, steps=30, views=views)
    rows = losses(train.run("x", config, flat_folder).parent)
    name = "nce" if method == "superinfo" else "loss"
    assert sum(r[name] for r in rows[-5:]) < sum(r[name] for r in rows[:5]) - 2.5  # half a nat
