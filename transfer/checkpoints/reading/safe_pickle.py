"""Pickles without running code from them: no class or function that a file names is looked up, imported or called.

What a file names becomes a ``Named``; calling one gives plain data where this module knows how (Python's containers,
numpy's arrays and scalars) and else an inert mapping with the arguments, ``Inert``. Calls of functions and classes of
the standard library, torch and numpy that are not listed are refused. Time and memory are bounded by the file's size.
Imports no torch.
"""

from __future__ import annotations

import _compat_pickle
import codecs
import dataclasses
import io
import math
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import NoneType
from typing import IO, Any, ClassVar

import numpy as np

from pretrain.common.errors import InputError

MAX_OPERATIONS = 4_000_000  # of a pickle, some 3 s: three lists of numbers, one for each of ImageNet's images
MAX_KEY_PARTS = 10_000  # of keys that are tuples, sets or complex: their hashes can be made equal, and take long
MAX_MEMO = 1 << 32  # the memo's keys are below, as those in binary are: larger ones can have equal hashes
MAX_ARGUMENTS = 16  # of the calls that are more than recorded
MAX_DIMENSIONS = 64  # as numpy
_COPIES = 4  # what a file may have copied in all, as a multiple of its size, beside _SPARE bytes
_SPARE = 1 << 27
_TOO = {"operations": "more", "copies": "larger", "keys": "deeper or longer"}
_OBJECT_SIZE = 200  # about, in bytes
_ENTRY_SIZE = 100  # of a mapping
_NUMBERS = re.compile(r"([<>=|]?)([?biufc]\d*)")
_PLAIN_KEYS = (str, bytes, bool, float, NoneType)
_CONTAINERS = (dict, OrderedDict, list, set)

# Calls that are recorded although they are of the standard library or of numpy: they appear as settings in checkpoints.
_RECORDED = re.compile(
    r"(?:datetime|pathlib|typing|enum|ipaddress|zoneinfo|numpy\.random|numpy\.ma\.core)\..*|"
    r"argparse\.Namespace|types\.SimpleNamespace|uuid\.UUID|decimal\.Decimal|fractions\.Fraction|functools\.partial|"
    r"re\.(?:_compile|RegexFlag)|operator\.(?:item|attr)getter|collections\.(?:ChainMap|User\w+)|logging\.getLogger|"
    r"builtins\.(?:[A-Z]\w*|int|float|str|bool|object|slice|range|type|property|staticmethod|classmethod)"
)


Call = Callable[[Any, str, tuple[Any, ...]], Any]  # (unpickler, name, arguments)


class Inert(OrderedDict[Any, Any]):
    """What a file calls, as a mapping with the items that the file sets; ``vars`` of it are the object's attributes.

    Beside them ``pickled_class``, its name; ``pickled_args``, what it was called with; ``pickled_items``, what was
    appended; ``pickled_state``, attributes in another form than a dict.
    """

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...]) -> Inert:
        """That of a call of ``name``."""
        made = cls()
        vars(made).update(pickled_class=name, pickled_args=args)
        return made

    def extend(self, items: Iterable[Any]) -> None:
        """As a list does, where the object was one."""
        vars(self).setdefault("pickled_items", []).extend(items)

    def fill(self, state: Any) -> None:
        """Take the attributes in ``state``, but for those that would hide a mapping's own or what is kept beside."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # (attributes, slots)
        if not all(part is None or isinstance(part, dict) for part in parts):
            vars(self)["pickled_state"] = state
            return
        for name, value in ((name, value) for part in parts for name, value in (part or {}).items()):
            if isinstance(name, str) and not hasattr(Inert, name) and not name.startswith("pickled_"):
                vars(self)[name] = value


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A class or function that a file names, and what a call of it does: ``call(unpickler, name, args)``."""

    name: str
    call: Call


class PlainArray(np.ndarray):
    """An array that takes nothing from a pickle but numbers, as many as its shape says."""

    of_numbers = True

    def __setstate__(self, state: Any) -> None:
        """Numpy's (version, shape, dtype, Fortran order, bytes)."""
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
    """Whether it is a tuple or list of sizes as an array can have them."""
    return (
        isinstance(value, (tuple, list))
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
    )


