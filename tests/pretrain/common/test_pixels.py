"""How a network expects its images."""

import dataclasses
import json
from dataclasses import replace

import pytest

from pretrain.common.pixels import PixelInput

BGR = PixelInput(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 0.5), order="BGR", stride_in_1x1=True, assumed="the std")


@pytest.mark.parametrize("values", [BGR.identity(), dataclasses.asdict(BGR)])
def test_json_round_trip(values):
    assert PixelInput.from_json(json.loads(json.dumps(values))) == BGR


def test_assumed_is_no_part_of_the_identity():
    known = replace(BGR, assumed="")
    assert known == BGR and hash(known) == hash(BGR) and known.identity() == BGR.identity()
    assert PixelInput.from_json(dataclasses.asdict(BGR)).assumed == "the std"


def test_every_other_field_is_part_of_it():
    changed = {"mean": (0.0, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "order": "RGB", "stride_in_1x1": False}
    for name, value in changed.items():
        other = replace(BGR, **{name: value})
        assert other != BGR and other.identity() != BGR.identity()


def test_identity_rounds():
    assert replace(BGR, mean=(0.1 + 1e-12, 0.2, 0.3)).identity() == BGR.identity()


def test_other_values():
    with pytest.raises(KeyError):
        PixelInput.from_json({"mean": [0.0]})
