"""Explain a file: its content, the network it resembles, the reason if it is refused, and the command to try.

python -m transfer inspect FILE
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from pretrain.common.errors import InputError
from pretrain.common.shell import command, file_word
from transfer.checkpoints import architecture, converted, foreign, key_map
from transfer.checkpoints.advice import convert_command, of_several, ways
from transfer.checkpoints.architecture import Shapes
from transfer.checkpoints.backbone import Backbone, backbone_of
from transfer.checkpoints.families import FAMILIES, extract
from transfer.checkpoints.families.base import flatten, under
from transfer.checkpoints.families.prefix import named, prefixes
from transfer.checkpoints.reading.detectron2_pkl import read_detectron2_pkl
from transfer.checkpoints.reading.file_format import find_checkpoint
from transfer.checkpoints.reading.read import CheckpointFile, load_checkpoint


def inspect(path: Path) -> list[str]:
    """Lines for a person about the checkpoint or detectron2 .pkl at ``path``. InputError if there is no such file."""
    path = find_checkpoint(path)
    if path.suffix == ".pkl":
        with contextlib.suppress(InputError):
            return _explain_pkl(path, read_detectron2_pkl(path)["model"])
    try:
        file = load_checkpoint(path)
    except InputError as error:
        return [f"refused: {error}"]
    flat = architecture.shapes_of(flatten(file.content))
    head = [f"top-level keys: {architecture.first_few(map(str, file.content), 8)}", f"{len(flat)} tensors"]
    try:
        backbone = backbone_of(file)
    except InputError as error:
        return [*head, *_explain_names(flat), f"refused: {error}", *_advice(file)]
    return [*head, *_explain_backbone(file, backbone)]


def _explain_pkl(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    proof, nearest = converted.load(path), key_map.nearest(arrays)
    table = key_map.to_torchvision(nearest)
    lines = [
        f"detectron2 weights with {len(arrays)} arrays",
        *_matches({table.get(name, name): array.shape for name, array in arrays.items()}, nearest),
    ]
    if proof:
        lines.append(f"converted from {proof.source_path} ({proof.family}, sha256 {proof.source_sha256[:12]})")
    return [*lines, f"try: {command('transfer', 'verify', file_word(path))}"]


def _explain_names(flat: Shapes) -> list[str]:
    """Lines about the tensors under torchvision's names in a file that no family reads."""
    lines, found = [], prefixes(flat)
    for prefix in found[:4]:
        inner = named(under(flat, prefix))
        where = f"under {prefix!r}" if prefix else "at the top level"
        lines.append(f"{where}: {len(inner)}, looks like: {architecture.describe(inner)}")
    if not found:
        return [f"looks like: {foreign.describe(flat) or architecture.NO_RESNET}"]
    best = named(under(flat, found[0]))
    return [*lines, *_matches(best, architecture.identify(best))]


def _explain_backbone(file: CheckpointFile, backbone: Backbone) -> list[str]:
    """Lines about the backbone that a family extracts."""
    dropped = f"; drops {architecture.first_few(backbone.dropped)}" if backbone.dropped else ""
    others = backbone.networks[1:]
    return [
        f"family: {backbone.family} ({backbone.reason}){dropped}",
        *_matches(architecture.shapes_of(backbone.state), backbone.architecture),
        *([f"assumed: {backbone.input.assumed}"] if backbone.input.assumed else []),
        *([f"networks: {backbone.network} is taken; --network takes {' or '.join(others)}"] if others else []),
        f"try: {convert_command(file)}",
    ]


def _advice(file: CheckpointFile) -> list[str]:
    """Lines about the nearest families, and the commands that work."""
    counts = _nearest(file)
    nearest = [f"nearest: {name} would map {mapped} of {wanted}" for name, (mapped, wanted) in list(counts.items())[:3]]
    several = [of_several(file)] if of_several(file) else []
    return nearest + [f"{way.when}, try: {way.command}" for way in ways(file)] + several


def _nearest(file: CheckpointFile) -> dict[str, tuple[int, int]]:
    """Family → (tensors it maps with the right shape, tensors of that network), the best first; no family with 0."""
    found = {}
    for name, family in FAMILIES.items():
        with contextlib.suppress(InputError):
            shapes = architecture.shapes_of(extract(family, file).state)
            wanted = architecture.expected_shapes(architecture.identify(shapes))
            found[name] = sum(shapes.get(key) == shape for key, shape in wanted.items()), len(wanted)
    return dict(sorted(((n, v) for n, v in found.items() if v[0]), key=lambda item: -item[1][0] / item[1][1]))


def _matches(found: Shapes, network: str) -> list[str]:
    """Lines that compare the tensors with torchvision's network by name and shape."""
    wanted = architecture.expected_shapes(network)
    right = sum(found.get(name) == shape for name, shape in wanted.items())
    others = {
        "without counterpart": sorted(found.keys() - wanted.keys() - set(key_map.counters(network))),
        "missing": sorted(wanted.keys() - found.keys()),
        "of another shape": [name for name, shape in wanted.items() if found.get(name, shape) != shape],
    }
    return [
        f"{right} of the {len(wanted)} tensors of a {key_map.title(network)}",
        *(f"{what}: {architecture.first_few(keys, 5)}" for what, keys in others.items() if keys),
    ]
