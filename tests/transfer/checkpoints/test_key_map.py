"""The name table against torchvision's and detectron2's own modules, and against a rename written another way."""

import re

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

from transfer.checkpoints import key_map
from transfer.checkpoints.architecture import expected_shapes, identify

# 5 tensors a convolution with its norm; ResNet-18 has 20 of them, ResNet-34 36, ResNet-50 53, …
COUNTS = {
    "resnet18": (100, 20),
    "resnet34": (180, 36),
    "resnet50": (265, 53),
    "resnet101": (520, 104),
    "resnet152": (775, 155),
}


def renamed_by_rules(name):
    """The usual rename loop, here only as a second opinion."""
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name)
    stage, rest = (f"res{int(match[1]) + 1}.{match[2]}.", match[3]) if match else ("stem.", name)
    rest = re.sub(r"^bn(\d)", r"conv\1.norm", rest)
    return stage + re.sub(r"^downsample\.([01])", lambda m: "shortcut" + (".norm" if m[1] == "1" else ""), rest)


@pytest.fixture(params=list(COUNTS))
def architecture(request):
    return request.param


def test_covers_torchvision_exactly(architecture):
    with torch.device("meta"):
        state = torchvision.models.get_model(architecture, weights=None).state_dict()
    backbone = {name for name in state if not name.startswith("fc.")}
    table, counters = key_map.to_detectron2(architecture), key_map.counters(architecture)
    assert set(table) | set(counters) == backbone
    assert (len(table), len(counters)) == COUNTS[architecture]
    assert not set(table) & set(counters)


def test_covers_detectron2_exactly(architecture):
    cfg = get_cfg()
    depth = int(architecture.removeprefix("resnet"))
    cfg.MODEL.RESNETS.merge_from_list(["DEPTH", depth, "RES2_OUT_CHANNELS", 64 if depth < 50 else 256])
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    with torch.device("meta"):
        state = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
    wanted = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert set(key_map.to_torchvision(architecture)) == set(wanted)
    shapes = expected_shapes(architecture)
    assert {ours: shapes[theirs] for ours, theirs in key_map.to_torchvision(architecture).items()} == wanted


def test_is_a_bijection_with_its_inverse(architecture):
    forward, backward = key_map.to_detectron2(architecture), key_map.to_torchvision(architecture)
    assert len(set(forward.values())) == len(forward)
    assert all(backward[forward[name]] == name for name in forward)
    assert all(forward[backward[name]] == name for name in backward)


def test_agrees_with_the_rename_rules(architecture):
    assert all(ours == renamed_by_rules(theirs) for theirs, ours in key_map.to_detectron2(architecture).items())


def test_architecture_is_told_by_its_names_even_if_some_are_missing(architecture):
    theirs, ours = list(key_map.to_detectron2(architecture)), list(key_map.to_torchvision(architecture))
    assert identify(theirs) == identify([*theirs, *key_map.counters(architecture), "x"]) == architecture
    assert identify(theirs[:-3]) == key_map.nearest(ours[:-3]) == key_map.nearest(ours) == architecture
