"""The name table against torchvision's and detectron2's own modules, and against a rename written another way."""

import re

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from torchvision.models import resnet50

from transfer import names


def renamed_by_rules(name):
    """The usual rename loop, here only as a second opinion."""
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name)
    stage, rest = (f"res{int(match[1]) + 1}.{match[2]}.", match[3]) if match else ("stem.", name)
    rest = re.sub(r"^bn(\d)", r"conv\1.norm", rest)
    return stage + re.sub(r"^downsample\.([01])", lambda m: "shortcut" + (".norm" if m[1] == "1" else ""), rest)


def test_covers_torchvision_exactly():
    backbone = {name for name in resnet50(weights=None).state_dict() if not name.startswith("fc.")}
    assert set(names.to_detectron2()) | set(names.counters()) == backbone
    assert (len(names.to_detectron2()), len(names.counters())) == (265, 53)
    assert not set(names.to_detectron2()) & set(names.counters())


def test_covers_detectron2_exactly():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    state = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
    assert set(names.to_torchvision()) == {name for name in state if not name.endswith("num_batches_tracked")}


def test_is_a_bijection_with_its_inverse():
    forward, backward = names.to_detectron2(), names.to_torchvision()
    assert len(set(forward.values())) == len(forward)
    assert all(backward[forward[name]] == name for name in forward)
    assert all(forward[backward[name]] == name for name in backward)


def test_agrees_with_the_rename_rules():
    assert all(ours == renamed_by_rules(theirs) for theirs, ours in names.to_detectron2().items())