class PlainDtype:
    """A type of numbers; that of records, text or objects is none."""

    def __init__(self, spec: Any, *_: Any) -> None:
        match = _NUMBERS.fullmatch(spec if isinstance(spec, str) else "")
        self.order, self.spec = (match[1], match[2]) if match else ("", "")

    def __setstate__(self, state: Any) -> None:
        """Numpy's (version, byte order, …), of which the rest is about records."""
        self.order = state[1] if state[1] in ("<", ">") else ""

    def numpy(self) -> np.dtype | None:
        """As numpy has it; None for what is no number."""
        return np.dtype(self.order + self.spec) if self.spec else None


class LimitedStream:
    """A stream that pickles are read from, and what they may still take."""

    def __init__(self, stream: IO[bytes] | Any, size: int) -> None:
        self.stream = stream
        self.operations = iter(range(MAX_OPERATIONS))
        self.left = {"copies": _COPIES * size + _SPARE, "keys": MAX_KEY_PARTS}

    def inside(self, data: bytes) -> LimitedStream:
        """A file in the file, which shares what they may take."""
        self.spend("copies", len(data))
        inner = LimitedStream(io.BytesIO(data), 0)
        inner.operations, inner.left = self.operations, self.left
        return inner

    def spend(self, what: str, amount: int) -> None:
        """InputError where the file takes more of it than any checkpoint does: bytes, parts of keys."""
        self.left[what] -= amount
        if self.left[what] < 0:
            raise _too(what)


def _too(what: str) -> InputError:
    return InputError(f"its {what} are {_TOO[what]} than those of any checkpoint; refused")


