"""Every style's resolved settings against those read in the authors' code, key by key."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from benchmarks.__main__ import main
from benchmarks.predictions import load_predictions
from benchmarks.records import ResultsStore
from benchmarks.report.published import published, published_settings
from benchmarks.tasks import TASKS, Setup, named
from benchmarks.tasks.linear_sgd import CROPS, STYLES, VIEWS, LinearStyle, register_style, style_of, views_for
from pretrain.common.errors import InputError

PUBLISHED = published_settings()["linear"]
OWN_INPUT = {"normalise_mean", "normalise_std"}  # pixels are normalised as the checkpoint's own input says
FIXED = {  # of all styles, in code and not in settings
    "nesterov": False,
    "warmup_epochs": 0,
    "crop_ratio": [3 / 4, 4 / 3],
    "interpolation": "bilinear",
    "val_interpolation": "bilinear",
    "flip": 0.5,
    "extra_augmentation": "",
    "backbone_mode": "eval",
}
LARC = {"larc_trust": 0.001, "larc_clip": False, "larc_eps": 1e-8, "larc_excludes_bias": False}
ABOUT = {"source", "expected", "cost", "devices", "precision", "larc_weight_decay", "larc_momentum_order"}
OURS = {"chunk", "learning_rates", "final_share", "reported"}


@pytest.mark.parametrize("style", [name for name in STYLES if name != "grid"])
def test_paper_settings_are_the_published_ones(style):
    published = dict(PUBLISHED[style.replace("-", "_")])
    found = TASKS[f"linear-sgd-{style}"].settings(Setup(profile="paper")).values
    compared = set(ABOUT) | OWN_INPUT
    for key, value in FIXED.items():
        assert published[key] == value, key
        compared.add(key)
    for key, value in LARC.items():
        assert published[key] == (value if found["optimiser"] != "sgd" else type(value)(0)), key
        compared.add(key)
    (rate,) = found["learning_rates"]
    assert published["learning_rate"] == rate
    assert published["final_learning_rate"] == pytest.approx(found["final_share"] * rate)
    assert published["reported"] == found["reported"]
    compared |= {"learning_rate", "final_learning_rate", "reported"}
    for key in published.keys() - compared:
        value = found[key]
        assert published[key] == (list(value) if isinstance(value, tuple) else value), key
    assert found.keys() - published.keys() == OURS - {"reported"}


def test_the_order_of_rate_and_momentum_is_the_source_s():
    assert PUBLISHED["simsiam"]["larc_momentum_order"].startswith("trust scaling before momentum; lr after momentum")
    assert PUBLISHED["mmselfsup_lars"]["larc_momentum_order"] == "trust scaling and lr both before momentum"


def test_cached_tasks_have_the_same_settings_and_their_views():
    for name in STYLES:
        online, cached = (TASKS[f"linear-{kind}-{name}"].settings(Setup(profile="paper")) for kind in ("sgd", "cached"))
        assert cached.values == online.values | {"least_views": VIEWS, "least_crops": CROPS}
        assert cached.digest != online.digest


def test_few_images_have_more_cached_crops():
    assert [views_for(images) for images in (1_281_167, 50_000, 25_000, 24_999, 3_000)] == [4, 4, 4, 5, 34]


def test_groups_stand_for_all_styles_and_published_rows_exist():
    assert [task.name for task in named("linear-sgd")] == [f"linear-sgd-{name}" for name in STYLES]
    assert [task.name for task in named("linear-cached")] == [f"linear-cached-{name}" for name in STYLES]
    for name, (_, _, schedule) in STYLES.items():
        rows = published(TASKS[f"linear-sgd-{name}"]) if schedule else []
        assert bool(len(rows)) == bool(schedule), name


def test_small_profiles_keep_the_rate_per_image():
    for style, _, _ in STYLES.values():
        demo = style.scaled("demo")
        assert demo.epochs == round(style.epochs / 10) and demo.batch == style.batch // 8
        assert demo.learning_rates[0] / demo.batch == pytest.approx(style.learning_rates[0] / style.batch)
        assert all(0 < one < demo.epochs for one in demo.milestones)
        assert style.scaled("paper") is style


@pytest.fixture
def styles():
    """Styles and tasks that a test adds go with it."""
    with mock.patch.dict(STYLES), mock.patch.dict(TASKS):
        yield


def test_a_style_of_a_plugin_is_a_task_of_both_groups(styles):
    style = LinearStyle(epochs=5, batch=8, learning_rates=(1.5,))
    online, cached = register_style("ours", style, "a colleague", "lr30 100ep")
    assert named("linear-sgd")[-1] is online and named("linear-cached")[-1] is cached
    assert online.name == "linear-sgd-ours" and cached.settings(Setup(profile="paper")).values["least_views"] == VIEWS
    assert style_of(online.name) is style is style_of(cached.name)
    assert "a colleague" in online.reference and len(published(online)) == len(published(TASKS["linear-sgd-moco"]))
    smoke = online.settings(Setup(profile="smoke")).values
    assert smoke["epochs"] == 1 and smoke["batch"] == 1 and smoke["learning_rates"] == (1.5 / 8,)  # not a batch of none
    assert main(["list", "linear-sgd-ours"]) == 0  # it has no table of published settings
    with pytest.raises(InputError, match="two linear styles are named ours: rename one"):
        register_style("ours", dataclasses.replace(style, epochs=6), "a colleague")


@pytest.mark.parametrize("name", ["", "Ours", "our_s", "-a", "a b", "a/b"])
def test_a_style_has_a_name_of_letters_digits_and_dashes(styles, name):
    with pytest.raises(InputError, match="give a name of lower-case letters, digits and dashes"):
        register_style(name, LinearStyle(learning_rates=(1.0,)), "a colleague")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": "adam"}, "optimiser 'adam' of a linear style: give one of sgd, sgd\\+larc, lars"),
        ({"schedule": "cosine"}, "schedule 'cosine' of a linear style: give one of step, cosine-epoch, cosine-step"),
        ({"learning_rates": ()}, "learning_rates"),
        ({"learning_rates": 0.1}, "learning_rates 0.1 of a linear style: give a tuple"),
        ({"learning_rates": (0.1, 0.0)}, "each above 0"),
        ({"epochs": 0}, "epochs 0 of a linear style: give 1 or more"),
        ({"batch": 0}, "batch 0"),
        ({"milestones": (3,)}, "milestones"),  # a cosine would ignore them
        ({"schedule": "step"}, "milestones"),
        ({"crop_scale": (0.5, 0.1)}, "crop_scale"),
    ],
)
def test_a_style_that_cannot_train_is_refused_by_its_first_setting(changes, words):
    with pytest.raises(InputError, match=words):
        LinearStyle(**{"learning_rates": (1.0,)} | changes)


@pytest.mark.slow
def test_a_thousand_class_folders_from_prepare_to_the_table(tmp_path, monkeypatch):
    """ImageNet's layout, two images per class: a head has 1,000 rows, and each style a record."""
    tasks = ["linear-sgd-moco", "linear-sgd-simsiam"]
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for label in range(1000):
            folder = tmp_path / "source" / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((32, 32)).save(folder / f"{split}_{number}.JPEG")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "r18.pth")
    assert main(["prepare", "imagenet", str(tmp_path / "source"), "--name", "thousand"]) == 0
    words = ["--task", *tasks, "--checkpoint", f"r={tmp_path / 'r18.pth'}", "--profile", "smoke"]
    assert main(["run", *words, "--data", str(tmp_path / "results" / "data" / "thousand"), "--workers", "1"]) == 0
    records = [record for record in ResultsStore().load_all() if record.status == "ok"]
    assert sorted(record.spec.task for record in records) == tasks
    for record in records:
        (folder,) = ResultsStore().path_for(record.spec).glob("*/head.safetensors")
        assert load_file(folder)["weight"].shape == (1000, 512) and record.test_images == 1000
        assert record.metrics["top5"] >= record.metrics["top1"]
        found = load_predictions(folder.parent)
        assert 100 * found.correct.mean() == pytest.approx(record.metrics["top1"])
