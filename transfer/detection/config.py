"""Build detectron2's config of one run from a protocol file, a profile, converted weights and the data.

Pure: it reads the protocol's file and nothing else. To see a config:
``python -c "from transfer.detection.config import protocol_cfg; print(protocol_cfg('voc_c4_24k'))"``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer

from pretrain.common.errors import InputError
from transfer.checkpoints import key_map
from transfer.checkpoints.converted import ConvertedWeights
from transfer.detection import heads, profiles
from transfer.detection.fitted import DataFacts
from transfer.detection.options import FIXED_KEYS, RETINANET_CLASSES, WITHOUT_EFFECT, get_key, merge_opts, set_key
from transfer.detection.protocol_files import FAULTS, protocol_file, protocol_keys, protocol_subset

HEADS = (heads.Res5ROIHeadsExtraNorm, heads.FrozenRes5ROIHeadsExtraNorm)  # registered on import
NORM_KEYS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_MASK_HEAD.NORM")
SYNCHRONISED = ("SyncBN", "naiveSyncBN")
SCALED_KEYS = (
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.BASE_LR",
    "SOLVER.STEPS",
    "SOLVER.MAX_ITER",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.REFERENCE_WORLD_SIZE",
    "TEST.PRECISE_BN.NUM_ITER",
)


def protocol_cfg(protocol: str | Path) -> CfgNode:
    """detectron2's defaults, our own keys, and the protocol file (a name of ours or a path) over them."""
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "SGD"  # or AdamW
    cfg.TRANSFER = CfgNode(
        {
            "PROTOCOL": Path(protocol).stem,
            "PROFILE": "paper",
            "NUM_GPUS": 8,
            "CPU_BF16": False,  # autocast on CPUs that have the instructions
            "RESUME": True,  # continue from the last checkpoint in OUTPUT_DIR
            "KEEP_FILES": True,  # checkpoints, after the run too
            "FROM_CHECKPOINT": [],  # keys whose value in the protocol the checkpoint replaced
            "UNSCALED": {},  # values before they were fitted to NUM_GPUS
        }
    )
    path = protocol_file(protocol)
    try:
        cfg.merge_from_other_cfg(CfgNode(protocol_keys(path)))
    except FAULTS as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if subset := protocol_subset(path):
        # Absent from other protocols, whose identity it would change. FILE: a published draw, known by its content.
        cfg.TRANSFER.SUBSET = CfgNode({"PERCENT": 0.0, "SHOTS": 0, "FILE": "", "FILE_SHA256": ""} | subset)
    return cfg


def build_cfg(
    *,
    protocol: str | Path,
    profile: profiles.Profile,
    converted: ConvertedWeights,
    train: tuple[str, ...],
    test: tuple[str, ...],
    num_classes: int,
    mask_format: str,
    seed: int,
    output_dir: Path,
    num_gpus: int,
    opts: list[str],
    facts: DataFacts | None = None,
) -> CfgNode:
    """The frozen config of one run.

    Order: protocol, profile, the fit to ``num_gpus`` (0: the CPU, where synchronised norms become BN; fewer than the
    protocol's: batch, rate and iterations rescaled; TRANSFER.UNSCALED keeps the values before), ``opts`` (KEY VALUE …,
    as detectron2 takes them, used unscaled), then FIXED_KEYS from the checkpoint and the data. ``train`` and
    ``test`` are registered names; ``mask_format`` is polygon, bitmask or none. ``facts`` of the training set are for
    profile small alone. InputError for an unknown key, or one that opts may not set.
    """
    assert (facts is not None) == (profile == profiles.FITTED)
    cfg = resolved_protocol(protocol, profile, num_gpus, opts, facts)
    network = _input(converted) | resnet_keys(converted.architecture, converted.input.stride_in_1x1)
    fixed = network | {
        "MODEL.WEIGHTS": str(converted.path),
        "MODEL.ROI_HEADS.NUM_CLASSES": num_classes,
        "INPUT.MASK_FORMAT": cfg.INPUT.MASK_FORMAT if mask_format == "none" else mask_format,
        "DATASETS.TRAIN": tuple(train),
        "DATASETS.TEST": tuple(test),
        "SEED": seed,
        "OUTPUT_DIR": str(output_dir),
    }
    assert set(fixed) == set(FIXED_KEYS)
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        fixed[RETINANET_CLASSES] = num_classes
    cfg.TRANSFER.FROM_CHECKPOINT = [key for key in network if get_key(cfg, key) != fixed[key]]
    for key, value in fixed.items():
        set_key(cfg, key, value)
    _require_possible(cfg, mask_format)
    cfg.freeze()
    return cfg


