"""The network under a prefix that the user names: ``python -m transfer convert FILE --prefix net.trunk.``

For files of no other family. The prefix is one that ``python -m transfer inspect FILE`` prints: keys of nested
mappings and the beginning of the tensors' names, joined by dots. It is the "network" of the proof. Under it are
torchvision's names, or the numbers of ``nn.Sequential(*list(resnet.children())[:-1])``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pretrain.common.errors import InputError
from pretrain.common.shell import command, file_word
from transfer.checkpoints.families.base import (
    IMAGENET_INPUT,
    WRITTEN_IN_TEST,
    Family,
    RawBackbone,
    flatten,
    under,
    unwrap,
    without_classifier,
)
from transfer.checkpoints.reading.read import CheckpointFile

OUTSIDE = "outside the prefix that was asked for"
FIRST = "layer1.0.conv1.weight"
SEQUENTIAL_FIRST = "4.0.conv1.weight"
_STEM = "conv1.weight"
_MOST, _LONGEST = 16, 200  # prefixes tried, and letters per prefix: a hostile file can have any number
# The momentum network of a pair.
_FOLLOWER = re.compile(r"(?:^|[._])(?:k|t|key|ema|momentum|target|teacher|avg|averaged)(?:[._]|$)")
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}


def named(inner: Mapping[str, Any]) -> dict[str, Any]:
    """``inner`` with torchvision's names for the numbers of its ResNet's children; unchanged without such numbers."""
    if SEQUENTIAL_FIRST not in inner:
        return dict(inner)
    parts = {key: key.partition(".") for key in inner}
    return {f"{_CHILDREN.get(parts[key][0], parts[key][0])}.{parts[key][2]}": value for key, value in inner.items()}


def prefixes(flat: Iterable[str]) -> list[str]:
    """Key prefixes under which a ResNet was found, by its first block or else its stem: most tensors first, and
    momentum networks last."""
    firsts = (FIRST, SEQUENTIAL_FIRST)
    found = dict.fromkeys(
        name.removesuffix(first) for name in flat for first in firsts if name == first or name.endswith("." + first)
    )
    stems = [name.removesuffix(_STEM) for name in flat if name == _STEM or name.endswith("." + _STEM)]
    some = [prefix for prefix in list(found or stems[:1])[:_MOST] if prefix.isprintable() and len(prefix) < _LONGEST]
    sizes = {prefix: sum(name.startswith(prefix) for name in flat) for prefix in some}
    return sorted(sizes, key=lambda prefix: (bool(_FOLLOWER.search(prefix)), -sizes[prefix]))


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The tensors under ``network``, the prefix, without the wrappers in their names. InputError if there are none."""
    flat = flatten(file.content)
    inner = named(unwrap(under(flat, network))[0]) if network is not None else {}
    if not inner:
        raise InputError(
            f"{file.path}: no tensor's name starts with the prefix {network!r}; "
            f"see: {command('transfer', 'inspect', file_word(file.path))}"
        )
    state, dropped = without_classifier(inner)
    outside = {key: OUTSIDE for key in flat if not key.startswith(str(network))}
    return RawBackbone(state=state, dropped=dropped | outside, network=str(network), input=IMAGENET_INPUT)


FAMILY = Family(
    name="prefix",
    title="any other file, by `--prefix`",
    known_from=f"the user; {WRITTEN_IN_TEST}",
    recognise=lambda file: None,
    extract=extract,
)
