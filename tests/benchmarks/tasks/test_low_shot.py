"""Linear evaluation on few labels."""

import dataclasses

import numpy as np
import pytest

from benchmarks.tasks import Setup, linear, low_shot
from benchmarks.tasks.compute.features import Features
from benchmarks.tasks.compute.logistic import evaluate
from benchmarks.tasks.low_shot import low_shot_config
from tests.benchmarks.tasks.compute.test_logistic import blobs


def test_it_takes_ten_rows_per_class_and_chooses_nothing():
    for profile in ("demo", "paper"):
        assert low_shot_config(profile).decays == (0.1,) and low_shot_config(profile).max_iterations >= 1000
    x, y = blobs(80, 6)
    found = evaluate(Features(x, y, 4), Features(x, y, 4), low_shot_config("demo"), 0)
    assert found.settings["decay"] == 0.1 and found.settings["tried"] == [] and found.notes == ()
    assert found.settings["training_rows"] == 40
    assert low_shot.IMAGES_PER_CLASS == 10 and not low_shot.TASK.deterministic


def test_its_seed_draws_the_rows():
    x, y = blobs(200, 6)
    scores = {seed: evaluate(Features(x, y, 4), Features(x, y, 4), low_shot_config("demo"), seed) for seed in (0, 1)}
    again = evaluate(Features(x, y, 4), Features(x, y, 4), low_shot_config("demo"), 1)
    assert scores[1] == again and scores[0].settings["fit"] != again.settings["fit"]
    assert np.isfinite(again.metrics["top1"])


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_its_settings_are_linears_but_for_the_labels_and_the_decay(profile):
    found = low_shot.settings(Setup(profile=profile, num_gpus=8, opts=("A", "1")))
    whole = linear.settings(Setup(profile=profile))
    assert found.precision == "fp32" and {"resize", "crop"} <= set(found.values)
    assert found.digest == low_shot.settings(Setup(profile=profile)).digest != whole.digest
    changed = {"labels_per_class": 10, "decays": (0.1,)}
    assert found.values == whole.values | changed
    assert dataclasses.asdict(low_shot_config(profile)).items() <= found.values.items()
