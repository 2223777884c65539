"""Families of checkpoints that can be read, and ``read_backbone``, which detects the family and checks what it gives.

A new family is one file with a ``FAMILY`` and one line in ``FAMILIES``; the first that recognises a file reads it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pretrain.common.errors import InputError
from pretrain.common.shell import command, file_word
from transfer.checkpoints import architecture, foreign, key_map
from transfer.checkpoints.families import (
    barlow_twins,
    byol,
    detectron2,
    dino,
    huggingface,
    infocl,
    lightly,
    moco,
    msf,
    openmmlab,
    paws,
    pixpro,
    prefix,
    pycontrast,
    simclr,
    slotcon,
    solo_learn,
    superinfo,
    swav,
    timm,
    torchvision,
    vissl,
)
from transfer.checkpoints.families.base import (
    BESIDE,
    PIXELS_ASSUMED,
    STRIDE_ASSUMED,
    Backbone,
    Family,
    RawBackbone,
    as_tensor,
    find,
    flatten,
    under,
    weights_digest,
)
from transfer.checkpoints.families.prefix import FIRST, named, prefixes
from transfer.checkpoints.reading.read import CheckpointFile, load_checkpoint
from transfer.checkpoints.weights import NOTHING_GIVEN, Given

__all__ = ["SOURCES", "Backbone", "Source", "backbone_of", "detect", "extract", "read_backbone", "weights_digest"]

CUT = re.compile(r"(?:v1|nv1|onv1|ayer[1-4]|yer[1-4])\.")
OF_RESNET = re.compile(r"(?:conv1|bn1|layer[1-4])\.")  # how the names of torchvision's network begin
FORCED = "as --family says"  # where a file has none of the marks of its family

# torchvision's is the last: a bare network is whatever nothing else in the file tells it from.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        superinfo.FAMILY,
        detectron2.FAMILY,
        pycontrast.FAMILY,
        msf.FAMILY,
        moco.MOCO,
        moco.MOCO_V3,
        infocl.FAMILY,
        solo_learn.FAMILY,
        lightly.FAMILY,
        vissl.FAMILY,
        swav.FAMILY,
        simclr.FAMILY,
        barlow_twins.BARLOW_TWINS,
        barlow_twins.VICREG,
        barlow_twins.VICREGL,
        moco.SIMSIAM,
        dino.FAMILY,
        openmmlab.FAMILY,
        paws.FAMILY,
        slotcon.FAMILY,
        pixpro.FAMILY,
        timm.FAMILY,
        huggingface.FAMILY,
        byol.FAMILY,
        prefix.FAMILY,
        torchvision.FAMILY,
    )
}


def detect(file: CheckpointFile, name: str | None = None) -> tuple[Family, str]:
    """The family called ``name``, or the one that recognises ``file``, and why. InputError if there is none."""
    if name is not None:
        if name not in FAMILIES:
            raise InputError(f"--family {name}: there is no such family; there are {', '.join(FAMILIES)}")
        return FAMILIES[name], FAMILIES[name].recognise(file) or FORCED
    for family in FAMILIES.values():
        reason = family.recognise(file)
        if reason:
            return family, reason
    found = flatten(file.content)
    if not found:
        raise InputError(f"{file.path}: holds no tensors (keys: {architecture.first_few(map(str, file.content))})")
    other = foreign.describe(architecture.shapes_of(found))
    if other:
        raise InputError(f"{file.path}: {other}: only ResNets can be converted")
    inner = find(file.content, ("state_dict",)) or find(file.content, ("model",)) or file.content
    if cut := [key for key in map(str, inner) if CUT.match(key)]:
        raise InputError(
            f"{file.path}: the beginnings of names are cut off ({architecture.first_few(cut, 2)}), as str.lstrip "
            "does in the place of str.removeprefix; give the tensors their names back"
        )
    keys = architecture.first_few(map(str, inner))
    best = prefixes(found)[:1]
    if not best:
        hint = f"; see: {command('transfer', 'inspect', file_word(file.path))}"
        raise InputError(f"{file.path}: not a checkpoint of any known family (keys: {keys}){hint}")
    shapes = architecture.shapes_of(named(under(found, best[0])))
    if kind := architecture.another(shapes):
        raise InputError(f"{file.path}: {_another(kind)} (keys: {keys})")
    raise InputError(f"{file.path}: not a checkpoint of any known family (keys: {keys})")


def extract(family: Family, file: CheckpointFile, network: str | None = None) -> RawBackbone:
    """What ``family`` takes out of ``file``. InputError also where the file has not the parts that it counts on."""
    try:
        raw = family.extract(file, network)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration, ArithmeticError, RecursionError):
        raise InputError(f"{file.path}: nothing in it is laid out as in {family.title}") from None
    return dataclasses.replace(raw, state={name: as_tensor(value) for name, value in raw.state.items()})


def read_backbone(
    path: Path | str, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> Backbone:
    """The ResNet in a checkpoint file or in a pretraining run's folder, checked tensor by tensor.

    ``family`` is a name in FAMILIES (None: whichever recognises the file), ``network`` one of those the file offers
    (None: the published choice), ``given`` what the file does not say. InputError in one line that names the first
    offending keys, and a command that works if there is one: an unknown architecture or stem, missing, unmapped or
    misshaped tensors, other types than float32 and half precision (which becomes float32, exactly), NaN or infinity.
    """
    from transfer.checkpoints.advice import advice

    file = load_checkpoint(path)
    try:
        return backbone_of(file, family, network, given)
    except InputError as error:
        raise InputError(f"{error}{advice(file, family, network, given)}") from None


def backbone_of(
    file: CheckpointFile, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> Backbone:
    """As read_backbone, of a file that has been read, and without advice."""
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
        return _another(kind)
    if architecture.describe(shapes) == architecture.NO_RESNET and (other := foreign.describe(shapes)):
        return f"{other}: only ResNets can be converted"
    return f"not a usable {key_map.title(found)}"


def _another(kind: str) -> str:
    return f"looks like a {kind}; only ResNet-18, 34, 50, 101 and 152 of the usual width and stem can be converted"


def _remedy(faults: list[str]) -> str:
    of_type = any(fault.startswith(architecture.WRONG_TYPE) for fault in faults)
    return "; save model.float().state_dict()" if of_type else ""


def with_given(path: Path, raw: RawBackbone, given: Given) -> RawBackbone:
    """``raw`` without what is dropped, and with the input that is given. InputError for parts of the ResNet."""
    state, dropped = dict(raw.state), dict(raw.dropped)
    for start in given.drop:
        left_over = [name for name in state if name.startswith(start)]
        if not left_over:
            raise InputError(f"{path}: --drop {start}: no tensor that is left over starts with it")
        if inside := [name for name in left_over if OF_RESNET.match(name)]:
            raise InputError(f"{path}: --drop {start}: {inside[0]} is a part of the ResNet itself")
        for name in left_over:
            del state[name]
            dropped[name] = f"left out, as --drop {start} says"
    said = given.input()
    return dataclasses.replace(raw, state=state, dropped=dropped, assumed=_assumed(raw.assumed, said), **said)


def _assumed(clauses: str, said: Mapping[str, Any]) -> str:
    """``clauses``, what a family takes for granted, without what is ``said`` of the input."""
    statistics = [name for name in ("mean", "std") if f"pixel_{name}" not in said]
    normalised = f" normalised with ImageNet's {' and '.join(statistics)}" if statistics else ""
    order = "" if "channel_order" in said else "RGB "
    left = {PIXELS_ASSUMED: f"{order}images{normalised}" if order or statistics else ""}
    if "stride_in_1x1" in said:
        left[STRIDE_ASSUMED] = ""
    return ", ".join(filter(None, (left.get(clause, clause) for clause in clauses.split(", "))))


def _refuse_second_network(file: CheckpointFile, raw: RawBackbone) -> None:
    """InputError where what would be left out as no weights is a network too, such as "model_ema" beside "model"."""
    for key, reason in raw.dropped.items():
        value = file.content.get(key) if reason == BESIDE else None
        names_in = flatten(value) if isinstance(value, dict) else {}
        if any(name.endswith(FIRST) for name in names_in):
            raise InputError(f"{file.path}: there is a second network in {key!r}; say with --prefix which one to take")


def _checked(file: CheckpointFile, family: str, reason: str, raw: RawBackbone, found: str, given: Given) -> Backbone:
    _check_pixels(file.path, raw)
    state: dict[str, Any] = {
        name: raw.state[name].detach().to(torch.float32).contiguous() for name in key_map.to_detectron2(found)
    }
    state |= {name: raw.state[name].detach() for name in key_map.counters(found) if name in raw.state}
    return Backbone(
        state=state,
        family=family,
        reason=reason,
        assumed=raw.assumed,
        architecture=found,
        dropped=raw.dropped,
        pixel_mean=raw.pixel_mean,
        pixel_std=raw.pixel_std,
        channel_order=raw.channel_order,
        stride_in_1x1=raw.stride_in_1x1,
        networks=raw.networks,
        network=raw.network,
        given=given,
        sha256=weights_digest(state),
        meta=file.meta if family == "superinfo" else None,
    )


def _check_pixels(path: Path, raw: RawBackbone) -> None:
    three = len(raw.pixel_mean) == len(raw.pixel_std) == 3
    if not three or min(raw.pixel_std) <= 0 or not all(map(math.isfinite, (*raw.pixel_mean, *raw.pixel_std))):
        raise InputError(f"{path}: needs three finite pixel means and three finite positive stds")
    if raw.channel_order not in ("RGB", "BGR"):
        raise InputError(f"{path}: channel order {raw.channel_order}; there are RGB and BGR")
