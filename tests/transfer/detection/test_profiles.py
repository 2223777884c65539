"""The small profiles change sizes, never what a protocol is about: its kind of norms, and what is frozen."""

import pytest

from tests.transfer.detection.test_trainer import cfg_of
from transfer.detection.config import NORM_KEYS, identity, protocol_cfg, resolved_protocol
from transfer.detection.protocol_files import protocol_names


def norms(cfg):
    model = cfg.MODEL
    return [model[key.split(".")[1]]["NORM"] for key in NORM_KEYS]


@pytest.mark.parametrize("protocol", protocol_names())
@pytest.mark.parametrize("profile", ["smoke", "demo", "small"])
def test_small_profiles_replace_synchronised_norms_alone(protocol, profile):
    paper, small = protocol_cfg(protocol), resolved_protocol(protocol, profile, 1, [])
    plain = {"SyncBN": "BN", "naiveSyncBN": "BN", "FrozenBN": "FrozenBN", "GN": "GN", "": ""}
    assert norms(small) == [plain[norm] for norm in norms(paper)]
    assert small.MODEL.BACKBONE.FREEZE_AT == paper.MODEL.BACKBONE.FREEZE_AT
    assert small.MODEL.ROI_HEADS.NAME == paper.MODEL.ROI_HEADS.NAME
    assert small.SOLVER.REFERENCE_WORLD_SIZE == 0
    assert small.SOLVER.MAX_ITER <= 450 or profile == "small"  # whose schedule is the data's


@pytest.mark.parametrize(("protocol", "width"), [("coco_fpn_4conv1fc_1x", 128), ("coco_fpn_1x", 256)])
def test_the_box_heads_convolutions_shrink_only_where_there_are_some(protocol, width):
    found = resolved_protocol(protocol, "demo", 0, []).MODEL.ROI_BOX_HEAD.CONV_DIM
    assert found == width


def test_a_retinanets_classes_are_the_datas_and_no_part_of_its_identity(converted, scratch):
    few, many = (
        cfg_of(converted, scratch, protocol="coco_retinanet_1x", num_classes=classes, mask_format="none")
        for classes in (3, 20)
    )
    assert (few.MODEL.RETINANET.NUM_CLASSES, many.MODEL.RETINANET.NUM_CLASSES) == (3, 20)
    assert identity(few) == identity(many)
    assert "NUM_CLASSES" not in identity(few)["MODEL"]["RETINANET"]
    other = cfg_of(converted, scratch, protocol="coco_fpn_1x")
    assert identity(other)["MODEL"]["RETINANET"]["NUM_CLASSES"] == 80  # as in records of before
