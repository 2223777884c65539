"""Find and read the detection protocols' files: their names, their keys merged over their bases, their TRANSFER block.

A protocol is one YAML of detectron2's keys. Its header cites the source, the expected number with its spread, and the
cost; its ``TRANSFER`` block describes the task (benchmarks/tasks/detection.py). Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from pretrain.common.errors import InputError

PROTOCOLS = Path(__file__).parent / "protocols"
BLOCK = "TRANSFER"
FAULTS = (KeyError, ValueError, TypeError, AttributeError, AssertionError, OSError, RecursionError, yaml.YAMLError)


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that come with the project."""
    return tuple(sorted(path.stem for path in PROTOCOLS.glob("*.yaml")))


def protocol_file(protocol: str | Path) -> Path:
    """The file of one of our protocols, by name, or of the user's, by path. InputError if there is none."""
    path = PROTOCOLS / f"{protocol}.yaml" if str(protocol) in protocol_names() else Path(protocol)
    if not path.is_file():
        raise InputError(f"protocol {protocol}: no such file; choose from {', '.join(protocol_names())}")
    return path


def protocol_keys(path: Path) -> dict[str, Any]:
    """detectron2's keys of the file, merged over those of its ``_BASE_`` files. InputError if unusable."""
    try:
        keys: dict[str, Any] = CfgNode.load_yaml_with_base(str(path))
    except FAULTS as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    keys.pop(BLOCK, None)
    return keys


def protocol_block(path: Path) -> dict[str, Any]:
    """The file's own TRANSFER block, which is not inherited from a base. InputError where there is none."""
    try:
        block = yaml.safe_load(path.read_text(encoding="utf-8"))[BLOCK]
        if not isinstance(block, dict):
            raise TypeError(f"{BLOCK} is no mapping")
    except FAULTS as error:
        raise InputError(f"{path}: it has no usable {BLOCK} block ({error}): see {PROTOCOLS.name}/ for one") from None
    return block


def protocol_subset(path: Path) -> dict[str, float | int]:
    """The part of the training images that the protocol uses, ``{"PERCENT": 1.0}`` or ``{"SHOTS": 5}``; {} for all.

    SHOTS are objects per class. InputError for an unusable SUBSET in the file's TRANSFER block.
    """
    try:
        block = yaml.safe_load(path.read_text(encoding="utf-8")).get(BLOCK)
    except FAULTS:  # of a file that protocol_keys or protocol_block refuses
        return {}
    if not isinstance(block, dict) or "SUBSET" not in block:
        return {}
    subset = block["SUBSET"]
    if isinstance(subset, dict) and len(subset) == 1:
        ((key, value),) = subset.items()
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "PERCENT" and number and 0 < value <= 100:
            return {key: float(value)}
        if key == "SHOTS" and number and isinstance(value, int) and value > 0:
            return {key: value}
    raise InputError(f"{path}: {BLOCK}.SUBSET is {subset!r:.60}: give {{PERCENT: 0 to 100}} or {{SHOTS: 1 or more}}")
