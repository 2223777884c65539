"""The results of a pickle's calls: plain data for the calls that are known here, else a record of the call.

No class or function that a file names is looked up, imported or called, see safe_pickle.py. Imports no torch.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.pickle_values import (
    ENTRY_SIZE,
    OBJECT_SIZE,
    Call,
    Inert,
    Named,
    PlainArray,
    PlainDtype,
)

if TYPE_CHECKING:
    from transfer.checkpoints.reading.safe_pickle import PlainUnpickler


# Calls into the standard library or numpy that are recorded all the same: checkpoints hold them as settings.
_RECORDED = re.compile(
    r"(?:datetime|pathlib|typing|enum|ipaddress|zoneinfo|numpy\.random|numpy\.ma\.core)\..*|"
    r"argparse\.Namespace|types\.SimpleNamespace|uuid\.UUID|decimal\.Decimal|fractions\.Fraction|functools\.partial|"
    r"re\.(?:_compile|RegexFlag)|operator\.(?:item|attr)getter|collections\.(?:ChainMap|User\w+)|logging\.getLogger|"
    r"builtins\.(?:[A-Z]\w*|int|float|str|bool|object|slice|range|type|property|staticmethod|classmethod)"
)


def record(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Inert:
    """The call recorded as a mapping, without making it."""
    unpickler.limited.spend("copies", OBJECT_SIZE)
    return Inert.of(name, args)


def refuse(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """InputError, for a call that is neither known nor recorded."""
    raise InputError(f"the pickle asks for {name}, which could run code; refused")


def is_recorded(full: str) -> bool:
    """Whether a call is recorded: every call into other projects, of torch's and numpy's classes, and _RECORDED."""
    top, last = full.partition(".")[0], full.rpartition(".")[2]
    if top in ("torch", "numpy") and last[:1].isupper():
        return True
    return top not in ("torch", "numpy", *sys.stdlib_module_names) or _RECORDED.fullmatch(full) is not None


def _get_attribute(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """An attribute of another project's recorded class or object, as enumerations and methods are pickled."""
    target, attribute, *_ = args
    if isinstance(target, Inert):
        target = Named(vars(target)["pickled_class"], record)
    if not (isinstance(target, Named) and target.call is record and isinstance(attribute, str)):
        refuse(unpickler, name, args)
    return unpickler.named(f"{target.name}.{attribute}", record)


def _set_attribute(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> None:
    """Set an attribute of a recorded class or function, as dill's pickles do."""
    target, attribute, value = args
    if isinstance(target, Inert):
        target.fill({attribute: value} if isinstance(attribute, str) else {})
    elif not (isinstance(target, Named) and target.call is record):
        refuse(unpickler, name, args)


def _get_from_module(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """An object of a module, as dill names it."""
    target, attribute, *_ = args
    known = isinstance(target, Named) and isinstance(attribute, str)
    return unpickler.find_class(target.name, attribute) if known else record(unpickler, name, args)


def _sequence(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """A list, tuple or set of a list's elements; a deque becomes a list."""
    items = args[0] if args else ()
    if not isinstance(items, (list, tuple, set, frozenset, dict)):
        return record(unpickler, name, args)
    unpickler.limited.spend("copies", 8 * len(items))
    kind = {"tuple": tuple, "set": set, "frozenset": frozenset}.get(name.rpartition(".")[2], list)
    if kind in (set, frozenset):
        unpickler.require_keys(items)
    return kind(items)


def _mapping(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """A dict or OrderedDict of a dict or of pairs; a defaultdict (its first argument makes values) starts empty."""
    made: dict[Any, Any] = OrderedDict() if name.endswith("OrderedDict") else {}
    pairs = next((value for value in args if isinstance(value, (dict, list, tuple))), ())
    unpickler.limited.spend("copies", ENTRY_SIZE * len(pairs))
    pairs = [*pairs.items()] if isinstance(pairs, dict) else [(key, value) for key, value in pairs]
    unpickler.require_keys(key for key, _ in pairs)
    made.update(pairs)
    return made


def _subclass_instance(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    """(class, base, the base's content): how protocols 0 and 1 store every object."""
    cls, _, content = args
    made = unpickler.call(cls, ())
    unpickler.limited.spend("copies", ENTRY_SIZE * len(content) if isinstance(content, (dict, list, tuple)) else 0)
    if isinstance(made, Inert) and isinstance(content, dict):
        made.update(content)
    elif isinstance(made, Inert) and isinstance(content, (list, tuple)):
        made.extend(content)
    return made


def _bytes(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> bytes:
    data = args[0] if args else b""
    if isinstance(data, int):
        raise InputError(f"the pickle asks for {name} with a length, which can fill the memory; refused")
    return data if isinstance(data, bytes) else _encode(unpickler, name, args)


def _encode(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> bytes:
    """How protocol 2 stores bytes; any other codec is refused."""
    text, encoding = args if len(args) == 2 else (*args, "latin1")
    if not (isinstance(text, str) and isinstance(encoding, str) and encoding in ("latin1", "latin-1")):
        raise InputError(f"the pickle asks for {name} of something other than bytes; refused")
    unpickler.limited.spend("copies", len(text))
    return codecs.latin_1_encode(text)[0]


def _complex(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    numbers = all(isinstance(value, (int, float)) for value in args)
    return complex(*args) if numbers else record(unpickler, name, args)


def _dtype(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> PlainDtype:
    return PlainDtype(*args)


def _empty_array(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> PlainArray:
    return PlainArray((0,), "b")


def _array_from_buffer(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> np.ndarray:
    """(bytes, type, shape, order, order of the axes): how protocol 5 stores an array."""
    data, dtype, shape, order, *axes = args
    array = _array(unpickler, (1, shape, dtype, order == "F", data))
    return array.transpose(axes[0]) if order == "K" and axes and axes[0] is not None else array


def _array_of(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> np.ndarray:
    """(function, its arguments, numpy's state, …): how dill and jax store an array."""
    return _array(unpickler, args[2])


def _scalar(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    dtype, data = args
    data = _encode(unpickler, name, (data,)) if isinstance(data, str) else data
    return _array(unpickler, (1, (), dtype, False, data)).item() if dtype.spec else record(unpickler, name, args)


def _array(unpickler: PlainUnpickler, state: Any) -> PlainArray:
    array = PlainArray((0,), "b")
    array.__setstate__(state)
    unpickler.limited.spend("copies", array.nbytes)
    return array


def _named_tuple(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Named:
    """A namedtuple class from dill's (name, fields, module, …)."""
    full = f"{args[2]}.{args[0]}" if isinstance(args[0], str) and isinstance(args[2], str) else name
    return unpickler.named(full, record)


def _module(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Named:
    return unpickler.named(args[0] if isinstance(args[0], str) else name, record)


CALLS: dict[str, Call] = {
    "numpy.dtype": _dtype,
    "numpy.ndarray": record,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy.core.multiarray.scalar": _scalar,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _mapping,
    "collections.deque": _sequence,
    "builtins.dict": _mapping,
    "builtins.list": _sequence,
    "builtins.tuple": _sequence,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "builtins.complex": _complex,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.getattr": _get_attribute,
    "builtins.setattr": _set_attribute,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _subclass_instance,
    "dill._dill._create_array": _array_of,
    "dill._dill._create_namedtuple": _named_tuple,
    "dill._dill._get_attr": _get_from_module,
    "dill._dill._import_module": _module,
    "jax._src.array._reconstruct_array": _array_of,
    "jax._src.device_array.reconstruct_device_array": _array_of,
}
