"""Run folders of settings under their former names."""

import dataclasses
import json

import pytest
import torch

from pretrain import train
from pretrain.common.files import digest, write_json
from pretrain.config import resolve
from pretrain.data import describe, list_images
from pretrain.runtime.metrics import read_metrics
from pretrain.runtime.migrate import migrate_run

# As 03cfcb9 and the commits before wrote a run's settings, in the same order.
CONFIG = (
    "method backbone zero_init_residual image_size batch_size steps epochs optimizer learning_rate lr_scaling "
    "bias_rate fixed_lr_modules momentum weight_decay decay_all warmup schedule lr_drops views views2 precision "
    "compile reader seed"
)
VIEWS = (
    "crop_scale flip jitter brightness contrast saturation hue shuffle_jitter grey blur rand_augment rand_magnitude "
    "rand_colour solarise"
)
RESOLVED = "config method steps steps_per_epoch warmup_steps learning_rate feature_dim precision processes log_every"


def values_before(resolved):
    """``resolved.values()`` with every key as it was, by position."""
    config = dict(resolved.values()["config"])
    config["views"] = dict(zip(VIEWS.split(), config["views"].values(), strict=True))
    config = dict(zip(CONFIG.split(), config.values(), strict=True))
    return dict(zip(RESOLVED.split(), ({**resolved.values(), "config": config}).values(), strict=True))


@pytest.fixture
def old(tiny, class_folders, results):
    """The folder of a finished run that the code before wrote."""
    images = list_images(class_folders)
    dataset, resolved = describe(images), resolve(tiny, len(images), torch.device("cpu"))
    values = values_before(resolved)
    identity = {"resolved": values, "data": [dataset["fingerprint"], None, dataset["size"]]}
    folder = results / "pretrain" / f"x-{digest(identity)[:12]}"
    settings = {"preset": "x", "data": "folder", **values}
    write_json(folder / "settings.json", settings)
    raw = values.pop("config")
    write_json(folder / "meta.json", {"method": "superinfo", "config": {"raw": raw, "resolved": values}})
    (folder / "backbone.safetensors").write_bytes(b"weights")
    row = {"step": 0, "loss": 1.0, "score": 2.0, "spread": 0.9, "z_spread": 0.8, "h_spread": 0.7}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_a_finished_run_is_taken_over_and_not_run_again(old, tiny, class_folders, monkeypatch, capsys):
    monkeypatch.setattr(train, "_train_and_export", None)
    path = train.run("x", tiny, class_folders)
    folder = path.parent
    assert path.read_bytes() == b"weights" and not old.exists() and folder.name != old.name
    assert capsys.readouterr().err.count(f"{old.name}: settings have new names; the run is now {folder.name}\n") == 1
    meta, settings = (json.loads((folder / name).read_text()) for name in ("meta.json", "settings.json"))
    config = dataclasses.asdict(tiny)
    for found in (meta["config"]["raw"], settings["config"]):
        assert set(found) < set(config) and set(found["views"]) == set(config["views"])
    assert meta["config"]["resolved"]["world_size"] == settings["world_size"] == 1
    (row,) = read_metrics(folder / "metrics.jsonl")
    assert row == {"step": 0, "loss": 1.0, "nce_score": 2.0, "embedding_std": 0.9, "z_std": 0.8, "h_std": 0.7}
    assert train.run("x", tiny, class_folders) == path and "new names" not in capsys.readouterr().err


def test_other_settings_take_over_nothing(old, tiny, class_folders):
    other = dataclasses.replace(tiny, seed=1, steps=1)
    assert train.run("x", other, class_folders).parent.exists() and old.exists()


def test_a_run_under_the_new_names_is_kept(old):
    new = old.with_name("x-new")
    new.mkdir()
    migrate_run(old, new)
    assert old.exists() and list(new.iterdir()) == []
