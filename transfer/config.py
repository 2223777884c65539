"""detectron2's config of one run, from a protocol file, a profile, converted weights and the data.

Pure: reads the protocol's file and touches nothing else. To see one:
``python -c "from transfer.config import protocol_cfg; print(protocol_cfg('voc_c4_24k'))"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer

from pretrain.errors import InputError
from transfer import heads, profiles
from transfer.weights import ConvertedWeights

PROTOCOLS = Path(__file__).parent / "protocols"
HEADS = (heads.Res5ROIHeadsExtraNorm,)  # registered on import
NORM_KEYS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_MASK_HEAD.NORM")
SCALED_KEYS = (
    "IMS_PER_BATCH",
    "BASE_LR",
    "STEPS",
    "MAX_ITER",
    "WARMUP_ITERS",
    "CHECKPOINT_PERIOD",
    "REFERENCE_WORLD_SIZE",
)


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that come with the project."""
    return tuple(sorted(path.stem for path in PROTOCOLS.glob("*.yaml")))


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
            "KEEP_FILES": True,  # checkpoints and predictions
            "FROM_CHECKPOINT": [],  # keys whose value in the protocol the checkpoint replaced
            "UNSCALED": {},  # norms and solver before they were fitted to NUM_GPUS
        }
    )
    path = PROTOCOLS / f"{protocol}.yaml" if str(protocol) in protocol_names() else Path(protocol)
    if not path.is_file():
        raise InputError(f"protocol {protocol}: no such file; there are {', '.join(protocol_names())}")
    try:
        cfg.merge_from_file(str(path))
    except (KeyError, ValueError, AssertionError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
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
) -> CfgNode:
    """The frozen config of one run.

    Order: protocol, profile, ``opts`` (KEY VALUE …, as detectron2 takes them), then what the checkpoint and the data
    fix, then the fit to ``num_gpus`` (0: the CPU, where synchronised norms become BN; fewer than the protocol's: batch,
    rate and iterations rescaled). TRANSFER.UNSCALED keeps the values before that fit. ``train`` and ``test`` are
    registered names; ``mask_format`` is polygon, bitmask or none. InputError for an unknown key, or one not free.
    """
    cfg = protocol_cfg(protocol)
    fpn = "fpn" in cfg.MODEL.BACKBONE.NAME
    for key, value in profiles.overlay(profile, fpn=fpn).items():
        cfg.merge_from_list([key, value])
    fixed = _fixed(cfg, converted, train, test, num_classes, mask_format, seed, output_dir)
    _merge_opts(cfg, opts, forbidden=set(fixed))
    cfg.TRANSFER.FROM_CHECKPOINT = [key for key in _pixels(converted) if _get(cfg, key) != fixed[key]]
    for key, value in fixed.items():
        _set(cfg, key, value)
    cfg.TRANSFER.PROFILE, cfg.TRANSFER.NUM_GPUS = profile, num_gpus
    cfg = _fit_to_gpus(cfg, num_gpus)
    cfg.freeze()
    return cfg


def _pixels(converted: ConvertedWeights) -> dict[str, Any]:
    return {
        "MODEL.PIXEL_MEAN": [round(255 * value, 4) for value in converted.pixel_mean],
        "MODEL.PIXEL_STD": [round(255 * value, 4) for value in converted.pixel_std],
        "INPUT.FORMAT": converted.channel_order,
        "MODEL.RESNETS.STRIDE_IN_1X1": converted.stride_in_1x1,
    }


def _fixed(
    cfg: CfgNode,
    converted: ConvertedWeights,
    train: tuple[str, ...],
    test: tuple[str, ...],
    num_classes: int,
    mask_format: str,
    seed: int,
    output_dir: Path,
) -> dict[str, Any]:
    if cfg.MODEL.MASK_ON and mask_format == "none":
        raise InputError(f"{cfg.TRANSFER.PROTOCOL} needs masks, and the data set has none; use a box protocol")
    return _pixels(converted) | {
        "MODEL.WEIGHTS": str(converted.path),
        "MODEL.ROI_HEADS.NUM_CLASSES": num_classes,
        "INPUT.MASK_FORMAT": mask_format if cfg.MODEL.MASK_ON else cfg.INPUT.MASK_FORMAT,
        "DATASETS.TRAIN": tuple(train),
        "DATASETS.TEST": tuple(test),
        "SEED": seed,
        "OUTPUT_DIR": str(output_dir),
    }


def _merge_opts(cfg: CfgNode, opts: list[str], forbidden: set[str]) -> None:
    if len(opts) % 2:
        raise InputError(f"--opts takes KEY VALUE pairs; {opts[-1]} has no partner")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        if key in forbidden or key in ("MODEL.DEVICE", "TRANSFER.NUM_GPUS", "TRANSFER.PROFILE"):
            raise InputError(f"--opts {key}: this follows from the checkpoint, the data or another flag; leave it out")
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, AssertionError):
            raise InputError(f"--opts {key}: detectron2's config has no such key") from None
        except ValueError as error:
            raise InputError(f"--opts {key} {value}: {' '.join(str(error).split())}") from None


def _fit_to_gpus(cfg: CfgNode, num_gpus: int) -> CfgNode:
    cfg.TRANSFER.UNSCALED = CfgNode(
        {key: _get(cfg, key) for key in NORM_KEYS} | {f"SOLVER.{key}": cfg.SOLVER[key] for key in SCALED_KEYS}
    )
    if num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
        for key in NORM_KEYS:
            if _get(cfg, key) in ("SyncBN", "naiveSyncBN"):
                _set(cfg, key, "BN")
    scaled: CfgNode = DefaultTrainer.auto_scale_workers(cfg, max(1, num_gpus))
    return scaled


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = _get(cfg, ".".join(parents)) if parents else cfg
    node[last] = value
