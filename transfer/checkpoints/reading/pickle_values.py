"""The values that a pickle becomes without code (plain arrays, inert objects), and its stream with resource limits.

Imports no torch. See safe_pickle.py.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np

from pretrain.common.errors import InputError

MAX_OPERATIONS = 4_000_000  # of a pickle, about 3 s: three lists with one number per ImageNet image
MAX_MEMO = 1 << 32  # memo keys are smaller, as in binary pickles: larger ones can have equal hashes
MAX_KEY_PARTS = 10_000  # of keys that are tuples, sets or complex: their hashes can be made equal, and are slow
_COPIES = 4  # bytes that a file may have copied in all: this multiple of its size, plus _SPARE
_SPARE = 1 << 27
_TOO = {"operations": "more", "copies": "larger", "keys": "deeper or longer"}
MAX_DIMENSIONS = 64  # as numpy
OBJECT_SIZE = 200  # about, in bytes
ENTRY_SIZE = 100  # of a mapping
_NUMBERS = re.compile(r"([<>=|]?)([?biufc]\d*)")

Call = Callable[[Any, str, tuple[Any, ...]], Any]  # (unpickler, name, arguments)


class Inert(OrderedDict[Any, Any]):
    """A recorded call, as a mapping with the items that the file sets; its ``vars`` are the object's attributes.

    Also in ``vars``: ``pickled_class``, its name; ``pickled_args``, the call's arguments; ``pickled_items``, the
    appended items; ``pickled_state``, attributes in another form than a dict.
    """

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...]) -> Inert:
        """The record of a call of ``name``."""
        made = cls()
        vars(made).update(pickled_class=name, pickled_args=args)
        return made

    def extend(self, items: Iterable[Any]) -> None:
        """Append an item, for an object that was a list."""
        vars(self).setdefault("pickled_items", []).extend(items)

    def fill(self, state: Any) -> None:
        """Take the attributes in ``state``, except those that would hide a mapping's own or a ``pickled_…`` one."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # (attributes, slots)
        if not all(part is None or isinstance(part, dict) for part in parts):
            vars(self)["pickled_state"] = state
            return
        for name, value in ((name, value) for part in parts for name, value in (part or {}).items()):
            if isinstance(name, str) and not hasattr(Inert, name) and not name.startswith("pickled_"):
                vars(self)[name] = value


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A class or function that a file names, and the function that replaces it: ``call(unpickler, name, args)``."""

    name: str
    call: Call


class PlainArray(np.ndarray):
    """An array that takes only numbers from a pickle, as many as its shape says."""

    of_numbers = True

    def __setstate__(self, state: Any) -> None:
        """Set numpy's (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        kind: Any = dtype.numpy()
        if kind is None:
            self.of_numbers = False
            return
        if not is_shape(shape) or not isinstance(data, bytes) or len(data) != math.prod(shape) * kind.itemsize:
            raise InputError(f"an array does not have its {kind} numbers; the file is damaged")
        checked: Any = (1, shape, kind, bool(fortran), data)
        super().__setstate__(checked)


def is_shape(value: Any) -> bool:
    """Whether it is a tuple or list of sizes that an array can have."""
    return (
        isinstance(value, (tuple, list))
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
    )


class PlainDtype:
    """A numeric dtype; records, text and objects are not numeric."""

    def __init__(self, spec: Any, *_: Any) -> None:
        match = _NUMBERS.fullmatch(spec if isinstance(spec, str) else "")
        self.order, self.spec = (match[1], match[2]) if match else ("", "")

    def __setstate__(self, state: Any) -> None:
        """Set numpy's (version, byte order, …); the rest describes records."""
        self.order = state[1] if state[1] in ("<", ">") else ""

    def numpy(self) -> np.dtype | None:
        """numpy's dtype; None if it is not numeric."""
        return np.dtype(self.order + self.spec) if self.spec else None


class LimitedStream:
    """A stream that pickles are read from, and the resources that they may still use."""

    def __init__(self, stream: IO[bytes] | Any, size: int) -> None:
        self.stream = stream
        self.operations = iter(range(MAX_OPERATIONS))
        self.left = {"copies": _COPIES * size + _SPARE, "keys": MAX_KEY_PARTS}

    def inside(self, data: bytes) -> LimitedStream:
        """A stream of a file within the file, which shares its limits."""
        self.spend("copies", len(data))
        inner = LimitedStream(io.BytesIO(data), 0)
        inner.operations, inner.left = self.operations, self.left
        return inner

    def spend(self, what: str, amount: int) -> None:
        """Count ``amount`` of a resource; InputError where the file uses more of it than any checkpoint does."""
        self.left[what] -= amount
        if self.left[what] < 0:
            raise too(what)


def too(what: str) -> InputError:
    """The error for a file with more operations, copies or keys than any checkpoint has."""
    return InputError(f"its {what} are {_TOO[what]} than those of any checkpoint; refused")
