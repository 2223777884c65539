"""A search over values of detectron2's keys as part of a protocol: its words, its candidates, its name in a table.

    python -m benchmarks run --task voc-fpn-24k --search SOLVER.BASE_LR=0.01,0.02,0.05 …

Each candidate trains on the training images without a held-out part, which tests it; the best one then trains on all
of them and is tested once. The search travels as one detectron2 option, TRANSFER.SEARCH, so that it is part of a run's
identity.
Imports no torch.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pretrain.common.errors import InputError

KEY = "TRANSFER.SEARCH"
MOST = 32  # candidates: each is a whole training
SHORT = {"SOLVER.BASE_LR": "lr", "SOLVER.MAX_ITER": "iterations", "SOLVER.WEIGHT_DECAY": "decay"}
COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside of brackets: a value may be a tuple


@dataclass(frozen=True)
class Search:
    """The values to try of each key, as words for detectron2, in the order given."""

    values: Mapping[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        """``SOLVER.BASE_LR=0.01,0.02``, keys in alphabetical order: the same grid is the same search."""
        return " ".join(f"{key}={','.join(self.values[key])}" for key in sorted(self.values))

    @property
    def title(self) -> str:
        """``lr of 3``, for a column's heading."""
        return ", ".join(f"{SHORT.get(key, key)} of {len(self.values[key])}" for key in sorted(self.values))

    @property
    def listed(self) -> str:
        """``lr of 0.01, 0.02, 0.05``, to tell two searches of equal title apart."""
        return ", ".join(f"{SHORT.get(key, key)} of {', '.join(self.values[key])}" for key in sorted(self.values))

    def candidates(self) -> list[tuple[str, ...]]:
        """Every combination as KEY VALUE … words."""
        keys = sorted(self.values)
        grid = itertools.product(*(self.values[key] for key in keys))
        return [tuple(word for pair in zip(keys, one, strict=True) for word in pair) for one in grid]


def parse(words: Sequence[str]) -> Search:
    """The search of ``KEY=V1,V2,…`` words. InputError that names the first bad one."""
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, equals, rest = word.partition("=")
        found = tuple(one.strip() for one in COMMA.split(rest))
        if not key or not equals or not all(found):
            raise InputError(f"--search {word}: give KEY=V1,V2,…, as SOLVER.BASE_LR=0.01,0.02,0.05")
        if key in values:
            raise InputError(f"--search {key} is given twice")
        if twice := [one for one in found if found.count(one) > 1]:
            raise InputError(f"--search {key}: {twice[0]} is given twice")
        if len(found) < 2:
            raise InputError(f"--search {key}: one value is no search; give more, or --opts {key} {found[0]}")
        values[key] = found
    if (count := math.prod(map(len, values.values()))) > MOST:
        raise InputError(f"--search has {count} combinations, and each is a training: give {MOST} or fewer")
    return Search(values)


def with_search(opts: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """``opts`` (KEY VALUE …) with the search of ``words`` among them. InputError for a key in both."""
    if not words:
        return tuple(opts)
    search = parse(words)
    if both := [key for key in opts[::2] if key in search.values]:
        raise InputError(f"{both[0]} is in --opts and in --search: leave it out of one")
    return *opts, KEY, search.text


def search_of(opts: Sequence[str]) -> Search | None:
    """The search among the options KEY VALUE …, None without one. InputError if it cannot be read."""
    found = [value for key, value in zip(opts[::2], opts[1::2], strict=False) if key == KEY]
    return parse(re.split(r" (?=[^ =]+=)", found[0])) if found else None


def without_search(opts: Sequence[str]) -> tuple[str, ...]:
    """The other options."""
    place = next((place for place in range(0, len(opts), 2) if opts[place] == KEY), len(opts))
    return *opts[:place], *opts[place + 2 :]


def title_of(opts: Sequence[str], *, whole: bool = False) -> str:
    """The title of the search among the options of a record, which may be anyone's; empty without one.

    ``whole``: with the values.
    """
    try:
        search = search_of(opts)
    except InputError:
        return "search"
    return (search.listed if whole else search.title) if search else ""
