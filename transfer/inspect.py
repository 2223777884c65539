"""Explain a file: what is inside, what it looks like, whether it converts and if not why, and the command to try.

python -m transfer inspect FILE
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from transfer import architecture, names, weights
from transfer.pkl import read_detectron2_pkl
from transfer.read import Loaded, find_checkpoint, load_checkpoint
from transfer.sources import FIRST, SOURCES, Backbone, backbone_of, take
from transfer.sources.base import flatten, under
from transfer.sources.prefix import SEQUENTIAL_FIRST, named

STEM = "conv1.weight"
SEVERAL = 3  # sources that all would map everything say nothing of where a file is from


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
    flat = architecture.shapes_of(flatten(loaded.content))
    head = [f"top-level keys: {architecture.first_few(map(str, loaded.content), 8)}", f"{len(flat)} tensors"]
    try:
        backbone = backbone_of(loaded)
    except InputError as error:
        return [*head, *_explain_names(flat), f"refused: {error}", *_advice(loaded, flat)]
    return [*head, *_explain_backbone(loaded.path, backbone)]


def _explain_pkl(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    proof = weights.load(path)
    lines = [
        f"detectron2 weights with {len(arrays)} arrays",
        *_matches(set(arrays), names.nearest(arrays), names.to_torchvision),
    ]
    if proof:
        lines.append(f"converted from {proof.source_path} ({proof.source}, sha256 {proof.source_sha256[:12]})")
    return [*lines, f"try: python -m transfer verify {path}"]


def _explain_names(flat: dict[str, tuple[int, ...]]) -> list[str]:
    """What a file that no source reads has under torchvision's names."""
    lines, prefixes = [], _prefixes(flat)
    for prefix in prefixes[:4]:
        inner = named(under(flat, prefix))
        where = f"under {prefix!r}" if prefix else "at the top level"
        lines.append(f"{where}: {len(inner)}, looks like: {architecture.describe(inner)}")
    if not prefixes:
        return ["looks like: no ResNet under torchvision's names"]
    best = named(under(flat, prefixes[0]))
    return [*lines, *_matches(set(best), architecture.identify(best), names.to_detectron2)]


def _explain_backbone(path: Path, backbone: Backbone) -> list[str]:
    """What a source takes out of the file."""
    dropped = f"; drops {architecture.first_few(backbone.dropped)}" if backbone.dropped else ""
    others = backbone.networks[1:]
    return [
        f"source: {backbone.source} ({backbone.reason}){dropped}",
        *_matches(set(backbone.state), backbone.architecture, names.to_detectron2),
        *([f"networks: {backbone.network} is taken; --network takes {' or '.join(others)}"] if others else []),
        f"try: python -m transfer convert {path}",
    ]


def _advice(loaded: Loaded, flat: dict[str, tuple[int, ...]]) -> list[str]:
    """The sources that come nearest, and the commands to try: a source, and each prefix that holds a whole network."""
    counts = _nearest(loaded)
    lines = [f"nearest: {name} would map {mapped} of {wanted}" for name, (mapped, wanted) in list(counts.items())[:3]]
    whole = [name for name, (mapped, wanted) in counts.items() if mapped == wanted]
    command = f"python -m transfer convert {shlex.quote(str(loaded.path))}"
    if whole and len(whole) < SEVERAL:
        lines += [f"if {SOURCES[name].title} wrote it, try: {command} --source {name}" for name in whole]
    for prefix in _prefixes(flat):
        inner = named(under(flat, prefix))
        unnamed = prefix or SEQUENTIAL_FIRST in flat
        if unnamed and set(names.to_detectron2(architecture.identify(inner))) <= set(inner):
            lines.append(f"to take what is under it, try: {command} --prefix {shlex.quote(prefix)}")
    return lines


def _nearest(loaded: Loaded) -> dict[str, tuple[int, int]]:
    """Source → (tensors it would map, tensors of that network), the best first; none of which it would map nothing."""
    found = {}
    for name, source in SOURCES.items():
        with contextlib.suppress(InputError):
            state = take(source, loaded).state
            table = names.to_detectron2(architecture.identify(state))
            found[name] = len(table.keys() & architecture.shapes_of(state).keys()), len(table)
    return dict(sorted(((n, v) for n, v in found.items() if v[0]), key=lambda item: -item[1][0] / item[1][1]))


def _matches(found: set[str], network: str, table: Callable[[str], dict[str, str]]) -> list[str]:
    wanted = set(table(network))
    lines = [f"{len(found & wanted)} of the {len(wanted)} tensors of a {names.title(network)}"]
    extra, missing = sorted(found - wanted - set(names.counters(network))), sorted(wanted - found)
    return [
        *lines,
        *([f"without counterpart: {architecture.first_few(extra, 5)}"] if extra else []),
        *([f"missing: {architecture.first_few(missing, 5)}"] if missing else []),
    ]


def _prefixes(flat: dict[str, tuple[int, ...]]) -> list[str]:
    """What stands in front of a first block's convolution, or else of a stem's, most tensors first."""
    firsts = (FIRST, SEQUENTIAL_FIRST)
    found = {
        name.removesuffix(first) for first in firsts for name in flat if name == first or name.endswith("." + first)
    }
    stems = [name.removesuffix(STEM) for name in flat if name == STEM or name.endswith("." + STEM)]
    return sorted(found or stems[:1], key=lambda prefix: (-len(under(flat, prefix)), prefix))
