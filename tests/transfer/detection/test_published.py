"""Every protocol's resolved paper config against the authors' (results/reference/detection.toml), key by key.

Each key of detectron2's config is compared, or left out by name. A protocol differs from its source in DIFFERENCES and
nowhere else; one without a source of its own is compared with the source it is built on.
"""

import dataclasses
import tomllib

import pytest
from detectron2.config import get_cfg

from benchmarks.report.published import REFERENCE
from pretrain.common.errors import InputError
from tests.transfer.detection.test_protocols import flat
from tests.transfer.detection.test_trainer import cfg_of
from transfer.checkpoints.families.detectron2 import MSRA
from transfer.detection.config import resolved_protocol
from transfer.detection.protocol_files import PROTOCOLS, protocol_block, protocol_names

SETTINGS = tomllib.loads(REFERENCE.with_name("detection.toml").read_text(encoding="utf-8"))
DEFAULTS = SETTINGS["detectron2"]
TABLES = SETTINGS.keys() - {"meta", "detectron2"}
LEFT_OUT = {  # keys that the tables do not have
    "DATASETS.": "the data root names the sets; the test of the layout stands for it",
    "MODEL.WEIGHTS": "the checkpoint",
    "MODEL.DEVICE": "the machine",
    "MODEL.SEM_SEG_HEAD.": "no such head here",
    "MODEL.PANOPTIC_FPN.": "no such head here",
    "DATALOADER.NUM_WORKERS": "each worker draws its own augmentations, as another seed does",
    "GLOBAL.": "no number depends on it",
    "OUTPUT_DIR": "a folder",
    "SEED": "a run's own",
    "CUDNN_BENCHMARK": "speed alone",
    "FLOAT32_PRECISION": "detectron2's default",
    "VIS_PERIOD": "pictures",
    "VERSION": "of the file's format",
    "TEST.EXPECTED_RESULTS": "detectron2's own tests",
    "SOLVER.CHECKPOINT_PERIOD": "writes files",
}
OURS = {"SOLVER.OPTIMIZER": "SGD"}  # keys that detectron2 lacks, apart from TRANSFER
BUILT_ON = {  # protocols of our own
    "voc_fpn_24k": "coco_fpn_1x",
    "voc_fpn_24k_frozen": "coco_fpn_1x",
    "voc_c4_24k_frozen": "voc_c4_24k",
    "coco_det_c4_1x": "coco_c4_1x",
    "coco_det_fpn_1x": "coco_fpn_1x",
    "coco_det_fpn_1pct": "coco_det_fpn_5pct",
    "coco_det_fpn_2pct": "coco_det_fpn_5pct",
    "voc_probe": "coco_fpn_1x",
    "coco_probe": "coco_fpn_1x",
}
WORLD = {"SOLVER.REFERENCE_WORLD_SIZE": 8}  # fewer GPUs rescale batch, rate and iterations; the authors' files do not
NAIVE = {"MODEL.RESNETS.NORM": "naiveSyncBN"}  # MoCo's since d00ef73; the word SyncBN meant it when these were measured
BOXES = {"MODEL.MASK_ON": False}  # data whose objects have no masks
VOC_SCHEDULE = {  # the table voc_c4_24k has the same values
    "MODEL.ROI_HEADS.NUM_CLASSES": 20,
    "INPUT.MIN_SIZE_TRAIN": list(range(480, 801, 32)),
    "SOLVER.STEPS": [18000, 22000],
    "SOLVER.MAX_ITER": 24000,
    "SOLVER.WARMUP_ITERS": 100,
}
MASK_HEAD_UNUSED = {"MODEL.ROI_MASK_HEAD.NUM_CONV": 0}  # detectron2's default, where no mask is predicted
ONE_GPU = {"SOLVER.REFERENCE_WORLD_SIZE": 1}  # as WORLD
SSL = {  # the keys in which the authors' files for self-supervised weights differ from detectron2's own
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.FPN.NORM": "SyncBN",
    "TEST.PRECISE_BN.ENABLED": True,
}
TRAINED_WHOLE = {  # MoCo's kind of detector, where the source keeps the norms' statistics and the first layers fixed
    key: SSL[key]
    for key in ("MODEL.BACKBONE.FREEZE_AT", "MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "TEST.PRECISE_BN.ENABLED")
}
FROM_BACKBONE = SSL | {  # few-shot detection starts from a detector of other classes, a ResNet-101
    "MODEL.RESNETS.DEPTH": 50,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.WARMUP_ITERS": 100,
}
PROBE = {  # base/probe.yaml
    "MODEL.BACKBONE.FREEZE_AT": 5,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.FPN.OUT_CHANNELS": 128,
    "MODEL.FPN.NORM": "GN",
    "MODEL.ROI_BOX_HEAD.FC_DIM": 512,
    "INPUT.MIN_SIZE_TRAIN": [480],
    "INPUT.MAX_SIZE_TRAIN": 800,
    "INPUT.MIN_SIZE_TEST": 480,
    "INPUT.MAX_SIZE_TEST": 800,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.STEPS": [],
    "SOLVER.WARMUP_ITERS": 100,
    "TEST.PRECISE_BN.ENABLED": False,
}
DIFFERENCES = {
    **dict.fromkeys(TABLES, WORLD),
    "voc_fpn_144k": ONE_GPU | MASK_HEAD_UNUSED,
    "voc_fpn_144k_freeze4": ONE_GPU | MASK_HEAD_UNUSED,
    "coco_c4_1x": WORLD | NAIVE,
    "lvis_v1_fpn_1x": WORLD | SSL,
    "coco_keypoint_fpn_2x": WORLD | MASK_HEAD_UNUSED,
    "voc_fpn_24k": WORLD | VOC_SCHEDULE | BOXES | MASK_HEAD_UNUSED,
    # All of the ResNet is frozen, so its norms are constants whatever they are called.
    "voc_fpn_24k_frozen": WORLD
    | VOC_SCHEDULE
    | BOXES
    | MASK_HEAD_UNUSED
    | {"MODEL.BACKBONE.FREEZE_AT": 5, "MODEL.RESNETS.NORM": "FrozenBN"},
    "voc_c4_24k_frozen": WORLD | {"MODEL.BACKBONE.FREEZE_AT": 5, "MODEL.ROI_HEADS.NAME": "FrozenRes5ROIHeadsExtraNorm"},
    "coco_det_c4_1x": WORLD | NAIVE | BOXES,
    "coco_det_fpn_1x": WORLD | BOXES,
    **{f"coco_det_fpn_{percent}pct": WORLD | TRAINED_WHOLE for percent in (1, 2, 5, 10)},
    **{f"voc_fpn_{shots}shot": WORLD | FROM_BACKBONE for shots in (1, 5, 10)},
    "voc_probe": BOXES | MASK_HEAD_UNUSED | PROBE | {"MODEL.ROI_HEADS.NUM_CLASSES": 20, "SOLVER.MAX_ITER": 1000},
    "coco_probe": BOXES | MASK_HEAD_UNUSED | PROBE | {"SOLVER.MAX_ITER": 2000},
}


def plain(value):
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return "none" if value is None else value


def table_of(protocol):
    return SETTINGS[BUILT_ON.get(protocol, protocol)]


def resolved(protocol):
    cfg = resolved_protocol(protocol, "paper", table_of(protocol)["gpus"], [])
    return {key: plain(value) for key, value in flat(cfg) if not key.startswith("TRANSFER.")}


def left_out(key):
    return key.startswith(tuple(LEFT_OUT))


def differing(protocol, ours):
    """Our values of the keys that are not as in the table."""
    published = DEFAULTS | {key: value for key, value in table_of(protocol)["config"].items() if not left_out(key)}
    assert not published.keys() - ours.keys()
    return {key: ours[key] for key in published if ours[key] != published[key]}


def test_the_defaults_are_those_of_the_installed_detectron2():
    found = {key: plain(value) for key, value in flat(get_cfg())}
    assert {key: value for key, value in found.items() if not left_out(key)} == DEFAULTS


def test_every_protocol_has_a_table_or_stands_on_one():
    assert set(protocol_names()) == TABLES | BUILT_ON.keys()
    assert not TABLES & BUILT_ON.keys() and set(BUILT_ON.values()) <= TABLES


@pytest.mark.parametrize("protocol", protocol_names())
def test_paper_config_is_the_published_one_but_for_the_named_differences(protocol):
    assert differing(protocol, resolved(protocol)) == DIFFERENCES[protocol]


@pytest.mark.parametrize("protocol", protocol_names())
def test_keys_that_are_not_compared_are_detectron2s_defaults(protocol):
    defaults = {key: plain(value) for key, value in flat(get_cfg())}
    found = {key: value for key, value in resolved(protocol).items() if key not in DEFAULTS}
    assert {key: value for key, value in found.items() if not left_out(key)} == OURS
    assert {key: value for key, value in found.items() if key not in OURS} == {
        key: value for key, value in defaults.items() if left_out(key)
    }


def test_a_key_off_is_seen():
    ours = resolved("voc_c4_24k") | {"MODEL.RPN.NMS_THRESH": 0.6}
    assert differing("voc_c4_24k", ours) == WORLD | {"MODEL.RPN.NMS_THRESH": 0.6}


@pytest.mark.parametrize("protocol", sorted(TABLES))
def test_layout_and_header_name_the_tables_data_and_source(protocol):
    table = SETTINGS[protocol]
    train, test = (table["config"][f"DATASETS.{split}"] for split in ("TRAIN", "TEST"))
    published = {
        "voc": (["voc_2007_trainval", "voc_2012_trainval"], ["voc_2007_test"]),
        "coco": (["coco_2017_train"], ["coco_2017_val"]),
        "cityscapes": (["cityscapes_fine_instance_seg_train"], ["cityscapes_fine_instance_seg_val"]),
        "lvis": (["lvis_v1_train"], ["lvis_v1_val"]),
        "keypoints": (["keypoints_coco_2017_train"], ["keypoints_coco_2017_val"]),
    }
    block = protocol_block(PROTOCOLS / f"{protocol}.yaml")
    if "SUBSET" in block:  # the source draws its images once, under a name of its own
        ((_, amount),) = block["SUBSET"].items()
        assert train[0].endswith((f"@{amount}", f"_{amount}shot")) and len(train) == 1
        assert test[0].startswith(published[block["LAYOUT"]][1][0])
    else:
        assert (train, test) == published[block["LAYOUT"]]
    source, header = table["source"], (PROTOCOLS / f"{protocol}.yaml").read_text().split("_BASE_")[0]
    repository, file = source.split("@")[0], source.rsplit("/", 1)[1]
    assert len(source.split("@")[1].split(":")[0]) == 7 and file.endswith((".yaml", ".yml"))
    assert repository in header
    assert all(isinstance(table[key], str) for key in ("expected", "spread", "cost")) and table["expected"]


def test_msra_weights_have_the_pixels_of_the_authors_supervised_rows(converted, scratch):
    """Their files for supervised rows, without ``_moco`` in the name, leave detectron2's defaults in these keys."""
    msra = dataclasses.replace(converted, input=MSRA)
    cfg = dict(flat(cfg_of(msra, scratch, protocol="voc_c4_24k", profile="paper", num_gpus=8)))
    keys = {"INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1"}
    assert {key: plain(cfg[key]) for key in keys} == {key: DEFAULTS[key] for key in keys}
    assert set(cfg["TRANSFER.FROM_CHECKPOINT"]) == keys


def test_a_table_of_one_gpu_runs_on_eight_by_the_linear_rule():
    solver = resolved_protocol("voc_fpn_144k_freeze4", "paper", 8, []).SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (16, 0.02, 18000)
    assert solver.STEPS == (12000, 16000)
    with pytest.raises(InputError):
        resolved_protocol("voc_fpn_144k_freeze4", "paper", 8, ["SOLVER.REFERENCE_WORLD_SIZE", "0"])


@pytest.mark.parametrize("protocol", ["voc_probe", "coco_probe"])
def test_a_probe_is_the_same_on_any_number_of_gpus(protocol):
    configs = [dict(flat(resolved_protocol(protocol, "paper", gpus, []))) for gpus in (0, 1, 2, 8)]
    apart = ("TRANSFER.NUM_GPUS", "MODEL.DEVICE")
    assert len({str({key: value for key, value in cfg.items() if key not in apart}) for cfg in configs}) == 1
