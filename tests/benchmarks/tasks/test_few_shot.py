"""The few-shot task: its published settings, a whole run, and data that it cannot run on."""

import numpy as np
import pytest

from benchmarks.plan import check_data
from benchmarks.records import ResultsStore
from benchmarks.tasks import Setup, few_shot
from pretrain.common.errors import InputError
from tests.benchmarks.plans import plan_of
from tests.benchmarks.tasks.small import executed, image_root, pictures

GREYS = {"ant": 40, "bee": 80, "cow": 120, "dog": 160, "elk": 200, "fly": 230}


def test_its_settings_are_the_published_ones_and_small_profiles_have_fewer_episodes_and_smaller_images():
    paper = few_shot.settings(Setup(profile="paper")).values
    assert paper == {
        "episodes": 600,
        "ways": 5,
        "shots": (1, 5, 20, 50),
        "queries": 15,
        "distance": "squared Euclidean",
        "interval_factor": 1.96,
        "resize": 257,
        "crop": 224,
        "squash": True,
        "interpolation": "bilinear",
    }
    for profile, sizes in (("smoke", (55, 48)), ("demo", (73, 64))):
        small = few_shot.settings(Setup(profile=profile)).values
        assert {key for key in paper if paper[key] != small[key]} == {"episodes", "resize", "crop"}
        assert (small["resize"], small["crop"]) == sizes
        view = few_shot.view_of(profile)
        assert {"resize": view.resize, "crop": view.crop, "squash": view.squash}.items() <= small.items()
    keys = [metric.key for metric in few_shot.TASK.metrics]
    assert keys == [f"{kind}{shots}" for kind in ("shot", "ci95_") for shots in (5, 20, 50, 1)]


def test_a_users_folder_gets_a_record_of_its_episodes(tmp_path, monkeypatch):
    alike = dict(zip(GREYS, range(100, 106), strict=True))
    root = image_root(tmp_path, monkeypatch, alike, train=15, val=5)
    record = executed(root, "few-shot")["few-shot"]
    assert 25 < record.metrics["shot1"] < record.metrics["shot5"] < 100 and record.test_images == 120
    assert record.metrics["shot20"] is record.metrics["ci95_50"] is None
    assert record.notes == tuple(
        f"{shots}-shot is undefined: 0 classes have the {shots + 15} images that it takes" for shots in (20, 50)
    )
    assert record.config["classes"] == {"1": 6, "5": 6, "20": 0, "50": 0} and record.files == ("episodes.npz",)
    with np.load(ResultsStore().paths(record.spec)[0].with_suffix("") / "episodes.npz") as stored:
        assert set(stored) == {"shot1", "shot5"} and len(stored["shot5"]) == 20
        assert record.metrics["shot1"] == pytest.approx(100 * stored["shot1"].mean())
        assert record.metrics["ci95_1"] == pytest.approx(196 * stored["shot1"].std() / np.sqrt(20))
    other = executed(root, "few-shot", seed=1)["few-shot"]
    assert other.metrics["shot1"] != record.metrics["shot1"]


def test_classes_without_enough_images_are_named(tmp_path, monkeypatch):
    pictures(tmp_path / "source" / "train" / "gnu", 20, 12)
    pictures(tmp_path / "source" / "val" / "gnu", 20, 4, seed=1)
    root = image_root(tmp_path, monkeypatch, GREYS, train=15, val=5)
    record = executed(root, "few-shot")["few-shot"]
    assert record.notes[0] == "5-shot is of the 6 of 7 classes with 20 images" and record.config["classes"]["1"] == 7


def test_fewer_than_five_usable_classes_are_refused_before_a_run(tmp_path, monkeypatch):
    greys = {name: GREYS[name] for name in ("ant", "bee", "cow", "dog")}
    pictures(tmp_path / "source" / "train" / "elk", 200, 11)
    pictures(tmp_path / "source" / "val" / "elk", 200, 4, seed=1)  # one less than a shot and 15 queries
    root = image_root(tmp_path, monkeypatch, greys, train=11, val=5)
    message = "few-shot needs 5 classes of 16 images or more, train and val together, and data set greys has 4: add"
    with pytest.raises(InputError, match=message):
        check_data(plan_of(root.path, "few-shot"), "")
    pictures(tmp_path / "source" / "val" / "elk", 200, 5, seed=1)
    check_data(plan_of(image_root(tmp_path, monkeypatch, greys, train=11, val=5).path, "few-shot"), "")
