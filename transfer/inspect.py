"""Explain a file: what is inside, what it looks like, whether it converts and if not why, and the command to try.

python -m transfer inspect FILE
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pretrain.errors import InputError
from transfer import architecture, names, weights
from transfer.pkl import read_detectron2_pkl
from transfer.read import Loaded, find_checkpoint, load_checkpoint
from transfer.sources import backbone_of

STEM = "conv1.weight"


def inspect(path: Path) -> list[str]:
    """Lines for a person about the checkpoint or detectron2 .pkl at ``path``. InputError if nothing is there."""
    path = find_checkpoint(path)
    if path.suffix == ".pkl":
        with contextlib.suppress(InputError):
            return _explain_pkl(path, read_detectron2_pkl(path)["model"])
    try:
        loaded = load_checkpoint(path)
    except InputError as error:
        return [f"refused: {error}"]
    return [*_explain_content(loaded), *_explain_fate(loaded)]


def _explain_pkl(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    proof = weights.load(path)
    lines = [
        f"detectron2 weights with {len(arrays)} arrays",
        *_matches(set(arrays), names.nearest(arrays), names.to_torchvision),
    ]
    if proof:
        lines.append(f"converted from {proof.source_path} ({proof.source}, sha256 {proof.source_sha256[:12]})")
    return [*lines, f"try: python -m transfer verify {path}"]


def _explain_content(loaded: Loaded) -> list[str]:
    lines = [f"top-level keys: {architecture.first_few(map(str, loaded.content), 8)}"]
    flat = _tensors(loaded.content)
    prefix = _prefix(flat)
    inner = {name.removeprefix(prefix): shape for name, shape in flat.items() if name.startswith(prefix)}
    lines.append(f"{len(flat)} tensors" + (f", {len(inner)} of them under {prefix!r}" if prefix else ""))
    lines.append(f"looks like: {architecture.describe(inner)}")
    return [*lines, *_matches(set(inner), architecture.identify(inner), names.to_detectron2)]


def _explain_fate(loaded: Loaded) -> list[str]:
    try:
        backbone = backbone_of(loaded)
    except InputError as error:
        return [f"refused: {error}"]
    dropped = f"; drops {architecture.first_few(backbone.dropped)}" if backbone.dropped else ""
    return [f"source: {backbone.source} ({backbone.reason}){dropped}", f"try: python -m transfer convert {loaded.path}"]


def _matches(found: set[str], network: str, table: Callable[[str], dict[str, str]]) -> list[str]:
    wanted = set(table(network))
    lines = [f"{len(found & wanted)} of the {len(wanted)} tensors of a {names.title(network)}"]
    extra, missing = sorted(found - wanted - set(names.counters(network))), sorted(wanted - found)
    return [
        *lines,
        *([f"without counterpart: {architecture.first_few(extra, 5)}"] if extra else []),
        *([f"missing: {architecture.first_few(missing, 5)}"] if missing else []),
    ]


def _tensors(content: dict[Any, Any], prefix: str = "", depth: int = 4) -> dict[str, tuple[int, ...]]:
    """Path → shape of the tensors in nested mappings; optimiser state is left out, whose keys are numbers."""
    found: dict[str, tuple[int, ...]] = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = tuple(value.shape)
        elif isinstance(value, dict) and depth and isinstance(key, str):
            found |= _tensors(value, f"{prefix}{key}.", depth - 1)
    return found


def _prefix(flat: dict[str, tuple[int, ...]]) -> str:
    """What stands in front of the first key that ends as torchvision's first convolution does; "" if none does."""
    stems = [name for name in flat if name == STEM or name.endswith("." + STEM)]
    return min(stems, key=len).removesuffix(STEM) if stems else ""
