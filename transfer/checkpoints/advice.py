"""Find the commands that convert a file which was refused; each is tried on the file's content first.

Only commands whose dry run succeeds are advised: see ``python -m transfer inspect FILE``.
"""

from __future__ import annotations

import contextlib
import dataclasses

from pretrain.common.errors import InputError
from pretrain.common.shell import command, file_word
from transfer.checkpoints import architecture, key_map
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.families import FAMILIES, OF_RESNET, detect, extract
from transfer.checkpoints.families.base import flatten
from transfer.checkpoints.families.prefix import prefixes
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading import file_format
from transfer.checkpoints.reading.read import CheckpointFile

MOST_NAMES = 10_000  # of tensors: a hostile file can have any number, and each command is tried on all
MOST_DROPPED = 12  # parts in a command that a person can still judge
SEVERAL = 3  # if so many families map every tensor, the file's origin is ambiguous


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """One choice that works: its condition, in words, and the command."""

    when: str
    command: str


def advice(file: CheckpointFile, family: str | None, network: str | None, given: Given) -> str:
    """The end of a refusal: the likeliest command that works, and how to list the others; "" if none works."""
    found = ways(file, family, network, given)
    if not found:
        return f"; {of_several(file)}" if of_several(file) else ""
    others = f" ({command('transfer', 'inspect', file_word(file.path))} has others)" if len(found) > 1 else ""
    return f"; {found[0].when}: {found[0].command}{others}"


def of_several(file: CheckpointFile) -> str:
    """How to join a file that is by its name one of several shards; "" for other files."""
    return f"it is one of several files: {file_format.JOIN}" if file_format.is_shard(file.path) else ""


def ways(
    file: CheckpointFile, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> list[Way]:
    """All choices that work, the likeliest first: the same without left-over tensors, each prefix, each family."""
    flat = flatten(file.content)
    if len(flat) > MOST_NAMES:
        return []
    found = _without_leftovers(file, family, network, given)
    if found or family or network:
        return found
    for prefix in prefixes(flat):
        way = _way(file, f"to take the network under {prefix!r}", "prefix", prefix, given)
        found += [way] if way else _without_leftovers(file, "prefix", prefix, given)
    by_name = [
        _way(file, f"if {one.title} wrote it", name, None, given) for name, one in FAMILIES.items() if name != "prefix"
    ]
    named = [way for way in by_name if way]
    return found + (named if len(named) < SEVERAL else [])


def _without_leftovers(file: CheckpointFile, family: str | None, network: str | None, given: Given) -> list[Way]:
    """The choice with ``--drop`` for each part outside the ResNet; [] if it does not work either."""
    try:
        chosen, _ = detect(file, family)
        state = extract(chosen, file, network).state
    except InputError:
        return []
    known = key_map.to_detectron2(architecture.identify(state)).keys()
    kept = [name for name in state if name not in known and not name.startswith(given.drop or ("\0",))]
    kept = [name for name in kept if not name.endswith(key_map.COUNTER) or not OF_RESNET.match(name)]
    parts = tuple(dict.fromkeys(name.partition(".")[0] + "." if "." in name else name for name in kept))
    if not 0 < len(parts) <= MOST_DROPPED or any(OF_RESNET.match(part) or not part.isprintable() for part in parts):
        return []
    more = dataclasses.replace(given, drop=(*given.drop, *parts))
    which = ", ".join(f"{part}*" if part.endswith(".") else part for part in parts[:3])
    way = _way(file, f"if {which} {'is' if len(parts) == 1 else 'are'} no part of the backbone", family, network, more)
    return [way] if way else []


def _way(file: CheckpointFile, when: str, family: str | None, network: str | None, given: Given) -> Way | None:
    with contextlib.suppress(InputError):
        backbone_of(file, family, network, given)
        return Way(when=when, command=convert_command(file, family, network, given))
    return None


def convert_command(
    file: CheckpointFile, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> str:
    """``python -m transfer convert`` with this choice."""
    if family == "prefix":
        words = ["--prefix", str(network)]
    else:
        choice = (("--family", family), ("--network", network))
        words = [word for flag, value in choice if value is not None for word in (flag, value)]
    return command("transfer", "convert", file_word(file.path), *words, *given.words())
