"""Which parameters of each protocol's detector train, around each ResNet, and that frozen ones stay as they are."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from pretrain.common.errors import InputError, RunError
from tests.transfer.detection.test_trainer import cfg_of
from transfer.detection import checks, trainer
from transfer.detection.config import detector_cfg
from transfer.detection.protocol_files import protocol_names

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
RPN = {
    f"proposal_generator.rpn_head.{layer}.{kind}"
    for layer in ("conv", "objectness_logits", "anchor_deltas")
    for kind in ("weight", "bias")
}
PREDICTOR = {
    f"roi_heads.box_predictor.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
}
# First trained stage of the ResNet, 1 for the stem, and whether its norms train; None: frozen. Others train all of it.
TRAINED = {
    "voc_c4_24k_frozen": None,
    "voc_fpn_24k_frozen": None,
    "voc_probe": None,
    "coco_probe": None,
    "voc_fpn_144k": (1, False),
    "voc_fpn_144k_freeze4": (5, False),
}


def built(protocol, architecture="resnet50"):
    """The detector without memory for its tensors, and its config."""
    cfg = detector_cfg(protocol, architecture, stride_in_1x1=False)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg), cfg


def tensors(blocks, first, norms):
    """Trained tensors of a bottleneck ResNet from stage ``first`` on: a weight per convolution, two more per norm."""
    convolutions = [1, *(3 * count + 1 for count in blocks)]
    return sum(convolutions[first - 1 :]) * (3 if norms else 1)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("architecture", BLOCKS)
@pytest.mark.parametrize("protocol", protocol_names())
def test_every_protocol_trains_the_right_part_of_each_resnet(protocol, architecture):
    model, cfg = built(protocol, architecture)
    part = TRAINED.get(protocol, (1, True))
    wanted = tensors(BLOCKS[architecture], *part) if part else 0
    places = set(checks.detector_names(model, architecture).values())
    assert len(checks.assert_trainable(model, cfg)) == len(trained(model) & places) == wanted
    known = places | {name for name in model.state_dict() if name.startswith(checks.OWN_PARTS)}
    assert {name for name in model.state_dict() if not name.endswith("num_batches_tracked")} <= known


def test_a_frozen_c4_detector_trains_rpn_predictor_and_the_extra_norm_alone():
    model, _ = built("voc_c4_24k_frozen")
    assert trained(model) == RPN | PREDICTOR | {"roi_heads.res5.norm.weight", "roi_heads.res5.norm.bias"}


@pytest.mark.parametrize("protocol", ["voc_fpn_24k_frozen", "voc_probe", "coco_probe"])
def test_a_frozen_fpn_detector_trains_fpn_rpn_and_box_head_alone(protocol):
    model, _ = built(protocol)
    fpn = {f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in (2, 3, 4, 5)}
    parts = {name.rsplit(".norm", 1)[0].removesuffix(".weight") for name in trained(model) if "fpn_" in name}
    head = {f"roi_heads.box_head.fc{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")}
    assert parts == fpn
    assert {name for name in trained(model) if "fpn_" not in name} == RPN | PREDICTOR | head


def test_a_frozen_part_of_the_detectors_own_is_seen():
    model, cfg = built("voc_fpn_24k_frozen")
    model.roi_heads.box_predictor.cls_score.weight.requires_grad_(False)
    with pytest.raises(RunError, match=r"1 parameters of the detector's own .*box_predictor\.cls_score\.weight"):
        checks.assert_trainable(model, cfg)


def test_a_trained_res5_under_a_frozen_head_is_seen():
    model, cfg = built("voc_c4_24k_frozen")
    model.roi_heads.res5[2].conv3.weight.requires_grad_(True)
    with pytest.raises(RunError, match=r"FREEZE_AT 5 should train 0 .* trains 1; .*res5\.2\.conv3\.weight"):
        checks.assert_trainable(model, cfg)


def test_a_frozen_head_over_trained_stages_is_refused(converted, scratch):
    with pytest.raises(InputError, match="FREEZE_AT 4: FrozenRes5ROIHeadsExtraNorm freezes res5"):
        cfg_of(converted, scratch, protocol="voc_c4_24k_frozen", opts=["MODEL.BACKBONE.FREEZE_AT", "4"])


@pytest.mark.parametrize("protocol", ["voc_c4_24k_frozen", "voc_fpn_24k_frozen", "voc_probe"])
def test_a_training_step_leaves_a_frozen_resnet_bit_for_bit(protocol, converted, scratch):
    cfg = cfg_of(converted, scratch, protocol=protocol)
    model = trainer.Trainer.build_model(cfg)
    trainer.DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    before = copy.deepcopy(model.state_dict())
    objects = Instances((96, 96), gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 70.0, 80.0]])), gt_classes=torch.tensor([1]))
    image = torch.randint(0, 256, (3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    optimiser = trainer.Trainer.build_optimizer(cfg, model)
    with EventStorage():
        sum(model.train()([{"image": image, "instances": objects}]).values()).backward()
    optimiser.step()
    after = model.state_dict()
    places = set(checks.detector_names(model, "resnet50").values())
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert checks.assert_backbone_loaded(model, converted.arrays(), converted.path) == 265 == len(places)
    assert not changed & places
    assert "proposal_generator.rpn_head.conv.weight" in changed
    assert ("roi_heads.res5.norm.running_mean" in changed) == ("c4" in protocol)
