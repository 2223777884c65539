"""Strict reading of JSON into frozen dataclasses: every value has its annotated type, or the error names the place.

    parse(read_text(path), reader(RunRecord), {"schema_version": 2})

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
INTEGER_BITS = 63


def parse(text: str, read: Callable[[Any], T], first: Mapping[str, Any]) -> T:
    """``text`` parsed by ``read``, a ``reader``; ValueError names the missing, unknown or mistyped field.

    ``first``: fields that must have this value, checked before the others.
    """
    values = _DECODER.decode(text)
    if not isinstance(values, dict):
        raise ValueError(f"it is {reprlib.repr(values)}, not an object")
    for name, expected in first.items():
        if values.get(name) != expected:
            raise ValueError(f"{name} {reprlib.repr(values.get(name))}, expected {expected!r}")
    try:
        return read(values)
    except _Wrong as error:
        raise ValueError(str(error).lstrip(". ")) from None


def checked(values: Any, kind: type[T]) -> T:
    """Plain ``values``, of TOML for example, as the dataclass ``kind``. ValueError names the bad place."""
    try:
        found: T = reader(kind)(values)
        return found
    except _Wrong as error:
        raise ValueError(str(error).lstrip(". ")) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not valid JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


class _Wrong(ValueError):
    """The place, as ``.spec.seed``, and the value there."""


def reader(hint: Any) -> Callable[[Any], Any]:
    """A function that converts a JSON value to the type ``hint``, for ``parse``.

    Types are dataclasses, ``T | None``, ``tuple[T, ...]``, ``dict[str, T]``, str, int, float, bool and Any.
    """
    if hint is Any:
        return lambda value: value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint)
    arguments = get_args(hint)
    if get_origin(hint) is UnionType:
        (inner,) = (reader(one) for one in arguments if one is not NoneType)
        return lambda value: None if value is None else inner(value)
    if get_origin(hint) is tuple:
        item = reader(arguments[0])
        return lambda value: tuple(_each(item, "[{}]", enumerate(_as(list, value))).values())
    if get_origin(hint) is dict:
        item = reader(arguments[1])
        return lambda value: _each(item, ".{:.40}", _as(dict, value).items())
    return functools.partial(_number if hint in (int, float) else _as, hint)


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _Wrong(f" is {reprlib.repr(value)}, not {NAMES[kind]}")
    return value


def _number(kind: type, value: Any) -> Any:
    if type(value) is int:
        if value.bit_length() > INTEGER_BITS:
            raise _Wrong(f" is a number of {value.bit_length()} bits")
        return value  # also for a float: 1 and 1.0 are equal, but not in a digest
    if kind is int or type(value) is not float or not math.isfinite(value):
        raise _Wrong(f" is {reprlib.repr(value)}, not {NAMES[kind]}")
    return value


def _each(read: Callable[[Any], Any], place: str, items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found = {}
    for key, value in items:
        try:
            found[key] = read(value)
        except _Wrong as error:
            raise _Wrong(f"{place.format(key)}{error}") from None
    return found


def _dataclass(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = {field.name: reader(hints[field.name]) for field in dataclasses.fields(kind)}
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(value: Any) -> Any:
        _as(dict, value)
        if unknown := value.keys() - readers.keys():
            raise _Wrong(f" has the unknown field {reprlib.repr(min(unknown))}")
        if missing := required - value.keys():
            raise _Wrong(f" lacks {min(missing)}")
        found = {}
        for name, one in value.items():
            try:
                found[name] = readers[name](one)
            except _Wrong as error:
                raise _Wrong(f".{name}{error}") from None
        return kind(**found)

    return read
