"""Presets, resolved values and the command line."""

import dataclasses
import math
import re
from typing import get_args, get_type_hints

import pytest
import torch

from pretrain.__main__ import main
from pretrain.augment.pairs import PairConfig
from pretrain.augment.views import ViewsConfig
from pretrain.common.errors import InputError
from pretrain.common.ranges import ranges
from pretrain.config import PretrainConfig, resolve
from pretrain.methods import METHODS
from pretrain.methods.simclr import SimCLRConfig
from pretrain.methods.superinfo import SuperInfoConfig
from pretrain.presets import PRESETS

CPU = torch.device("cpu")


def config(**changes):
    return dataclasses.replace(PretrainConfig(method=SimCLRConfig()), **changes)


def test_the_promised_presets_exist_and_resolve():
    promised = {f"{size}-{method}" for size in ("smoke", "demo") for method in METHODS} | {"superinfo-r50-200ep-b4096"}
    assert promised <= set(PRESETS)
    published = {"csimclr": "superinfo", "cbyol": "byol-superinfo"}
    for name, preset in PRESETS.items():
        family = name.removeprefix("demo-").removeprefix("smoke-").partition("-r50")[0]
        assert resolve(preset, 6000, CPU).method in published.get(family, name)


def test_the_imagenet_preset_resolves_to_its_published_schedule():
    resolved = resolve(PRESETS["superinfo-r50-200ep-b4096"], 1_281_167, CPU)
    assert resolved.steps == 200 * 312 and resolved.warmup_steps == 10 * 312 and resolved.learning_rate == 4.8


def test_learning_rate_scales_and_follows_warmup_and_cosine():
    resolved = resolve(config(batch_size=64, steps=100, warmup=0.1, learning_rate=0.4), 1000, CPU)
    assert resolved.learning_rate == pytest.approx(0.1)
    rates = [resolved.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(0.1) and rates[55] == pytest.approx(0.05) and 0 < rates[99] < 1e-4


@pytest.mark.parametrize(
    ("scaling", "batch", "peak"),
    [("linear", 256, 0.3), ("linear", 4096, 4.8), ("sqrt", 256, 4.8), ("sqrt", 1024, 9.6), ("none", 64, 0.3)],
)
def test_the_peak_rate_follows_the_rule_that_is_named(scaling, batch, peak):
    resolved = resolve(config(batch_size=batch, learning_rate=0.3, lr_scaling=scaling), 5000, CPU)
    assert resolved.learning_rate == pytest.approx(peak, rel=1e-12)


def test_steps_win_over_epochs():
    assert resolve(config(batch_size=10, epochs=3), 105, CPU).steps == 30
    assert resolve(config(batch_size=10, epochs=3, steps=7), 105, CPU).steps == 7


def test_only_settings_that_decide_the_weights_name_the_run():
    values = resolve(config(), 1000, CPU).values()
    assert values == resolve(config(workers=3, save_every=5, save_seconds=1.0), 1000, CPU).values()
    assert values != resolve(config(seed=1), 1000, CPU).values()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2000}, "do not fill"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"steps": -1}, "--steps -1"),
        ({"steps": 0}, "untrained backbone"),
        ({"epochs": -1}, "--epochs -1"),
        ({"seed": -1}, "--seed -1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0"),
        ({"learning_rate": math.nan}, "--learning-rate nan"),
        ({"learning_rate": math.inf}, "--learning-rate inf"),
        ({"momentum": 1.0}, "--momentum 1.0"),
        ({"weight_decay": -1.0}, "--weight-decay -1.0"),
        ({"warmup": 3.0}, "--warmup 3.0"),
        ({"views": ViewsConfig(flip=7.0)}, "--views.flip 7.0"),
        ({"views": ViewsConfig(hue=0.6)}, "--views.hue 0.6"),
        ({"views": ViewsConfig(contrast=math.inf)}, "--views.contrast inf"),
        ({"views": ViewsConfig(crop_scale=(1.0, 0.2))}, "--views.crop-scale 1.0 0.2"),
        ({"views": ViewsConfig(crop_scale=(0.0, 0.2))}, "--views.crop-scale 0.0 0.2"),
        ({"method": SimCLRConfig(dim=1)}, "--method.dim 1"),
        ({"method": SimCLRConfig(temperature=math.nan)}, "--method.temperature nan"),
        ({"method": SuperInfoConfig(kappa_e=0.0)}, "--method.kappa-e 0.0"),
        ({"method": SuperInfoConfig(lambda_b=-5.0)}, "--method.lambda-b -5: their sum must be above -1"),
        ({"method": SuperInfoConfig(lambda_warmup=-1.0)}, "--method.lambda-warmup -1.0"),
    ],
)
def test_unusable_values(changes, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        resolve(config(**changes), 1000, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "part", [PretrainConfig, ViewsConfig, PairConfig, *(method.Config for method in METHODS.values())]
)
def test_every_number_has_a_range(part):
    numbers = {name for name, hint in get_type_hints(part).items() if {int, float} & {hint, *get_args(hint)}}
    assert numbers == set(ranges(part))


def test_ranges_of_the_second_view_and_of_fractions():
    with pytest.raises(InputError, match=r"--views2\.flip 7\.0: must be between 0 and 1"):
        resolve(config(views2=ViewsConfig(flip=7.0)), 1000, CPU)
    with pytest.raises(
        InputError, match=r"--lr-drops 0\.5 1\.0: must be fractions of the training, above 0 and below 1"
    ):
        resolve(config(lr_drops=(0.5, 1.0)), 1000, CPU)


def test_unknown_preset_is_named():
    with pytest.raises(InputError, match=r"demo-superinf.*demo-superinfo"):
        main(["demo-superinf", "--data", "."])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--data", ".", "--method.lamda-a", "1"], "--method.lamda-a"),
        (["--data", ".", "--steps", "many"], "--steps"),
        (["--data", ".", "--method.kappa-b", "many"], "kappa-b"),
        ([], "--data"),
    ],
)
def test_wrong_flags_are_named_and_exit_2(flags, named, capsys):
    try:
        code = main(["smoke-superinfo", *flags])
        message = ""
    except SystemExit as stop:
        code, message = stop.code, ""
    except InputError as error:
        code, message = 2, str(error)
    assert code == 2 and named in capsys.readouterr().err + message


def test_help_lists_every_preset(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PRESETS)
