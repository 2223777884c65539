"""A family of checkpoints as a table entry: place and prefixes of its state dict, and the left-out parts with reasons.

To see the families applied to a file: ``python -m transfer inspect FILE``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families.base import (
    BESIDE,
    CLASSIFIER,
    IMAGENET_INPUT,
    Family,
    RawBackbone,
    choose,
    find,
    longest,
    others_on_path,
    unwrap,
)
from transfer.checkpoints.reading.read import MAX_TENSORS, CheckpointFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A family as a table entry; ``family()`` makes the Family.

    Keys are compared without the wrappers' parts in them (base.WRAPPERS). A slash marks a nested mapping:
    "teacher/backbone." means the keys ``backbone.*`` of the mapping at key ``teacher``. The same holds in ``drop``,
    ``marks`` and ``absent``, and at deeper levels. If a key matches both a network's prefix and a rule of ``drop``,
    the longer match wins, so that the rule "" covers all other keys.
    """

    name: str
    title: str
    known_from: str
    networks: Mapping[str, str]  # name → prefix of its keys; the first one in a file is the published choice
    inside: tuple[tuple[str, ...], ...] = ((),)  # paths of keys to the state dict; () is the top level
    drop: Mapping[str, str] = dataclasses.field(default_factory=dict)  # key prefix → why it is left out; longest wins
    rename: tuple[tuple[str, str], ...] = ()  # regexes on a whole key without the prefix → torchvision's; all applied
    marks: tuple[str, ...] = ()  # key prefixes that a file must have, in the state dict or at its top level
    absent: tuple[str, ...] = ()  # key prefixes that a file must lack: those of a similar family
    input: PixelInput = IMAGENET_INPUT

    def family(self) -> Family:
        """The Family for FAMILIES."""
        return Family(
            name=self.name, title=self.title, known_from=self.known_from, recognise=self.recognise, extract=self.extract
        )

    def recognise(self, file: CheckpointFile) -> str | None:
        """The reason why ``file`` is of this family: the first place with all marks and a network; None without one."""
        places = self._places(file)
        if not places:
            return None
        path, (flat, wrapped) = next(iter(places.items()))
        prefix = self.networks[self._present(flat)[0]]
        seen = [
            key.removesuffix(".") + ".*" if key.endswith(".") else key
            for key in dict.fromkeys((*self.marks, prefix))
            if key
        ]
        where = f" in {_shown(path)}" if path else ""
        return (
            f"keys {', '.join(seen) or 'named as torchvision does'}{where}{f', without {wrapped}' if wrapped else ''}"
        )

    def extract(self, file: CheckpointFile, network: str | None) -> RawBackbone:
        """The requested network; every other key is in ``dropped`` with a reason, or left over to be reported.

        With --family the identifying marks are not required.
        """
        places = self._places(file) or dataclasses.replace(self, marks=(), absent=())._places(file)
        if not places:
            raise InputError(f"{file.path}: nothing in it is laid out as in {self.title}")
        if len(places) > 1:
            both = " and ".join(map(_shown, places))
            raise InputError(f"{file.path}: a network in both {both}; save the one you need by itself")
        path, (flat, _) = next(iter(places.items()))
        present = self._present(flat)
        chosen = choose(file, present, network)
        state, dropped = self._split(flat, present, chosen)
        return RawBackbone(
            state=state,
            dropped=others_on_path(file.content, path) | dropped,
            input=self.input,
            networks=present,
            network=chosen,
        )

    def _places(self, file: CheckpointFile) -> dict[tuple[str, ...], tuple[dict[str, Any], str]]:
        """Path → (flat keys, the wrappers removed from them) of every place with the marks and a network."""
        found = {}
        for path in self.inside:
            state = find(file.content, path)
            if state is None:
                continue
            flat, wrapped = self._flat(state)
            keys = [*flat, *map(str, file.content)]
            marked = all(_any_starts(keys, mark) for mark in self.marks)
            if marked and not any(_any_starts(keys, mark) for mark in self.absent) and self._present(flat):
                found[path] = flat, wrapped
        return found

    def _flat(self, state: Mapping[Any, Any]) -> tuple[dict[str, Any], str]:
        rules = (*self.networks.values(), *self.drop, *self.marks, *self.absent)
        return _flat(state, tuple(rule for rule in rules if "/" in rule))

    def _present(self, flat: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the networks in ``flat`` that have a first stage or stem under torchvision's names."""
        return tuple(
            name
            for name, prefix in self.networks.items()
            if any(
                self._renamed(key, prefix).startswith(("conv1.", "layer1.")) for key in flat if key.startswith(prefix)
            )
        )

    def _renamed(self, key: str, prefix: str) -> str:
        key = key.removeprefix(prefix)
        for pattern, replacement in self.rename:
            match = re.fullmatch(pattern, key)
            key = match.expand(replacement) if match else key
        return key

    def _split(
        self, flat: Mapping[str, Any], present: tuple[str, ...], chosen: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        rules = {self.networks[chosen] + "fc.": CLASSIFIER, **self.drop}
        state, dropped = {}, {}
        for key, value in flat.items():
            rule = longest(key, rules)
            owner = longest(key, {self.networks[name]: name for name in present})
            if rule is not None and len(rule) >= len(owner or ""):
                dropped[key] = rules[rule]
            elif owner == self.networks[chosen]:
                state[self._renamed(key, owner)] = value
            elif owner is not None:
                name = next(name for name in present if self.networks[name] == owner)
                dropped[key] = f"of the network {name}, not of {chosen}"
            elif hasattr(value, "shape"):
                # Not mapped: architecture.problems names it, and it must not pass for a tensor of the network.
                state[f"{key} (outside {self.networks[chosen]}*)"] = value
            else:
                dropped[key] = BESIDE
        return state, dropped


def first_match(*layouts: Layout) -> Family:
    """Combine several layouts into one family, named as the first; the first that recognises a file reads it.

    With --family, a file without marks is read by the last layout that fits, so the plainest one comes last.
    """

    def recognise(file: CheckpointFile) -> str | None:
        return next((reason for layout in layouts if (reason := layout.recognise(file))), None)

    def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
        unmarked = [dataclasses.replace(layout, marks=(), absent=()) for layout in reversed(layouts)]
        fitting = next((layout for layout in (*layouts, *unmarked) if layout.recognise(file)), layouts[0])
        return fitting.extract(file, network)

    return dataclasses.replace(layouts[0].family(), recognise=recognise, extract=extract)


def _flat(state: Mapping[Any, Any], rules: tuple[str, ...], above: str = "") -> tuple[dict[str, Any], str]:
    """The mapping's own entries, and under "key/…" those of nested mappings that a rule names."""
    inner = {
        key: _flat(value, rules, f"{above}{key}/")
        for key, value in state.items()
        if isinstance(value, dict)
        and len(value) <= MAX_TENSORS
        and any(rule.startswith(f"{above}{key}/") for rule in rules)
    }
    flat, wrapped = unwrap({key: value for key, value in state.items() if key not in inner})
    for key, (entries, prefix) in inner.items():
        flat |= {f"{key}/{name}": value for name, value in entries.items()}
        wrapped = wrapped or prefix
    return flat, wrapped


def _any_starts(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _shown(path: tuple[str, ...]) -> str:
    return '"' + "/".join(path) + '"' if path else "the top level"
