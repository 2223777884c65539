"""Every preset: through the command line, and against the values its source publishes."""

import dataclasses
from pathlib import Path

import pytest
import torch
import tyro

from pretrain import command as cli
from pretrain import train
from pretrain.augment.views import VIEWS
from pretrain.common.errors import InputError
from pretrain.config import resolve
from pretrain.methods import METHODS
from pretrain.presets import PRESETS


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
    assert changed == expected and type(changed.method) is METHODS[method].Config


def test_the_second_view_and_the_method_have_flags():
    config = parsed("byol-r50-300ep", "--views2.solarize", "0.5", "--method.target-momentum", "0.9")
    assert config.views2 == dataclasses.replace(VIEWS["byol2"], solarize=0.5)
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
        assert type(demo.method) is type(smoke.method) is METHODS[name].Config
        assert demo.image_size == 48 and demo.batch_size == 64 and smoke.steps <= 10 and smoke.batch_size == 32


# Augmentation as published: area of the crop; probability of the jitter and its brightness, contrast, saturation, hue;
# probability of greyscale, of blur and of solarisation; RandAugment's operations and magnitude. Every view is flipped
# with probability 0.5.
PYCONTRAST_A = ((0.2, 1.0), 1.0, (0.4, 0.4, 0.4, 0.4), 0.2, 0.0, 0.0, None)  # PyContrast:pycontrast/datasets/util.py
PYCONTRAST_A_BANK = ((0.08, 1.0), *PYCONTRAST_A[1:])
PYCONTRAST_B = ((0.2, 1.0), 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, 0.5, 0.0, None)
PYCONTRAST_C_BANK = ((0.08, 1.0), 1.0, (0.4, 0.4, 0.4, 0.1), 0.0, 0.0, 0.0, None)
PYCONTRAST_D = ((0.2, 1.0), 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0.0, (2, 10))
PYCONTRAST_E = ((0.2, 1.0), 0.8, (0.4, 0.4, 0.4, 0.1), 0.0, 0.5, 0.0, (2, 10))
SIMCLR_VIEW = ((0.08, 1.0), 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0.0, None)  # arXiv 2002.05709, appendix A
# google-deepmind/deepmind-research:byol/utils/augmentations.py; the same in facebookresearch/barlowtwins:main.py and
# facebookresearch/vicreg:augmentations.py; compressive-visual-representations:run.py has them for its default "byol".
BYOL_PAIR = [
    ((0.08, 1.0), 0.8, (0.4, 0.4, 0.2, 0.1), 0.2, 1.0, 0.0, None),
    ((0.08, 1.0), 0.8, (0.4, 0.4, 0.2, 0.1), 0.2, 0.1, 0.2, None),
]
CROP_AND_FLIP = ((0.08, 1.0), 0.0, None, 0.0, 0.0, 0.0, None)  # pytorch/vision:references/classification/presets.py

# "rate": at the published batch, after scaling. "at 1024": what the published rule gives for 1,024 images, None where
# the source has no rule. "bias rate": of biases and BatchNorm, times the published gradient over ours.
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight decay": 1e-4, "warm-up epochs": 0, "fixed": ()}
LARS = {"optimizer": "lars", "momentum": 0.9, "schedule": "cosine", "warm-up epochs": 10, "fixed": ()}
# HobbitLong/PyContrast:pycontrast/options/base_options.py; its docs/RUN.md doubles the rate for 512 images.
PYCONTRAST = SGD | {"batch": 256, "epochs": 200, "rate": 0.03, "at 1024": 0.12, "bias rate": 0.03}
STEPS = {"schedule": "steps", "drops at epoch": [120, 160]}
COSINE = {"schedule": "cosine"}
# arXiv 2002.05709, section 2.3: 4.8 = 0.3·4096/256, weight decay 1e-6. google-research/simclr:objective.py adds up the
# losses of both directions, of which ours is the mean: its gradient is twice ours.
SIMCLR_4096 = LARS | {
    "batch": 4096, "rate": 4.8, "at 1024": 1.2, "weight decay": 1e-6, "bias rate": 4.8 * 2, "views": [SIMCLR_VIEW]
}  # fmt: skip
# google-research/simclr:README.md: --learning_rate=0.075 --learning_rate_scaling=sqrt --weight_decay=1e-4, and
# arXiv 2002.05709, appendix B.1: 0.075·√256 = 1.2, 0.075·√1024 = 2.4.
SIMCLR_256 = SIMCLR_4096 | {
    "batch": 256, "rate": 1.2, "at 1024": 2.4, "weight decay": 1e-4, "bias rate": 1.2 * 2
}  # fmt: skip
# google-deepmind/deepmind-research:byol/configs/byol.py (_LR_PRESETS, _WD_PRESETS) and README.md (4,096 images).
BYOL = LARS | {"batch": 4096, "rate": 4.8, "at 1024": 1.2, "weight decay": 1e-6, "bias rate": 4.8, "views": BYOL_PAIR}
# facebookresearch/vicreg:README.md and main_vicreg.py: base-lr 0.2, one rate for all tensors, all-reduced gradient.
VICREG = LARS | {
    "batch": 2048, "epochs": 1000, "rate": 1.6, "at 1024": 0.8, "weight decay": 1e-6, "bias rate": 1.6,
    "views": BYOL_PAIR,
}  # fmt: skip

