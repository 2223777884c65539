"""Rebuild the tensors of torch's pickles without torch's own code, from storages that the file's reader gives.

safe_pickle.py handles all other objects in them, torch_files.py reads the files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.pickle_calls import record
from transfer.checkpoints.reading.pickle_values import Call, LimitedStream, Named, PlainArray, is_shape
from transfer.checkpoints.reading.safe_pickle import PlainUnpickler

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.qint8,
    "QInt32Storage": torch.qint32,
    "QUInt8Storage": torch.quint8,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,
}
_CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)


@dataclasses.dataclass(frozen=True)
class Storage:
    """The numbers of tensors, as bytes, and their type."""

    data: torch.UntypedStorage
    dtype: torch.dtype


def require_key(key: Any) -> None:
    """InputError for a storage key that is not of torch's types: others could take for ever to compare."""
    if type(key) not in (str, int):
        raise InputError("a storage key is neither text nor a number; refused")


def bytes_of(count: Any, dtype: torch.dtype, most: int) -> int:
    """Size in bytes of ``count`` elements. InputError if it exceeds ``most``."""
    if type(count) is not int or not 0 <= count <= most // dtype.itemsize:
        raise InputError("truncated, damaged: a storage is larger than its part of the file")
    return count * dtype.itemsize


class TorchUnpickler(PlainUnpickler):
    """Also rebuilds tensors; ``storage(dtype, key, location, count, …)`` gives the storages that persistent ids name.

    Gradients, hooks and attributes are left out, subclasses become plain tensors.
    """

    owned = (Tensor,)

    def __init__(self, limited: LimitedStream, storage: Callable[..., Storage] | None = None) -> None:
        super().__init__(limited)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """torch's dtypes and similar constants as they are, a ``Named`` for anything else."""
        value = vars(torch).get(name) if module == "torch" else None
        return value if isinstance(value, _CONSTANTS) else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """A storage; the class of a pickled module, which the older format keeps with its source."""
        if self._storage is None or not isinstance(pid, tuple) or len(pid) < 4:
            raise InputError("a persistent id, as torch does not write it")
        kind, named, *about = pid
        if kind == "module":
            return named
        if kind != "storage" or not isinstance(named, Named):
            raise InputError("a persistent id, as torch does not write it")
        require_key(about[0])
        return self._storage(_STORAGES[named.name.rpartition(".")[2]], *about)

    def _tensor(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """(storage, offset, size, stride, gradient, hooks, type in version 3, bits of conjugation or negation)."""
        storage, offset, size, stride, *rest = args
        dtype = rest[2] if name.endswith("_v3") else storage.dtype
        bits = rest[-1] if len(rest) > (3 if name.endswith("_v3") else 2) else None
        _require_inside(storage, dtype, offset, size, stride)
        tensor = torch.empty(0, dtype=dtype).set_(storage.data, offset, tuple(size), tuple(stride))
        if isinstance(bits, dict) and bits:
            bytes_of(tensor.numel(), dtype, storage.data.nbytes())  # it is copied, and strides of 0 can make it huge
            self.limited.spend("copies", tensor.numel() * dtype.itemsize)
            tensor = tensor.conj().resolve_conj() if bits.get("conj") else tensor
            tensor = -tensor if bits.get("neg") else tensor
        return tensor

    def _parameter(self, name: str, args: tuple[Any, ...]) -> Any:
        return args[0]

    def _of_type(self, name: str, args: tuple[Any, ...]) -> Any:
        """(function, class, its arguments, state)."""
        return self.call(args[0], args[2])

    def _from_device(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """(array or tensor, type, device, gradient): a tensor of a device other than CPU and CUDA."""
        data, dtype, *_ = args
        data = to_tensor(data) if isinstance(data, PlainArray) else data
        if data.numel() * data.element_size() > data.untyped_storage().nbytes():
            raise InputError("a tensor is larger than its storage; refused")
        self.limited.spend("copies", data.numel() * dtype.itemsize)
        return data.to(dtype)

    def _meta(self, name: str, args: tuple[Any, ...]) -> Tensor:
        dtype, size, stride, *_ = args
        _require_shape(size, stride)
        return torch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="meta")

    def _sparse(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """A tensor of that size and type without the numbers: sparse tensors are not used here."""
        layout, parts = args
        values, size = parts[1:3] if layout == torch.sparse_coo else parts[2:4]
        _require_shape(size)
        none = torch.zeros(len(size), 0, dtype=torch.int64), torch.zeros(0, dtype=values.dtype)
        return torch.sparse_coo_tensor(*none, tuple(size), check_invariants=True)

    def _quantised(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """A tensor of that size and type without the numbers: quantised tensors are not used here."""
        storage, offset, size, stride, *_ = args
        _require_inside(storage, storage.dtype, offset, size, stride)
        bytes_of(math.prod(size), storage.dtype, storage.data.nbytes())
        return torch._empty_affine_quantized(tuple(size), scale=1.0, zero_point=0, dtype=storage.dtype)

    def _size(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.limited.spend("copies", 8 * len(args[0]))
        return tuple(args[0])

    def _layout(self, _: str, args: tuple[Any, ...]) -> Any:
        (name,) = args
        return self.find_class("torch", name.removeprefix("torch."))

    def _storage_in_bytes(self, name: str, args: tuple[Any, ...]) -> Any:
        """The content of a file of torch's older format, inside a pickle written by Python's own module."""
        from transfer.checkpoints.reading.torch_files import read_legacy

        data = args[0]
        inner = self.limited.inside(data)
        return read_legacy(inner, torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage())


def _require_shape(*shapes: Any) -> None:
    """InputError for sizes or strides that no array can have: copies of very long ones fill the memory."""
    if not all(map(is_shape, shapes)):
        raise InputError("damaged: a tensor has an impossible size")


def _require_inside(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> None:
    """InputError for a tensor that reaches beyond its storage, which torch would enlarge."""
    good = is_shape([offset]) and is_shape(size) and is_shape(stride) and len(size) == len(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if good else 0
    if not good or (0 not in size and (last + 1) * dtype.itemsize > storage.data.nbytes()):
        raise InputError("truncated, damaged: a tensor is larger than its storage")


def to_tensor(array: PlainArray) -> Any:
    """A copy of a numeric array as a tensor, whatever its byte order; the array itself if torch lacks its dtype."""
    if not array.of_numbers:
        return array
    native = np.array(array.view(np.ndarray), dtype=array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native)
    except TypeError:
        return array


_REBUILT: dict[str, Call] = {
    "torch._utils._rebuild_tensor": TorchUnpickler._tensor,
    "torch._utils._rebuild_tensor_v2": TorchUnpickler._tensor,
    "torch._utils._rebuild_tensor_v3": TorchUnpickler._tensor,
    "torch._utils._rebuild_parameter": TorchUnpickler._parameter,
    "torch._utils._rebuild_parameter_with_state": TorchUnpickler._parameter,
    "torch.nn.parameter.Parameter": TorchUnpickler._parameter,
    "torch.nn.parameter.Buffer": TorchUnpickler._parameter,
    "torch.autograd.variable.Variable": TorchUnpickler._parameter,
    "torch._tensor._rebuild_from_type": TorchUnpickler._of_type,
    "torch._tensor._rebuild_from_type_v2": TorchUnpickler._of_type,
    "torch.tensor._rebuild_from_type": TorchUnpickler._of_type,
    "torch.tensor._rebuild_from_type_v2": TorchUnpickler._of_type,
    "torch._utils._rebuild_device_tensor_from_numpy": TorchUnpickler._from_device,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": TorchUnpickler._from_device,
    "torch._utils._rebuild_xla_tensor": TorchUnpickler._from_device,
    "torch._utils._rebuild_meta_tensor_no_storage": TorchUnpickler._meta,
    "torch._utils._rebuild_sparse_tensor": TorchUnpickler._sparse,
    "torch._utils._rebuild_qtensor": TorchUnpickler._quantised,
    "torch._utils._rebuild_nested_tensor": record,
    "torch._utils._rebuild_wrapper_subclass": record,
    "torch.Size": TorchUnpickler._size,
    "torch.device": record,
    "torch.serialization._get_layout": TorchUnpickler._layout,
    "torch.storage._load_from_bytes": TorchUnpickler._storage_in_bytes,
}
TorchUnpickler.known = PlainUnpickler.known | _REBUILT
