"""The options KEY VALUE … of the command line in detectron2's config: which are free, and a search's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256
from transfer.detection import search

# Keys that build_cfg sets from the checkpoint, the data, the seed and the output folder.
FIXED_KEYS = (
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "INPUT.FORMAT",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.WEIGHTS",
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "INPUT.MASK_FORMAT",
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "SEED",
    "OUTPUT_DIR",
)
RETINANET_CLASSES = "MODEL.RETINANET.NUM_CLASSES"  # fixed as well where the detector is a RetinaNet
# Keys that change no metric, or no more than another seed does: each loader worker draws its own augmentations.
# A published draw is known by its content, TRANSFER.SUBSET.FILE_SHA256.
WITHOUT_EFFECT = (
    *("DATALOADER.NUM_WORKERS", "TRANSFER.FROM_CHECKPOINT", "TRANSFER.RESUME", "TRANSFER.KEEP_FILES"),
    "TRANSFER.SUBSET.FILE",
)
FLAGGED_KEYS = (RETINANET_CLASSES, "MODEL.DEVICE", "SOLVER.REFERENCE_WORLD_SIZE", "VERSION")  # not free in opts either
SUBSET_FILE = "TRANSFER.SUBSET.FILE"
FREE_KEYS = ("TRANSFER.RESUME", "TRANSFER.KEEP_FILES", "TRANSFER.CPU_BF16", SUBSET_FILE)  # of TRANSFER.*, in opts


def merge_opts(cfg: CfgNode, opts: list[str]) -> None:
    """Set the options in ``cfg``. InputError for an unknown key, one that opts may not set, or an unusable search."""
    if len(opts) % 2:
        raise InputError(f"--opts takes KEY VALUE pairs; {opts[-1]} has no value")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        if key == search.KEY:
            _check_search(cfg, search.search_of([key, value]))
            cfg.TRANSFER.SEARCH = value
        else:
            _merge(cfg, key, value, "--opts")
    if "SUBSET" in cfg.TRANSFER and cfg.TRANSFER.SUBSET.FILE:
        file = Path(cfg.TRANSFER.SUBSET.FILE)
        if not file.is_file():
            raise InputError(f"--opts {SUBSET_FILE}: {file} is not a file")
        cfg.TRANSFER.SUBSET.FILE_SHA256 = file_sha256(file)


def _merge(cfg: CfgNode, key: str, value: str, flag: str) -> None:
    ours = key.startswith("TRANSFER.") and key not in FREE_KEYS
    if ours or key in (*FIXED_KEYS, *FLAGGED_KEYS):
        raise InputError(f"{flag} {key}: the checkpoint, the data or another flag sets this; leave it out")
    if key == SUBSET_FILE and "SUBSET" not in cfg.TRANSFER:
        raise InputError(f"{flag} {key}: {cfg.TRANSFER.PROTOCOL} trains on all images; leave it out")
    try:
        cfg.merge_from_list([key, value])
    except (KeyError, AssertionError):
        raise InputError(f"{flag} {key}: detectron2's config has no such key") from None
    except ValueError as error:
        raise InputError(f"{flag} {key} {value}: {' '.join(str(error).split())}") from None


def _check_search(cfg: CfgNode, wanted: search.Search | None) -> None:
    """InputError for a key or a value that cannot be set, and for two words of one value, as 0.01 and 1e-2."""
    for key, words in wanted.values.items() if wanted else ():
        if key in FREE_KEYS or key == "SOLVER.AMP.ENABLED":
            raise InputError(f"--search {key}: a run's identity has one precision and one file; give it with --opts")
        found: list[Any] = []
        for word in words:
            trial = cfg.clone()
            _merge(trial, key, word, "--search")
            if get_key(trial, key) in found:
                raise InputError(f"--search {key}: {word} is given twice")
            found.append(get_key(trial, key))


def get_key(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a dotted key, of any type."""
    *parents, last = key.split(".")
    node = get_key(cfg, ".".join(parents)) if parents else cfg
    node[last] = value
