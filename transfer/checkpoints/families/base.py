"""The interface of a family of checkpoints: recognise a file, and extract the backbone from it.

Most families are a table entry, see layout.py; the helpers here are for the others. To see the
families applied to a file: ``python -m transfer inspect FILE``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.common.files import read_mapping
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.reading.read import MAX_LETTERS, MAX_TENSORS, CheckpointFile

CLASSIFIER = "classifier, not part of the backbone"
HEAD = "projection or prediction head, not part of the backbone"
QUEUE = "queue of earlier features, not weights"
OUTSIDE = "outside the backbone, not part of it"
BESIDE = "beside the weights, not part of them"
PIXELS_ASSUMED = "RGB images normalised with ImageNet's mean and std"
STRIDE_ASSUMED = "the stride in the 3×3 convolutions"
LAST_STAGE_ASSUMED = "a last stage of stride 2"
IMAGENET_ASSUMED = ", ".join((PIXELS_ASSUMED, STRIDE_ASSUMED, LAST_STAGE_ASSUMED))
IMAGENET_INPUT = PixelInput(assumed=IMAGENET_ASSUMED)
PUBLISHED_CODE = "layout from the published code, no released file seen"
WRITTEN_IN_TEST = "written by the library itself in a test"
# Added by DistributedDataParallel and AveragedModel, torch.compile, FSDP, and activation checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawBackbone:
    """The backbone as a family read it, under torchvision's names and without the classifier, not yet checked."""

    state: dict[str, Any]
    dropped: dict[str, str]  # key in the file → why it was left out
    input: PixelInput = PixelInput()  # noqa: RUF009  # it is frozen
    networks: tuple[str, ...] = ()  # all that the file offers, e.g. ("query", "ema")
    network: str = ""  # the one taken; "" if the family has only one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of checkpoints. ``recognise`` returns why a file belongs to it, or None; ``extract`` then reads it.

    ``extract(file, network)``: None is the published choice; InputError naming the choices if ``network`` is missing.
    """

    name: str
    title: str  # one line for the table in the documentation
    known_from: str  # where the layout is known from: "repository:file", and PUBLISHED_CODE or WRITTEN_IN_TEST
    recognise: Callable[[CheckpointFile], str | None]
    extract: Callable[[CheckpointFile, str | None], RawBackbone]


def find(content: Mapping[Any, Any], path: Iterable[str]) -> dict[Any, Any] | None:
    """The mapping at ``path`` (keys, outermost first) in ``content``; None if missing or larger than any network's."""
    value: Any = content
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict) or len(value) > MAX_TENSORS:
        return None
    return value if sum(len(key) for key in value if isinstance(key, str)) <= MAX_LETTERS else None


def flatten(content: Mapping[Any, Any], prefix: str = "", depth: int = 4) -> dict[str, Any]:
    """Path → tensor or array of nested mappings, keys joined by dots; without optimiser state (numeric keys)."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, (Tensor, np.ndarray)):
            found[f"{prefix}{key}"] = value
        elif isinstance(value, dict) and depth and isinstance(key, str):
            found |= flatten(value, f"{prefix}{key}.", depth - 1)
    return found


def others_on_path(content: Mapping[Any, Any], path: Iterable[str]) -> dict[str, str]:
    """{key: reason} of all other entries of the mappings along ``path``; nested keys joined by a slash."""
    dropped: dict[str, str] = {}
    value, above = content, ""
    for key in path:
        dropped |= {f"{above}{other}": BESIDE for other in value if other != key}
        value, above = value[key], f"{above}{key}/"
    return dropped


def unwrap(state: Mapping[Any, Any]) -> tuple[dict[str, Any], str]:
    """``state`` under string keys without any WRAPPERS in them, and the names of the wrappers found, or "".

    It stays unchanged if two keys would become one: then a wrapper distinguishes two networks.
    """
    plain = {str(key): value for key, value in state.items()}
    found = [part for part in WRAPPERS if any(f"{part}." in key for key in plain)]
    bare = {key: _without(key, found) for key in plain} if found else {}
    if len(set(bare.values())) < len(bare) or all(key == name for key, name in bare.items()):
        return plain, ""
    return {bare[key]: value for key, value in plain.items()}, " and ".join(f"{part}." for part in found)


def _without(key: str, wrappers: Iterable[str]) -> str:
    *parts, last = key.split(".")
    return ".".join([part for part in parts if part not in wrappers] + [last])


def as_tensor(value: Any) -> Any:
    """A copy of an array as a tensor, whatever its byte order; any other value unchanged."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "bifuc":
        return value
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))


def config_beside(file: CheckpointFile, name: str) -> dict[str, Any]:
    """The mapping in the json file ``name`` beside the checkpoint; {} if it is missing or unreadable."""
    return read_mapping(file.path.with_name(name)) or {}


def under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of ``state`` whose key starts with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def drop(state: Mapping[str, Any], rules: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """``state`` split into the entries that no rule ({key prefix: reason}) covers, and {key: reason} of the rest."""
    dropped = {key: rules[rule] for key in state if (rule := longest(key, rules)) is not None}
    return {key: value for key, value in state.items() if key not in dropped}, dropped


def longest(key: str, prefixes: Iterable[str]) -> str | None:
    """The longest of ``prefixes`` that ``key`` starts with; None if it starts with none of them."""
    return max((prefix for prefix in prefixes if key.startswith(prefix)), key=len, default=None)


def choose(file: CheckpointFile, present: tuple[str, ...], network: str | None) -> str:
    """``network``, or the first of ``present`` if None. InputError naming the choices if it is not one of them."""
    if network is None or network in present:
        return network or present[0]
    raise InputError(f"{file.path}: no network {network} in the file; --network takes {' or '.join(present)}")


def without_classifier(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``state`` split into the backbone and {key: reason} of the ``fc.*`` left out."""
    return drop(state, {"fc.": CLASSIFIER})