PUBLISHED = {
    **{f"{name}-r50-{epochs}ep-b4096": SIMCLR_4096 | {"epochs": epochs}
       for name in ("simclr", "superinfo") for epochs in (100, 200, 800)},
    **{f"{name}-r50-{epochs}ep-b256": SIMCLR_256 | {"epochs": epochs}
       for name in ("simclr", "superinfo") for epochs in (100, 200, 800)},
    # google-research/compressive-visual-representations:…/scripts/csimclr.sh, csimclr_300epochs; objective.py,
    # add_contrastive_ceb_loss, adds up both directions as SimCLR does.
    "csimclr-r50-300ep": BYOL | {"epochs": 300, "bias rate": 4.8 * 2},
    "instdis-r50-200ep": PYCONTRAST | STEPS | {"views": [PYCONTRAST_A_BANK]},
    "moco-r50-200ep": PYCONTRAST | STEPS | {"views": [PYCONTRAST_A]},  # and facebookresearch/moco:main_moco.py
    "pirl-r50-200ep": PYCONTRAST | STEPS | {"views": [PYCONTRAST_A_BANK]},
    "cmc-r50-200ep": PYCONTRAST | STEPS | {"views": [PYCONTRAST_C_BANK]},
    "mocov2-r50-200ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_B]},  # and facebookresearch/moco:README.md, --cos
    "mocov2-r50-800ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_B], "epochs": 800},
    "mocov2-superinfo-r50-200ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_B]},  # MoCo v2's
    "cmcv2-r50-200ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_E]},
    "infomin-r50-100ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_D], "epochs": 100},
    "infomin-r50-200ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_D]},
    "infomin-r50-800ep": PYCONTRAST | COSINE | {"views": [PYCONTRAST_D], "epochs": 800},
    "byol-r50-300ep": BYOL | {"epochs": 300},
    "byol-r50-1000ep": BYOL
    | {"epochs": 1000, "rate": 3.2, "at 1024": 0.8, "weight decay": 1.5e-6, "bias rate": 3.2},
    # google-research/compressive-visual-representations:…/scripts/cbyol.sh, cbyol_300epochs and cbyol_1000epochs;
    # objective.py, add_byol_ceb_loss, adds up both directions.
    "cbyol-r50-300ep": BYOL | {"epochs": 300, "rate": 5.6, "at 1024": 1.4, "bias rate": 5.6 * 2},
    "cbyol-r50-1000ep": BYOL
    | {"epochs": 1000, "rate": 4.0, "at 1024": 1.0, "weight decay": 1.5e-6, "bias rate": 4.0 * 2},
    # facebookresearch/simsiam:README.md, the command, and main_simsiam.py: init_lr = 0.05·512/256; --fix-pred-lr.
    "simsiam-r50-100ep": SGD | COSINE | {
        "batch": 512, "epochs": 100, "rate": 0.1, "at 1024": 0.2, "bias rate": 0.1, "fixed": ("predictor",),
        "views": [PYCONTRAST_B],
    },
    # facebookresearch/barlowtwins:main.py: --learning-rate-biases 0.0048, times 2048/256; its gradient is that of the
    # loss over 16, the number of GPUs in its README.md (tests/pretrain/runtime/test_distributed.py).
    "barlowtwins-r50-1000ep": VICREG | {"bias rate": 0.0384 / 16},
    "vicreg-r50-1000ep": VICREG,
    # pytorch/vision:references/classification/train.py and README.md: 8 GPUs with 32 images each; no scaling rule.
    "supervised-r50-90ep": SGD | {
        "batch": 256, "epochs": 90, "rate": 0.1, "at 1024": None, "bias rate": 0.1, "schedule": "steps",
        "drops at epoch": [30, 60], "views": [CROP_AND_FLIP],
    },
}  # fmt: skip


def as_published(views):
    """A ViewsConfig in the form of the constants above."""
    strength = (views.brightness, views.contrast, views.saturation, views.hue) if views.jitter else None
    policy = (views.rand_augment, views.rand_magnitude) if views.rand_augment else None
    assert views.flip == 0.5
    return (views.crop_scale, views.jitter, strength, views.grayscale, views.blur, views.solarize, policy)


def test_every_imagenet_preset_has_published_values():
    assert set(PUBLISHED) == {name for name in PRESETS if "-r50-" in name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_resolve_to_the_published_values(name):
    config, images = PRESETS[name], 1_281_167
    resolved = resolve(config, images, torch.device("cpu"))
    found = {
        "batch": config.batch_size,
        "epochs": resolved.steps / resolved.steps_per_epoch,
        "optimizer": config.optimizer,
        "momentum": config.momentum,
        "rate": resolved.learning_rate,
        "at 1024": resolve(parsed(name, "--batch-size", "1024"), images, torch.device("cpu")).learning_rate,
        "weight decay": config.weight_decay,
        "bias rate": resolved.learning_rate * config.bias_lr_ratio,
        "schedule": config.schedule,
        "warm-up epochs": resolved.warmup_steps / resolved.steps_per_epoch,
        "fixed": config.fixed_lr_modules,
        "views": [as_published(views) for views in (config.views, config.views2) if views],
    }
    if config.schedule == "steps":
        found["drops at epoch"] = [round(drop * config.epochs, 6) for drop in config.lr_drops]
    wanted = PUBLISHED[name]
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        if isinstance(value, float | int):
            assert found[key] == pytest.approx(value, rel=1e-6), key
        elif value is not None:
            assert found[key] == value, key


@pytest.mark.slow
@pytest.mark.parametrize("method", ["infomin", "pirl", "byol", "byol-superinfo", "mocov2-superinfo", "cmcv2"])
def test_methods_of_every_kind_run_through_the_loop(method, class_folders, results):
    """Jigsaw with one view and with two, two kinds of views, momentum networks: a step and a save, then the rest."""
    preset = PRESETS[f"smoke-{method}"]
    config = dataclasses.replace(preset, backbone="resnet18", image_size=32, batch_size=8, steps=2, save_every=1)
    path = train.run(f"smoke-{method}", config, class_folders)
    assert path == Path(path.parent, "backbone.safetensors") and path.exists()
