"""The families of checkpoints that can be read; the first that recognises a file reads it.

A new family is one file with a ``FAMILY`` and one line in ``FAMILIES``, or outside of this project a module that calls
``register``.
"""

from __future__ import annotations

import dataclasses
import re

from pretrain.common.errors import InputError
from pretrain.common.shell import command, file_word
from transfer.checkpoints import architecture, foreign
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
from transfer.checkpoints.families.base import Family, RawBackbone, as_tensor, find, flatten, under
from transfer.checkpoints.families.prefix import named, prefixes
from transfer.checkpoints.reading.read import CheckpointFile

CUT = re.compile(r"(?:v1|nv1|onv1|ayer[1-4]|yer[1-4])\.")
OF_RESNET = re.compile(r"(?:conv1|bn1|layer[1-4])\.")  # prefixes of torchvision's names
FORCED = "as --family says"  # where a file has none of the marks of its family

# torchvision is last: it recognises a bare network, in a file without another family's marks.
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


def register(family: Family, *, first: bool = False) -> None:
    """Add a family from outside of this project. InputError for a name that is taken.

    It is tried after this project's families, so that it cannot take their files; with ``first`` before them, for files
    that one of them would recognise too, such as torchvision's names with an extra mark.
    """
    if family.name in FAMILIES:
        raise InputError(f"a family called {family.name} is registered already; choose another name")
    others = dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES.update({family.name: family} | others if first else others | {family.name: family})


def detect(file: CheckpointFile, name: str | None = None) -> tuple[Family, str]:
    """The family ``name``, or the first that recognises ``file``, and the reason. InputError if there is none."""
    if name is not None:
        if name not in FAMILIES:
            raise InputError(f"--family {name}: no such family; choose from {', '.join(FAMILIES)}")
        return FAMILIES[name], FAMILIES[name].recognise(file) or FORCED
    for family in FAMILIES.values():
        reason = family.recognise(file)
        if reason:
            return family, reason
    raise InputError(f"{file.path}: {_unknown(file)}")


def _unknown(file: CheckpointFile) -> str:
    """The reason why no family recognises ``file``: another network inside, or unknown names."""
    found = flatten(file.content)
    if not found:
        return f"holds no tensors (keys: {architecture.first_few(map(str, file.content))})"
    other = foreign.describe(architecture.shapes_of(found))
    if other:
        return f"{other}: only ResNets can be converted"
    inner = find(file.content, ("state_dict",)) or find(file.content, ("model",)) or file.content
    if cut := [key for key in map(str, inner) if CUT.match(key)]:
        return (
            f"the beginnings of names are cut off ({architecture.first_few(cut, 2)}), as by str.lstrip instead "
            "of str.removeprefix; restore the names"
        )
    keys = architecture.first_few(map(str, inner))
    best = prefixes(found)[:1]
    if not best:
        hint = f"; see: {command('transfer', 'inspect', file_word(file.path))}"
        return f"not a checkpoint of any known family (keys: {keys}){hint}"
    shapes = architecture.shapes_of(named(under(found, best[0])))
    if kind := architecture.another(shapes):
        return f"{kind} (keys: {keys})"
    return f"not a checkpoint of any known family (keys: {keys})"


def extract(family: Family, file: CheckpointFile, network: str | None = None) -> RawBackbone:
    """The backbone that ``family`` extracts from ``file``. InputError also where the file lacks expected parts."""
    try:
        raw = family.extract(file, network)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration, ArithmeticError, RecursionError):
        raise InputError(f"{file.path}: nothing in it is laid out as in {family.title}") from None
    return dataclasses.replace(raw, state={name: as_tensor(value) for name, value in raw.state.items()})
