"""Read the ResNet in a checkpoint and check it tensor by tensor: ``read_backbone``.

``python -m transfer inspect FILE`` shows the result, or the reason of the refusal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from pretrain.common.tensors import tensor_digest
from transfer.checkpoints import architecture, foreign, key_map
from transfer.checkpoints.families import OF_RESNET, detect, extract
from transfer.checkpoints.families.base import BESIDE, PIXELS_ASSUMED, STRIDE_ASSUMED, RawBackbone, flatten
from transfer.checkpoints.families.prefix import FIRST
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading.read import CheckpointFile, load_checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """A checked ResNet: finite float32 tensors under torchvision's names, and the file's counters if any."""

    state: dict[str, Tensor]
    family: str
    reason: str  # why the file was recognised as this family
    architecture: str  # torchvision's name: resnet18, 34, 50, 101 or 152
    dropped: dict[str, str]
    input: PixelInput
    sha256: str  # weights_digest of ``state``
    meta: dict[str, Any] | None
    networks: tuple[str, ...] = ()
    network: str = ""
    given: Given = NOTHING_GIVEN


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Digest of all tensors except BatchNorm's counters.

    No forward pass reads the counters, and a conversion, which lacks them, is the same checkpoint as its file.
    """
    return tensor_digest({name: tensor for name, tensor in state.items() if not name.endswith(key_map.COUNTER)})


def read_backbone(
    path: Path | str, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> Backbone:
    """The ResNet in a checkpoint file or in a pretraining run's folder, checked tensor by tensor.

    ``family`` is a name in FAMILIES (None: whichever recognises the file), ``network`` one of those the file offers
    (None: the published choice), ``given`` the user's statements. InputError in one line that names the first
    offending keys, and a command that works if there is one: an unknown architecture or stem, missing, unmapped or
    misshaped tensors, other types than float32 and half precision (which becomes float32, exactly), NaN or infinity.
    """
    return require_backbone(load_checkpoint(path), family, network, given)


def require_backbone(
    file: CheckpointFile, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> Backbone:
    """As read_backbone, for a file already read."""
    from transfer.checkpoints.advice import advice

    try:
        return backbone_of(file, family, network, given)
    except InputError as error:
        raise InputError(f"{error}{advice(file, family, network, given)}") from None


def backbone_of(
    file: CheckpointFile, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> Backbone:
    """As read_backbone, for a file already read, and without advice."""
    known, reason = detect(file, family)
    raw = with_given(file.path, extract(known, file, network), given)
    _refuse_second_network(file, raw)
    found = architecture.identify(raw.state)
    faults = architecture.problems(raw.state, found)
    if faults:
        raise InputError(f"{file.path}: {_unusable(raw.state, found)}: {'; '.join(faults)}{_remedy(faults)}")
    return _checked(file, known.name, reason, raw, found, given)


def _unusable(state: Mapping[str, Any], found: str) -> str:
    shapes = architecture.shapes_of(state)
    if kind := architecture.another(shapes):
        return kind
    if architecture.describe(shapes) == architecture.NO_RESNET and (other := foreign.describe(shapes)):
        return f"{other}: only ResNets can be converted"
    return f"not a usable {key_map.title(found)}"


def _remedy(faults: list[str]) -> str:
    of_type = any(fault.startswith(architecture.WRONG_TYPE) for fault in faults)
    return "; save model.float().state_dict()" if of_type else ""


def with_given(path: Path, raw: RawBackbone, given: Given) -> RawBackbone:
    """``raw`` without the tensors of --drop, and with the given input. InputError if --drop names a ResNet part."""
    state, dropped = dict(raw.state), dict(raw.dropped)
    for start in given.drop:
        left_over = [name for name in state if name.startswith(start)]
        if not left_over:
            raise InputError(f"{path}: --drop {start}: no left-over tensor starts with it")
        if inside := [name for name in left_over if OF_RESNET.match(name)]:
            raise InputError(f"{path}: --drop {start}: {inside[0]} is a part of the ResNet itself")
        for name in left_over:
            del state[name]
            dropped[name] = f"left out, as --drop {start} says"
    images = given.applied(raw.input, _assumed(raw.input.assumed, given))
    return dataclasses.replace(raw, state=state, dropped=dropped, input=images)


def _assumed(clauses: str, given: Given) -> str:
    """``clauses``, a family's assumptions about the input, without those that ``given`` replaces."""
    statistics = [name for name in ("mean", "std") if getattr(given, f"pixel_{name}") is None]
    normalised = f" normalised with ImageNet's {' and '.join(statistics)}" if statistics else ""
    order = "RGB " if given.channel_order is None else ""
    left = {PIXELS_ASSUMED: f"{order}images{normalised}" if order or statistics else ""}
    if given.stride_in_1x1 is not None:
        left[STRIDE_ASSUMED] = ""
    return ", ".join(filter(None, (left.get(clause, clause) for clause in clauses.split(", "))))


def _refuse_second_network(file: CheckpointFile, raw: RawBackbone) -> None:
    """InputError where a mapping that would be left out is a network too, such as "model_ema" beside "model"."""
    for key, reason in raw.dropped.items():
        value = file.content.get(key) if reason == BESIDE else None
        names_in = flatten(value) if isinstance(value, dict) else {}
        if any(name.endswith(FIRST) for name in names_in):
            raise InputError(f"{file.path}: there is a second network in {key!r}; choose one with --prefix")


def _checked(file: CheckpointFile, family: str, reason: str, raw: RawBackbone, found: str, given: Given) -> Backbone:
    _check_pixels(file.path, raw.input)
    state: dict[str, Any] = {
        name: raw.state[name].detach().to(torch.float32).contiguous() for name in key_map.to_detectron2(found)
    }
    state |= {name: raw.state[name].detach() for name in key_map.counters(found) if name in raw.state}
    return Backbone(
        state=state,
        family=family,
        reason=reason,
        architecture=found,
        dropped=raw.dropped,
        input=raw.input,
        networks=raw.networks,
        network=raw.network,
        given=given,
        sha256=weights_digest(state),
        meta=file.meta if family == "superinfo" else None,
    )


def _check_pixels(path: Path, images: PixelInput) -> None:
    three = len(images.mean) == len(images.std) == 3
    if not three or min(images.std) <= 0 or not all(map(math.isfinite, (*images.mean, *images.std))):
        raise InputError(f"{path}: needs three finite pixel means and three finite positive stds")
    if images.order not in ("RGB", "BGR"):
        raise InputError(f"{path}: channel order {images.order}; choose RGB or BGR")
