"""Pickles without running code from them: what each global a file asks for becomes, and a guard against deep nesting.

Arrays and scalars of numpy are rebuilt here from their bytes; plain containers are Python's; an object of a class of
another project becomes an inert mapping with its data, without importing that project; functions and classes of the
standard library, torch and numpy that are not listed are refused. Imports no torch.
"""

from __future__ import annotations

import _compat_pickle
import builtins
import codecs
import collections
import math
import pickle
import pickletools
import re
import sys
from collections import OrderedDict
from typing import IO, Any

import numpy as np

from pretrain.errors import InputError

MAX_DEPTH = 1000  # of nested containers; a tuple some 100 000 deep as a dict's key overflows the C stack
_NUMBERS = re.compile(r"([<>=|]?)([?biufc]\d*)")
_BUILTINS = ("bool", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "slice", "str", "tuple")
_FILLED = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_DATA_CLASSES = {"argparse.Namespace", "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal", "fractions.Fraction"}
_DATA_MODULES = {"datetime", "pathlib", "typing"}


def harmless(module: str, name: str) -> Any:
    """What stands for the global ``module.name`` of a pickle. InputError for what could run code."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[(module, name)]
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
    if full in KNOWN:
        return KNOWN[full]
    top = module.partition(".")[0]
    of_data = full in _DATA_CLASSES or module in _DATA_MODULES
    a_class = name.rpartition(".")[2][:1].isupper() if top in ("torch", "numpy") else top not in sys.stdlib_module_names
    if not of_data and not a_class:
        raise InputError(f"the pickle asks for {module}.{name}, which could run code; refused")
    return stand_in(full)


def stand_in(name: str) -> type:
    """A class in the place of the unknown class ``name``; its objects are inert mappings and nothing is called."""

    def make(cls: type, *args: Any, **kwargs: Any) -> OrderedDict[Any, Any]:
        inert: OrderedDict[Any, Any] = OrderedDict()  # exactly this type: torch's unpickler fills and builds no other
        vars(inert).update(pickled_class=name, pickled_args=args)
        return inert

    return type(name.rpartition(".")[2], (), {"__new__": make})


class PlainArray(np.ndarray):
    """An array that takes nothing from a pickle but numbers, as many as its shape says."""

    def __setstate__(self, state: Any) -> None:
        """Numpy's (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        kind: Any = dtype.numpy()
        size = len(data) if isinstance(data, bytes) else -1
        if size != math.prod(shape) * kind.itemsize:
            raise InputError(f"an array of shape {tuple(shape)} does not have its {kind} numbers; the file is damaged")
        checked: Any = (1, shape, kind, bool(fortran), data)
        super().__setstate__(checked)


class PlainDtype:
    """A type of numbers; records, strings and objects are refused."""

    def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
        match = _NUMBERS.fullmatch(spec if isinstance(spec, str) else "")
        if not match:
            raise InputError("an array of something else than numbers; save model.state_dict() instead")
        self.order, self.spec = match[1], match[2]

    def __setstate__(self, state: Any) -> None:
        """Numpy's (version, byte order, …), of which the rest is about records."""
        self.order = state[1] if state[1] in "<>" else ""

    def numpy(self) -> np.dtype:
        """As numpy has it."""
        return np.dtype(self.order + self.spec)


def _empty_array(kind: type, shape: Any, dtype: Any) -> np.ndarray:
    return PlainArray.__new__(PlainArray, (0,), "b")


def _array_from_buffer(data: Any, dtype: PlainDtype, shape: Any, order: str = "C") -> np.ndarray:
    array: Any = _empty_array(PlainArray, (0,), "b")
    array.__setstate__((1, shape, dtype, order == "F", _bytes(data)))
    return array


def _scalar(dtype: PlainDtype, data: Any = b"") -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return _array_from_buffer(raw, dtype, ()).item()


def _dict(*args: Any) -> dict[Any, Any]:
    """For a defaultdict: its factory stays out."""
    return {}


def _list(*args: Any) -> list[Any]:
    """For a deque, whose elements follow."""
    return []


def _reconstruct(cls: Any, base: Any, state: Any) -> Any:
    return cls() if isinstance(cls, type) else OrderedDict()


def _bytes(data: Any = b"") -> bytes:
    return bytes(data) if isinstance(data, (bytes, bytearray)) else b""  # bytes(10**12) would fill the memory


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return codecs.latin_1_encode(text)[0]  # how bytes lie in a pickle of protocol 2; never another codec


KNOWN: dict[str, Any] = {
    "numpy.ndarray": PlainArray,
    "numpy.dtype": PlainDtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy.core.multiarray.scalar": _scalar,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": collections.Counter,
    "collections.deque": _list,
    "collections.defaultdict": _dict,
    "builtins.bytes": _bytes,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstruct,
    **{f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS},
}


class PlainUnpickler(pickle.Unpickler):
    """Python's unpickler with ``harmless`` for every global; it knows no persistent ids."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the global."""
        return harmless(module, name)


def require_tame(stream: IO[bytes]) -> None:
    """Read one pickle from ``stream`` without building it. InputError if it nests deeper than MAX_DEPTH, or has a bomb.

    Follows the pickle's stack with the depth of each value in the place of the value. Other errors for a damaged one.
    """
    stack: list[Any] = []
    memo: dict[Any, int] = {}
    argument: Any
    for op, argument, _ in pickletools.genops(stream):
        if op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif op.name == "DUP":
            stack.append(stack[-1])
        elif op.name == "GLOBAL" and argument in ("builtins bytearray", "__builtin__ bytearray"):
            raise InputError("the pickle asks for bytearray, which can fill the memory; refused")
        elif op.name != "STOP":
            depth = _take(stack, op.stack_before, filled=op.name in _FILLED)
            stack += [None if kind is pickletools.markobject else depth for kind in op.stack_after]
        if stack and stack[-1] is not None and stack[-1] > MAX_DEPTH:
            raise InputError(f"nested more than {MAX_DEPTH} deep, which no checkpoint is; refused")


def _take(stack: list[Any], kinds: list[Any], *, filled: bool) -> int:
    """Take what an operation takes from the stack; returns the depth of what it makes of it, or of what it fills."""
    taken: list[int] = []
    if pickletools.markobject in kinds:
        while (depth := stack.pop()) is not None:
            taken.append(depth)
        kinds = kinds[: kinds.index(pickletools.markobject)]
    for _ in kinds:
        taken.append(stack.pop())
    above = [depth + 1 for depth in taken]
    return max([*above[:-1], taken[-1]] if filled else above, default=0)
