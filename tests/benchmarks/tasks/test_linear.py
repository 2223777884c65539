"""Linear evaluation's settings."""

import dataclasses

import numpy as np
import pytest

from benchmarks.tasks import Setup, linear
from benchmarks.tasks.linear import LinearConfig, linear_config


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_the_grid_is_half_decades(profile):
    config = linear_config(profile)
    assert (config.decays[0], config.decays[-1], len(config.decays)) == (1.0, 1e-6, 13)
    assert np.diff(np.log10(config.decays)) == pytest.approx(-0.5, abs=1e-3)
    assert config.max_iterations >= 1000 and config.labels_per_class is None


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_its_settings_are_every_field_of_the_fit_and_the_crop(profile):
    found = linear.settings(Setup(profile=profile, num_gpus=8, opts=("A", "1")))
    fields = {field.name for field in dataclasses.fields(LinearConfig)}
    assert found.precision == "fp32" and set(found.values) == fields | {"resize", "crop"}
    assert found.digest == linear.settings(Setup(profile=profile)).digest