class PlainUnpickler(pickle._Unpickler):
    """Python's unpickler with operations that touch nothing but what the file itself has made; no persistent ids.

    It is the one written in Python, whose operations can be replaced, and whose memo has no holes to fill.
    """

    memo: dict[int, Any]
    owned: tuple[type, ...] = ()  # types beside those of this module whose objects only a file makes
    known: ClassVar[dict[str, Call]]  # what calls do, see below

    def __init__(self, limited: LimitedStream) -> None:
        super().__init__(limited.stream, encoding="latin1")
        self.limited = limited

    def load(self) -> Any:
        """The object whose pickle is next in the stream. InputError or any other error for a damaged one."""
        self.read, self.readline = self.limited.stream.read, self.limited.stream.readline
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []
        self.append = self.stack.append
        dispatch = self.dispatch
        try:
            for _ in self.limited.operations:
                if (operation := self.read(1)[0]) == pickle.STOP[0]:
                    return self.stack.pop()
                dispatch[operation](self)
        except IndexError as error:
            raise EOFError("it ends before its end, or is damaged") from error
        raise _too("operations")

    def pop_mark(self) -> list[Any]:
        """What has been put on the stack since the last mark."""
        items, self.stack = self.stack, self.metastack.pop()
        self.append = self.stack.append
        return items

    def find_class(self, module: str, name: str) -> Any:
        """A name for it, whatever it is."""
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[(module, name)]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.").replace("dill.dill.", "dill._dill.")
        return self._named(full, self.known.get(full) or (record if _is_recorded(full) else _refuse))

    def _named(self, name: str, call: Call) -> Named:
        self.limited.spend("copies", len(name))
        return Named(name, call)

    def call(self, target: Any, args: Any) -> Any:
        """What stands for ``target(*args)``."""
        if isinstance(target, Named) and isinstance(args, tuple):
            if target.call is not record and len(args) > MAX_ARGUMENTS:
                _refuse(self, target.name, args)
            return target.call(self, target.name, args)
        if isinstance(target, Inert) and isinstance(args, tuple):  # a class that another call has made
            return record(self, vars(target)["pickled_class"], args)
        raise InputError("the pickle calls what is no class or function; refused")

    def _require_keys(self, keys: Iterable[Any]) -> None:
        """InputError for keys whose hashes take long or can be made equal."""
        for key in keys:
            kind = type(key)
            if kind in _PLAIN_KEYS or (kind is int and -(1 << 60) < key < 1 << 60):
                continue
            parts = [key] if kind in (int, complex, tuple, frozenset) else []
            while parts:
                part = parts.pop()
                inner = part if type(part) in (tuple, frozenset) else ()
                self.limited.spend("keys", 1 + len(inner))
                self.limited.spend("copies", len(part) if isinstance(part, (str, bytes)) else 0)  # as in its repr
                if type(part) is int and part.bit_length() > 1000:
                    raise InputError("a key is a number of more than 1000 bits, which no checkpoint has; refused")
                parts.extend(inner)

    # The operations. Those that only push numbers, text and empty containers, or move things, are Python's.

    def _put(self) -> None:
        place = int(self.readline()[:-1])
        if not 0 <= place < MAX_MEMO:
            raise InputError(f"a place in the memo is not from 0 to {MAX_MEMO}; refused")
        self.memo[place] = self.stack[-1]

    def _frame(self) -> None:
        self.read(8)  # frames only say how much to read ahead

    def _bytearray(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _empty_set(self) -> None:
        self.limited.spend("copies", _OBJECT_SIZE)
        self.append(set())

    def _frozenset(self) -> None:
        items = self.pop_mark()
        self._require_keys(items)
        self.append(frozenset(items))

    def _dict(self) -> None:
        items = self.pop_mark()
        self._require_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _add(self) -> None:
        items = self.pop_mark()
        self._require_keys(items)
        self._top(set).update(items)

    def _append(self) -> None:
        item = self.stack.pop()
        self._top(list, Inert).extend([item])

    def _extend(self) -> None:
        items = self.pop_mark()
        self._top(list, Inert).extend(items)

    def _set(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._require_keys([key])
        self._top(dict, OrderedDict, Inert)[key] = value

    def _set_all(self) -> None:
        items = self.pop_mark()
        self._require_keys(items[::2])
        self._top(dict, OrderedDict, Inert).update(zip(items[::2], items[1::2], strict=True))

    def _top(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise InputError("the pickle fills what is no container of its own; refused")
        return self.stack[-1]

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args)

    def _new(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        self.append(self.call(cls, args))

    def _new_with_names(self) -> None:
        named, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(self.call(cls, args))
        if type(self.stack[-1]) is Inert:
            vars(self.stack[-1])["pickled_names"] = named

    def _instance(self) -> None:
        module, name = self.readline()[:-1].decode("ascii"), self.readline()[:-1].decode("ascii")
        self.append(self.call(self.find_class(module, name), tuple(self.pop_mark())))

    def _object(self) -> None:
        cls, *args = self.pop_mark()
        self.append(self.call(cls, tuple(args)))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Inert):
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                self.limited.spend("copies", _ENTRY_SIZE * len(part) if isinstance(part, dict) else 0)
            target.fill(state)
        elif isinstance(target, PlainArray):
            target.__setstate__(state)
            self.limited.spend("copies", target.nbytes)
        elif isinstance(target, PlainDtype):
            target.__setstate__(state)
        elif type(target) not in _CONTAINERS and not isinstance(target, self.owned):  # whose attributes are not kept
            what = target.name if isinstance(target, Named) else f"an object of {type(target).__name__}"
            raise InputError(f"the pickle changes {what}, which is not its own; refused")

    def _unknown(self) -> None:
        raise pickle.UnpicklingError("an operation or extension that is none of a checkpoint's")

    dispatch: ClassVar[dict[int, Any]] = {
        **dict.fromkeys(range(256), _unknown),
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), _unknown),
        **dict.fromkeys((pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]), _unknown),
        pickle.PUT[0]: _put,
        pickle.FRAME[0]: _frame,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.FROZENSET[0]: _frozenset,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _extend,
        pickle.SETITEM[0]: _set,
        pickle.SETITEMS[0]: _set_all,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new,
        pickle.NEWOBJ_EX[0]: _new_with_names,
        pickle.INST[0]: _instance,
        pickle.OBJ[0]: _object,
        pickle.BUILD[0]: _build,
    }

    # What calls do, beside recording them.

    def _get_attribute(self, name: str, args: tuple[Any, ...]) -> Any:
        """Of what stands for another project's class or object: enumerations and methods are pickled so."""
        target, attribute, *_ = args
        if isinstance(target, Inert):
            target = Named(vars(target)["pickled_class"], record)
        if not (isinstance(target, Named) and target.call is record and isinstance(attribute, str)):
            _refuse(self, name, args)
        return self._named(f"{target.name}.{attribute}", record)

    def _set_attribute(self, name: str, args: tuple[Any, ...]) -> None:
        """As dill does with the classes and functions that it describes."""
        target, attribute, value = args
        if isinstance(target, Inert):
            target.fill({attribute: value} if isinstance(attribute, str) else {})
        elif not (isinstance(target, Named) and target.call is record):
            _refuse(self, name, args)

    def _get_from_module(self, name: str, args: tuple[Any, ...]) -> Any:
        """dill's way to name what is in a module."""
        target, attribute, *_ = args
        known = isinstance(target, Named) and isinstance(attribute, str)
        return self.find_class(target.name, attribute) if known else record(self, name, args)

    def _sequence(self, name: str, args: tuple[Any, ...]) -> Any:
        """A list, tuple or set of a list's elements; a deque becomes a list."""
        items = args[0] if args else ()
        if not isinstance(items, (list, tuple, set, frozenset, dict)):
            return record(self, name, args)
        self.limited.spend("copies", 8 * len(items))
        kind = {"tuple": tuple, "set": set, "frozenset": frozenset}.get(name.rpartition(".")[2], list)
        if kind in (set, frozenset):
            self._require_keys(items)
        return kind(items)

    def _mapping(self, name: str, args: tuple[Any, ...]) -> Any:
        """A dict or OrderedDict of a dict or of pairs; of a defaultdict, whose first argument makes values, none."""
        made: dict[Any, Any] = OrderedDict() if name.endswith("OrderedDict") else {}
        pairs = next((value for value in args if isinstance(value, (dict, list, tuple))), ())
        self.limited.spend("copies", _ENTRY_SIZE * len(pairs))
        pairs = [*pairs.items()] if isinstance(pairs, dict) else [(key, value) for key, value in pairs]
        self._require_keys(key for key, _ in pairs)
        made.update(pairs)
        return made

    def _subclass_instance(self, name: str, args: tuple[Any, ...]) -> Any:
        """(class, base, the base's content): how protocols 0 and 1 have every object."""
        cls, _, content = args
        made = self.call(cls, ())
        self.limited.spend("copies", _ENTRY_SIZE * len(content) if isinstance(content, (dict, list, tuple)) else 0)
        if isinstance(made, Inert) and isinstance(content, dict):
            made.update(content)
        elif isinstance(made, Inert) and isinstance(content, (list, tuple)):
            made.extend(content)
        return made

    def _bytes(self, name: str, args: tuple[Any, ...]) -> bytes:
        data = args[0] if args else b""
        if isinstance(data, int):
            raise InputError(f"the pickle asks for {name} of a length, which can fill the memory; refused")
        return data if isinstance(data, bytes) else self._encode(name, args)

    def _encode(self, name: str, args: tuple[Any, ...]) -> bytes:
        """How bytes lie in a pickle of protocol 2; never another codec."""
        text, encoding = args if len(args) == 2 else (*args, "latin1")
        if not (isinstance(text, str) and isinstance(encoding, str) and encoding in ("latin1", "latin-1")):
            raise InputError(f"the pickle asks for {name} of something else than bytes; refused")
        self.limited.spend("copies", len(text))
        return codecs.latin_1_encode(text)[0]

    def _complex(self, name: str, args: tuple[Any, ...]) -> Any:
        numbers = all(isinstance(value, (int, float)) for value in args)
        return complex(*args) if numbers else record(self, name, args)

    def _dtype(self, name: str, args: tuple[Any, ...]) -> PlainDtype:
        return PlainDtype(*args)

    def _empty_array(self, name: str, args: tuple[Any, ...]) -> PlainArray:
        return PlainArray((0,), "b")

    def _array_from_buffer(self, name: str, args: tuple[Any, ...]) -> np.ndarray:
        """(bytes, type, shape, order, order of the axes): how protocol 5 has an array."""
        data, dtype, shape, order, *axes = args
        array = self._array((1, shape, dtype, order == "F", data))
        return array.transpose(axes[0]) if order == "K" and axes and axes[0] is not None else array

    def _array_of(self, name: str, args: tuple[Any, ...]) -> np.ndarray:
        """(function, its arguments, numpy's state, …): how dill and jax have an array."""
        return self._array(args[2])

    def _scalar(self, name: str, args: tuple[Any, ...]) -> Any:
        dtype, data = args
        data = self._encode(name, (data,)) if isinstance(data, str) else data
        return self._array((1, (), dtype, False, data)).item() if dtype.spec else record(self, name, args)

    def _array(self, state: Any) -> PlainArray:
        array = PlainArray((0,), "b")
        array.__setstate__(state)
        self.limited.spend("copies", array.nbytes)
        return array

    def _named_tuple(self, name: str, args: tuple[Any, ...]) -> Named:
        """dill's (name, fields, module, …)."""
        full = f"{args[2]}.{args[0]}" if isinstance(args[0], str) and isinstance(args[2], str) else name
        return self._named(full, record)

    def _module(self, name: str, args: tuple[Any, ...]) -> Named:
        return self._named(args[0] if isinstance(args[0], str) else name, record)


