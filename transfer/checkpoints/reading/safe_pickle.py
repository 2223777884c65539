"""Read pickles without running code from them: no class or function that a file names is looked up or called.

Each class or function that a file names becomes a ``Named``. A call of one gives plain data if pickle_calls.py knows it
(Python's containers, numpy's arrays and scalars), else ``Inert``, an inert mapping with the arguments. Calls into the
standard library, torch and numpy that are not listed are refused. Time and memory are bounded by the file's size.
Imports no torch.
"""

from __future__ import annotations

import _compat_pickle
import pickle
from collections import OrderedDict
from collections.abc import Iterable
from types import NoneType
from typing import Any, ClassVar

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.pickle_calls import CALLS, is_recorded, record, refuse
from transfer.checkpoints.reading.pickle_values import (
    ENTRY_SIZE,
    MAX_MEMO,
    OBJECT_SIZE,
    Call,
    Inert,
    LimitedStream,
    Named,
    PlainArray,
    PlainDtype,
    too,
)

MAX_ARGUMENTS = 16  # of a call that is evaluated, not only recorded
_PLAIN_KEYS = (str, bytes, bool, float, NoneType)
_CONTAINERS = (dict, OrderedDict, list, set)


class PlainUnpickler(pickle._Unpickler):
    """Python's unpickler, with operations that change only objects the file itself has made; no persistent ids.

    It extends the pure-Python unpickler, whose operations can be replaced and whose memo is a dict without gaps.
    """

    memo: dict[int, Any]
    owned: tuple[type, ...] = ()  # more types (beside this module's) whose objects only a file makes
    known: ClassVar[dict[str, Call]] = CALLS

    def __init__(self, limited: LimitedStream) -> None:
        super().__init__(limited.stream, encoding="latin1")
        self.limited = limited

    def load(self) -> Any:
        """The object of the next pickle in the stream. InputError or any other error for a damaged one."""
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
        raise too("operations")

    def pop_mark(self) -> list[Any]:
        """The objects put on the stack since the last mark."""
        items, self.stack = self.stack, self.metastack.pop()
        self.append = self.stack.append
        return items

    def find_class(self, module: str, name: str) -> Any:
        """The ``Named`` of any class or function; nothing is imported."""
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[(module, name)]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.").replace("dill.dill.", "dill._dill.")
        return self.named(full, self.known.get(full) or (record if is_recorded(full) else refuse))

    def named(self, name: str, call: Call) -> Named:
        """A ``Named`` that the file asks for, counted against its memory limit."""
        self.limited.spend("copies", len(name))
        return Named(name, call)

    def call(self, target: Any, args: Any) -> Any:
        """The plain data or record that replaces ``target(*args)``."""
        if isinstance(target, Named) and isinstance(args, tuple):
            if target.call is not record and len(args) > MAX_ARGUMENTS:
                refuse(self, target.name, args)
            return target.call(self, target.name, args)
        if isinstance(target, Inert) and isinstance(args, tuple):  # a class that another call has made
            return record(self, vars(target)["pickled_class"], args)
        raise InputError("the pickle calls an object that is no class or function; refused")

    def require_keys(self, keys: Iterable[Any]) -> None:
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

    # The operations. Those that only push numbers, text and empty containers, or move objects, are Python's own.

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
        self.limited.spend("copies", OBJECT_SIZE)
        self.append(set())

    def _frozenset(self) -> None:
        items = self.pop_mark()
        self.require_keys(items)
        self.append(frozenset(items))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.require_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _add(self) -> None:
        items = self.pop_mark()
        self.require_keys(items)
        self._top(set).update(items)

    def _append(self) -> None:
        item = self.stack.pop()
        self._top(list, Inert).extend([item])

    def _extend(self) -> None:
        items = self.pop_mark()
        self._top(list, Inert).extend(items)

    def _set(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.require_keys([key])
        self._top(dict, OrderedDict, Inert)[key] = value

    def _set_all(self) -> None:
        items = self.pop_mark()
        self.require_keys(items[::2])
        self._top(dict, OrderedDict, Inert).update(zip(items[::2], items[1::2], strict=True))

    def _top(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise InputError("the pickle fills an object that is no container of its own; refused")
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
                self.limited.spend("copies", ENTRY_SIZE * len(part) if isinstance(part, dict) else 0)
            target.fill(state)
        elif isinstance(target, PlainArray):
            target.__setstate__(state)
            self.limited.spend("copies", target.nbytes)
        elif isinstance(target, PlainDtype):
            target.__setstate__(state)
        elif type(target) not in _CONTAINERS and not isinstance(target, self.owned):  # their attributes are not kept
            what = target.name if isinstance(target, Named) else f"an object of {type(target).__name__}"
            raise InputError(f"the pickle changes {what}, which is not its own; refused")

    def _unknown(self) -> None:
        raise pickle.UnpicklingError("an operation or extension that no checkpoint uses")

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
