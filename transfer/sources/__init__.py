"""Families of checkpoints that can be read, and ``read_backbone``, which detects the family and checks what it gives.

A new family is one file with a ``SOURCE`` and one line in ``SOURCES``; the first that recognises a file reads it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from pretrain.errors import InputError
from transfer import architecture, names
from transfer.read import Loaded, load_checkpoint
from transfer.sources import (
    barlow_twins,
    byol,
    detectron2,
    dino,
    huggingface,
    infocl,
    lightly,
    moco,
    openmmlab,
    pixpro,
    prefix,
    pycontrast,
    simclr,
    solo_learn,
    superinfo,
    swav,
    timm,
    torchvision,
    vissl,
)
from transfer.sources.base import BESIDE, Backbone, Source, Taken, find, flatten, weights_digest

__all__ = ["SOURCES", "Backbone", "Source", "backbone_of", "detect", "read_backbone", "take", "weights_digest"]

FIRST = "layer1.0.conv1.weight"
FORCED = "as --source says"  # where a file has none of the marks of its source

# torchvision's is the last: a bare network is whatever nothing else in the file tells it from.
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        superinfo.SOURCE,
        detectron2.SOURCE,
        pycontrast.SOURCE,
        moco.MOCO,
        moco.MOCO_V3,
        infocl.SOURCE,
        solo_learn.SOURCE,
        lightly.SOURCE,
        vissl.SOURCE,
        swav.SOURCE,
        simclr.SOURCE,
        barlow_twins.BARLOW_TWINS,
        barlow_twins.VICREG,
        moco.SIMSIAM,
        dino.SOURCE,
        openmmlab.SOURCE,
        pixpro.SOURCE,
        timm.SOURCE,
        huggingface.SOURCE,
        byol.SOURCE,
        prefix.SOURCE,
        torchvision.SOURCE,
    )
}


def detect(loaded: Loaded, name: str | None = None) -> tuple[Source, str]:
    """The source called ``name``, or the one that recognises ``loaded``, and why. InputError if there is none."""
    if name is not None:
        if name not in SOURCES:
            raise InputError(f"--source {name}: there is no such source; there are {', '.join(SOURCES)}")
        return SOURCES[name], SOURCES[name].recognise(loaded) or FORCED
    for source in SOURCES.values():
        reason = source.recognise(loaded)
        if reason:
            return source, reason
    if not flatten(loaded.content):
        raise InputError(f"{loaded.path}: holds no tensors (keys: {architecture.first_few(map(str, loaded.content))})")
    inner = find(loaded.content, ("state_dict",)) or find(loaded.content, ("model",)) or loaded.content
    keys = architecture.first_few(map(str, inner))
    raise InputError(
        f"{loaded.path}: not a checkpoint of any known source (keys: {keys}); see: "
        f"python -m transfer inspect {loaded.path}"
    )


def take(source: Source, loaded: Loaded, network: str | None = None) -> Taken:
    """What ``source`` takes out of ``loaded``. InputError also where the file has not the parts that it counts on."""
    try:
        return source.take(loaded, network)
    except (LookupError, TypeError, AttributeError, StopIteration):
        raise InputError(f"{loaded.path}: nothing in it is laid out as in {source.title}") from None


def read_backbone(path: Path | str, source: str | None = None, network: str | None = None) -> Backbone:
    """The ResNet in a checkpoint file or in a pretraining run's folder, checked tensor by tensor.

    ``source`` is a name in SOURCES (None: whichever recognises the file), ``network`` one of those the file offers
    (None: the published choice). InputError in one line that names the first offending keys: an unknown architecture or
    stem, missing, unmapped or misshaped tensors, other types than float32 and half precision (which becomes float32,
    exactly), NaN or infinity.
    """
    return backbone_of(load_checkpoint(path), source, network)


def backbone_of(loaded: Loaded, source: str | None = None, network: str | None = None) -> Backbone:
    """As read_backbone, of a file that has been read."""
    family, reason = detect(loaded, source)
    taken = take(family, loaded, network)
    _refuse_second_network(loaded, taken)
    found = architecture.identify(taken.state)
    faults = architecture.problems(taken.state, found)
    if faults:
        kind = architecture.describe(architecture.shapes_of(taken.state))
        advice = "; save model.float().state_dict()" if any(map(_is_of_type, faults)) else ""
        raise InputError(
            f"{loaded.path}: not a usable {names.title(found)} (looks like: {kind}): {'; '.join(faults)}{advice}"
        )
    return _checked(loaded, family.name, reason, taken, found)


def _is_of_type(fault: str) -> bool:
    return fault.startswith("not plain float32 or half")


def _refuse_second_network(loaded: Loaded, taken: Taken) -> None:
    """InputError where what would be left out as no weights is a network too, such as "model_ema" beside "model"."""
    for key, reason in taken.dropped.items():
        value = loaded.content.get(key) if reason == BESIDE else None
        names_in = flatten(value) if isinstance(value, dict) else {}
        if first := next((name for name in names_in if name.endswith(FIRST)), None):
            raise InputError(
                f"{loaded.path}: there is a second network in {key!r}; say which one, as in "
                f"--prefix {key}.{first.removesuffix(FIRST)} (python -m transfer inspect {loaded.path} lists both)"
            )


def _checked(loaded: Loaded, source: str, reason: str, taken: Taken, found: str) -> Backbone:
    _check_pixels(loaded.path, taken)
    state: dict[str, Any] = {
        name: taken.state[name].detach().to(torch.float32).contiguous() for name in names.to_detectron2(found)
    }
    state |= {name: taken.state[name].detach() for name in names.counters(found) if name in taken.state}
    return Backbone(
        state=state,
        source=source,
        reason=reason,
        assumed=taken.assumed,
        architecture=found,
        dropped=taken.dropped,
        pixel_mean=taken.pixel_mean,
        pixel_std=taken.pixel_std,
        channel_order=taken.channel_order,
        stride_in_1x1=taken.stride_in_1x1,
        networks=taken.networks,
        network=taken.network,
        sha256=weights_digest(state),
        meta=loaded.meta if source == "superinfo" else None,
    )


def _check_pixels(path: Path, taken: Taken) -> None:
    three = len(taken.pixel_mean) == len(taken.pixel_std) == 3
    if not three or min(taken.pixel_std) <= 0 or not all(map(math.isfinite, (*taken.pixel_mean, *taken.pixel_std))):
        raise InputError(f"{path}: needs three finite pixel means and three finite positive stds")
    if taken.channel_order not in ("RGB", "BGR"):
        raise InputError(f"{path}: channel order {taken.channel_order}; there are RGB and BGR")