def record(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Inert:
    """The call as a mapping, not made."""
    unpickler.limited.spend("copies", _OBJECT_SIZE)
    return Inert.of(name, args)


def _refuse(unpickler: PlainUnpickler, name: str, args: tuple[Any, ...]) -> Any:
    raise InputError(f"the pickle asks for {name}, which could run code; refused")


def _is_recorded(full: str) -> bool:
    """Whether a call is recorded: of other projects all, of torch and numpy those of classes, and _RECORDED."""
    top, last = full.partition(".")[0], full.rpartition(".")[2]
    if top in ("torch", "numpy") and last[:1].isupper():
        return True
    return top not in ("torch", "numpy", *sys.stdlib_module_names) or _RECORDED.fullmatch(full) is not None


PlainUnpickler.known = {
    "numpy.dtype": PlainUnpickler._dtype,
    "numpy.ndarray": record,
    "numpy.core.multiarray._reconstruct": PlainUnpickler._empty_array,
    "numpy.core.numeric._frombuffer": PlainUnpickler._array_from_buffer,
    "numpy.core.multiarray.scalar": PlainUnpickler._scalar,
    "collections.OrderedDict": PlainUnpickler._mapping,
    "collections.Counter": PlainUnpickler._mapping,
    "collections.defaultdict": PlainUnpickler._mapping,
    "collections.deque": PlainUnpickler._sequence,
    "builtins.dict": PlainUnpickler._mapping,
    "builtins.list": PlainUnpickler._sequence,
    "builtins.tuple": PlainUnpickler._sequence,
    "builtins.set": PlainUnpickler._sequence,
    "builtins.frozenset": PlainUnpickler._sequence,
    "builtins.complex": PlainUnpickler._complex,
    "builtins.bytes": PlainUnpickler._bytes,
    "builtins.bytearray": PlainUnpickler._bytes,
    "builtins.getattr": PlainUnpickler._get_attribute,
    "builtins.setattr": PlainUnpickler._set_attribute,
    "_codecs.encode": PlainUnpickler._encode,
    "copyreg._reconstructor": PlainUnpickler._subclass_instance,
    "dill._dill._create_array": PlainUnpickler._array_of,
    "dill._dill._create_namedtuple": PlainUnpickler._named_tuple,
    "dill._dill._get_attr": PlainUnpickler._get_from_module,
    "dill._dill._import_module": PlainUnpickler._module,
    "jax._src.array._reconstruct_array": PlainUnpickler._array_of,
    "jax._src.device_array.reconstruct_device_array": PlainUnpickler._array_of,
}