def resolved_protocol(
    protocol: str | Path, profile: profiles.Profile, num_gpus: int, opts: list[str], facts: DataFacts | None = None
) -> CfgNode:
    """The protocol as it will run: ``build_cfg`` before the checkpoint, the data and the seed set FIXED_KEYS."""
    cfg = protocol_cfg(protocol)
    changes = profiles.overlay(
        profile,
        fpn=_is_fpn(cfg),
        conv_head=cfg.MODEL.ROI_BOX_HEAD.NUM_CONV > 0,
        keypoints=cfg.MODEL.KEYPOINT_ON,
        facts=facts,
        anchors=[len(sizes) for sizes in cfg.MODEL.ANCHOR_GENERATOR.SIZES],
    )
    for key, value in changes.items():
        if key not in NORM_KEYS or get_key(cfg, key) in SYNCHRONISED:  # a frozen norm, or none, is the protocol's point
            cfg.merge_from_list([key, value])
    if profile == profiles.FITTED and num_gpus:
        cfg.DATALOADER.NUM_WORKERS = profiles.LOADERS
    cfg = _fit_to_gpus(cfg, num_gpus)
    merge_opts(cfg, opts)
    cfg.TRANSFER.PROFILE, cfg.TRANSFER.NUM_GPUS = profile, num_gpus
    return cfg


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config, as plain values, that is equal for two comparable runs of a protocol.

    It leaves out FIXED_KEYS (a RetinaNet's classes too), which have their own place in a run's identity, and
    WITHOUT_EFFECT. All other keys of a YAML are in it, so that an edited YAML has another identity.
    """
    kept: dict[str, Any] = json.loads(json.dumps(config))
    classes = (RETINANET_CLASSES,) if kept["MODEL"]["META_ARCHITECTURE"] == "RetinaNet" else ()
    for key in (*FIXED_KEYS, *WITHOUT_EFFECT, *classes):
        *parents, last = key.split(".")
        node = kept
        for part in parents:
            node = node.get(part, {})
        node.pop(last, None)
    return kept


def resnet_keys(architecture: str, stride_in_1x1: bool) -> dict[str, Any]:
    """detectron2's config keys that describe the network itself."""
    return {
        "MODEL.RESNETS.DEPTH": key_map.depth(architecture),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if architecture in key_map.BASIC else 256,
        "MODEL.RESNETS.STRIDE_IN_1X1": stride_in_1x1,
    }


def detector_cfg(protocol: str | Path, architecture: str, stride_in_1x1: bool) -> CfgNode:
    """The config of a protocol's detector around this network, on the CPU; data and weights are not named."""
    cfg = _fit_to_gpus(protocol_cfg(protocol), 0)
    cfg.TRANSFER.NUM_GPUS = 0
    for key, value in resnet_keys(architecture, stride_in_1x1).items():
        set_key(cfg, key, value)
    _require_possible(cfg, mask_format="polygon")
    return cfg


def _input(converted: ConvertedWeights) -> dict[str, Any]:
    return {
        "MODEL.PIXEL_MEAN": [round(255 * value, 4) for value in converted.input.mean],
        "MODEL.PIXEL_STD": [round(255 * value, 4) for value in converted.input.std],
        "INPUT.FORMAT": converted.input.order,
    }


def _require_possible(cfg: CfgNode, mask_format: str) -> None:
    """InputError for values that are valid one by one but not together."""
    if cfg.MODEL.MASK_ON and mask_format == "none":
        raise InputError(f"{cfg.TRANSFER.PROTOCOL} needs masks, but the data set has none: use --task coco-det")
    if cfg.MODEL.RESNETS.DEPTH < 50 and not _is_fpn(cfg):
        raise InputError(
            f"{cfg.TRANSFER.PROTOCOL} builds res5 in its head, for which detectron2 has only bottleneck blocks; "
            f"a ResNet-{cfg.MODEL.RESNETS.DEPTH} has basic ones: use an FPN protocol"
        )
    _require_freezable(cfg)
    batch, gpus = cfg.SOLVER.IMS_PER_BATCH, max(1, cfg.TRANSFER.NUM_GPUS)
    if batch < 1 or batch % gpus:
        raise InputError(
            f"a batch of {batch} images (SOLVER.IMS_PER_BATCH) is not divisible by {gpus} GPUs: change --num-gpus"
            if batch > 0
            else f"SOLVER.IMS_PER_BATCH {batch}: give 1 or more"
        )
    norms = [key for key in NORM_KEYS if cfg.MODEL.DEVICE == "cpu" and get_key(cfg, key) in SYNCHRONISED]
    if norms:
        raise InputError(f"--opts {norms[0]} {get_key(cfg, norms[0])}: a CPU has no synchronised norms; leave it out")


def _require_freezable(cfg: CfgNode) -> None:
    """InputError where FREEZE_AT and the head of a C4 detector, which has res5, do not freeze the same network."""
    freeze_at, frozen_head = cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.ROI_HEADS.NAME == heads.FROZEN
    if freeze_at > 4 and not (_is_fpn(cfg) or frozen_head):
        raise InputError(
            f"MODEL.BACKBONE.FREEZE_AT {freeze_at}: a C4 detector has res5 in its head, where detectron2 always trains "
            "it; give 4 or less, use an FPN protocol, or voc-c4-24k-frozen, whose head freezes it"
        )
    if frozen_head and freeze_at < 5:
        raise InputError(
            f"MODEL.BACKBONE.FREEZE_AT {freeze_at}: {heads.FROZEN} freezes res5; freeze all below it: give 5"
        )


def _is_fpn(cfg: CfgNode) -> bool:
    return "fpn" in cfg.MODEL.BACKBONE.NAME


def _fit_to_gpus(cfg: CfgNode, num_gpus: int) -> CfgNode:
    cfg.TRANSFER.UNSCALED = CfgNode({key: get_key(cfg, key) for key in (*NORM_KEYS, *SCALED_KEYS)})
    if num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
        for key in NORM_KEYS:
            if get_key(cfg, key) in SYNCHRONISED:
                set_key(cfg, key, "BN")
    scaled: CfgNode = DefaultTrainer.auto_scale_workers(cfg, max(1, num_gpus))
    # detectron2 does not scale this: PreciseBN would see fewer images with a smaller batch.
    share = cfg.SOLVER.IMS_PER_BATCH / scaled.SOLVER.IMS_PER_BATCH
    scaled.TEST.PRECISE_BN.NUM_ITER = round(cfg.TEST.PRECISE_BN.NUM_ITER * share)
    return scaled
