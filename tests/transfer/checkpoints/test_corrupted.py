"""Corrupted checkpoints at random places: refused by the name of what is wrong, or listed as what nobody can see.

Of what no check can see (docs/checkpoints.md) the hash still tells that the tensors are others.
"""

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from pretrain.common.errors import InputError
from transfer.checkpoints import key_map, verify
from transfer.checkpoints.backbone import backbone_of, weights_digest
from transfer.checkpoints.convert import renamed
from transfer.checkpoints.reading.read import CheckpointFile

DRAWS = 12
TYPES = (torch.float64, torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)


@pytest.fixture(scope="module")
def state():
    """A ResNet-18 with few different numbers: what is looked at are names, shapes, types and finiteness."""
    with torch.device("meta"):
        shapes = resnet18(weights=None).state_dict()
    state = {}
    for number, (name, value) in enumerate(shapes.items()):
        if not name.startswith("fc."):
            state[name] = torch.full((), number + 1, dtype=value.dtype).expand(value.shape)
    return state


def read(state):
    return backbone_of(CheckpointFile(path=Path("x.pth"), content=state, meta=None))


def refused(state, message):
    with pytest.raises(InputError, match=message) as caught:
        read(state)
    assert "\n" not in str(caught.value)


def weights(state):
    return [name for name in state if not name.endswith(key_map.COUNTER)]


def spoiled(value, number):
    """``value`` with ``number`` somewhere in it."""
    copy = value.clone()
    copy.view(-1)[random.randrange(copy.numel())] = number
    return copy


@pytest.fixture(params=range(DRAWS))
def name(request, state):
    random.seed(request.param)
    return random.choice(weights(state))


def test_whole(state):
    assert read(state).architecture == "resnet18"


def test_dropped(state, name):
    refused({key: value for key, value in state.items() if key != name}, f"missing {name}")


def test_renamed(state, name):
    place = random.randrange(len(name))
    other = name[:place] + random.choice("abz09._") + name[place + random.randrange(2) :]
    if other in state:
        pytest.skip("the same name, or another's")
    refused({other if key == name else key: value for key, value in state.items()}, f"missing {name}.*not mapped")


def test_cut_or_grown(state, name):
    value = state[name]
    other = value[:-1] if random.random() < 0.5 else torch.cat([value, value[:1]])
    refused(state | {name: other}, f"wrong shape {name}")


def test_another_rank(state, name):
    refused(state | {name: state[name].unsqueeze(0)}, f"wrong shape {name}")


def test_another_type(state, name):
    refused(state | {name: state[name].to(random.choice(TYPES))}, f"not plain float32 or half {name}")


def test_not_finite(state, name):
    number = random.choice([float("nan"), float("inf"), float("-inf")])
    refused(state | {name: spoiled(state[name], number)}, f"NaN or infinite values in {name}")


@pytest.mark.parametrize("seed", range(4))
def test_negative_variance(state, seed):
    random.seed(seed)
    name = random.choice([key for key in state if key.endswith("running_var")])
    refused(state | {name: spoiled(state[name], -1.0)}, f"negative variance in {name}")


@pytest.mark.parametrize("seed", range(DRAWS))
def test_transposed(state, seed):
    """A kernel with as many inputs as outputs is one of those that nobody can see."""
    random.seed(seed)
    name = random.choice([key for key in state if state[key].dim() == 4])
    value = torch.arange(state[name].numel(), dtype=torch.float32).view(state[name].shape) / state[name].numel()
    turned = value.transpose(0, 1)
    if turned.shape != value.shape:
        refused(state | {name: turned}, f"wrong shape {name}")
    else:
        assert read(state | {name: turned}).sha256 != read(state | {name: value}).sha256


@pytest.mark.parametrize("seed", range(4))
def test_two_layers_of_one_shape_in_each_others_place_are_not_seen_but_the_hash_differs(state, seed):
    random.seed(seed)
    one = random.choice([key for key in state if key.startswith("layer") and key.endswith("conv1.weight")])
    alike = [key for key in weights(state) if key != one and state[key].shape == state[one].shape]
    other = random.choice(alike or [one])
    whole, swapped = read(state), read(state | {one: state[other], other: state[one]})
    assert (swapped.sha256 == whole.sha256) == (one == other)
    table = key_map.to_detectron2("resnet18")
    found = verify.differing(renamed(swapped), whole.state)
    assert sorted(found) == sorted({table[one], table[other]} if one != other else [])


def test_scaled_values_are_not_seen_but_the_hash_differs(state, name):
    assert read(state | {name: state[name] * 2}).sha256 != weights_digest(state)


def test_a_file_of_another_familys_network_keeps_its_place(state):
    """Two complete networks under two prefixes are never mixed: each tensor comes from the one that is taken."""
    other = {key: value + 1 for key, value in state.items()}
    content = {
        "state_dict": {f"module.encoder_q.{key}": value for key, value in state.items()}
        | {f"module.encoder_k.{key}": value for key, value in other.items()}
    }
    query, key = (
        backbone_of(CheckpointFile(path=Path("x.pth"), content=content, meta=None), network=network)
        for network in ("query", "key")
    )
    assert (query.sha256, key.sha256) == (weights_digest(state), weights_digest(other))
    assert dataclasses.replace(query, state={}, sha256="", dropped={}, network="key") == dataclasses.replace(
        key, state={}, sha256="", dropped={}
    )
