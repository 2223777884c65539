"""Every preset through the command line: ``python -m pytest tests/pretrain/test_presets.py``."""

import dataclasses
from pathlib import Path

import pytest
import tyro

from pretrain import __main__ as cli
from pretrain import train
from pretrain.errors import InputError
from pretrain.methods import METHODS
from pretrain.presets import PRESETS
from pretrain.views import VIEWS


def parsed(preset, *flags):
    return tyro.cli(
        tyro.conf.configure(tyro.conf.AvoidSubcommands)(cli.Arguments),
        args=["--data", ".", *flags],
        default=cli.Arguments(data=tyro.MISSING, config=PRESETS[preset]),
    ).config


@pytest.mark.parametrize("method", METHODS)
def test_the_flags_of_a_preset_start_at_the_preset(method):
    """One preset a method, the one with two kinds of views among them; a flag then changes what it names alone."""
    preset = f"demo-{method}"
    changed = parsed(preset, "--seed", "7", "--views.flip", "0.25")
    expected = dataclasses.replace(PRESETS[preset], seed=7, views=dataclasses.replace(PRESETS[preset].views, flip=0.25))
    assert changed == expected and type(changed.method) is METHODS[method].config


def test_the_second_view_and_the_method_have_flags():
    config = parsed("byol-r50-300ep", "--views2.solarise", "0.5", "--method.target-momentum", "0.9")
    assert config.views2 == dataclasses.replace(VIEWS["byol2"], solarise=0.5)
    assert config.method.target_momentum == 0.9 and config.views == VIEWS["byol1"]


def test_epochs_of_a_preset_that_counts_steps_are_not_ignored(tmp_path):
    with pytest.raises(InputError, match=r"counts steps \(445\); give --steps"):
        cli.main(["demo-simclr", "--data", str(tmp_path), "--epochs", "3"])
    assert parsed("demo-simclr", "--steps", "None", "--epochs", "3").steps is None


def test_the_list_of_presets_is_readable():
    assert all(f"  {name}  " in cli.usage() for name in PRESETS)


def test_every_method_has_its_two_small_presets():
    for name in METHODS:
        demo, smoke = PRESETS[f"demo-{name}"], PRESETS[f"smoke-{name}"]
        assert type(demo.method) is type(smoke.method) is METHODS[name].config
        assert demo.image_size == 48 and demo.batch_size == 64 and smoke.steps <= 10 and smoke.batch_size == 32


@pytest.mark.slow
@pytest.mark.parametrize("method", ["infomin", "pirl", "byol", "mocov2-superinfo", "cmcv2"])
def test_methods_of_every_kind_run_through_the_loop(method, class_folders, results):
    """Jigsaw with one view and with two, two kinds of views, momentum networks: a step and a save, then the rest."""
    preset = PRESETS[f"smoke-{method}"]
    config = dataclasses.replace(preset, backbone="resnet18", image_size=32, batch_size=8, steps=2, save_every=1)
    path = train.run(f"smoke-{method}", config, class_folders)
    assert path == Path(path.parent, "backbone.safetensors") and path.exists()
