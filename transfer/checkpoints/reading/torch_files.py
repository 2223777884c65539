"""What torch.save writes, a zip archive or the older format in one stream, and pickles that hold tensors.

Torch's own reader is not used: it calls what the file asks for of a list, once for each name it does not know, and
bounds neither time nor memory. Tensors of an archive are mapped into memory. See safe_pickle.py.
"""

from __future__ import annotations

import dataclasses
import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.file_format import zip_parts
from transfer.checkpoints.reading.safe_pickle import (
    Call,
    LimitedStream,
    Named,
    PlainArray,
    PlainUnpickler,
    is_shape,
    record,
)

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the older format (torch:serialization.py)
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


def read_zip(path: Path) -> Any:
    """The object in torch's zip archive. InputError for a damaged one; other errors for what no torch.save writes."""
    infos = zip_parts(path)
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        places = {info.filename: _place(info, mapped) for info in infos}
        if len(places) < len(infos) or sum(size for _, size in places.values()) > len(mapped):
            raise InputError("damaged: two parts of the archive have one name or one place")
        _require_whole(infos, places, stream)
    root = next(name for name in places if name.partition("/")[2] == "data.pkl").removesuffix("data.pkl")
    order = places.get(f"{root}byteorder")
    swapped = order is not None and mapped[order[0] : sum(order)] == b"big"
    whole = torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage()
    storages: dict[str, Storage] = {}

    def storage(dtype: torch.dtype, key: str, location: Any, count: int) -> Storage:
        if key not in storages:
            start, size = places[f"{root}data/{key}"]
            taken = _bytes_of(count, dtype, size)
            storages[key] = Storage(whole[start : start + taken], dtype)
            if swapped:
                storages[key].data.byteswap(dtype)
        return storages[key]

    start, size = places[f"{root}data.pkl"]
    return TorchUnpickler(LimitedStream(io.BytesIO(mapped[start : start + size]), len(mapped)), storage).load()


def _place(info: zipfile.ZipInfo, mapped: mmap.mmap) -> tuple[int, int]:
    """Start and length of a part's bytes, by its own header: names in there can be longer than in the list of parts."""
    if info.compress_type != zipfile.ZIP_STORED:  # mapped into memory it would be taken for numbers
        raise InputError("a compressed zip archive, not as torch.save writes it; save it anew")
    lengths = mapped[info.header_offset + 26 : info.header_offset + 30]
    start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    if info.header_offset < 0 or len(lengths) < 4 or start + info.file_size > len(mapped):
        raise InputError("truncated: a part of the archive is not in it")
    return start, info.file_size


def _require_whole(infos: list[zipfile.ZipInfo], places: dict[str, tuple[int, int]], stream: io.BufferedReader) -> None:
    """InputError if a part does not have its checksum; torch can leave all of them out, and then they are 0."""
    if not any(info.CRC for info in infos):
        return
    wrong = [info.filename for info in infos if _checksum(stream, *places[info.filename]) != info.CRC]
    if wrong:
        raise InputError(f"damaged: {len(wrong)} parts do not have their checksum, the first is {wrong[0]}")


def _checksum(stream: io.BufferedReader, start: int, size: int) -> int:
    """Of so many bytes, read in pieces: a mapping that is looked at counts as memory."""
    stream.seek(start)
    found = 0
    while size and (data := stream.read(min(size, 1 << 20))):
        found, size = zlib.crc32(data, found), size - len(data)
    return found


def read_legacy(limited: LimitedStream, whole: torch.UntypedStorage) -> Any:
    """The object in torch's older format: four pickles, keys, and the storages' bytes. ``whole``: the same file."""
    storages: dict[Any, Storage] = {}
    views: dict[Any, Storage] = {}

    def storage(dtype: torch.dtype, key: Any, location: Any, count: int, view: Any = None) -> Storage:
        if key not in storages:
            size = _bytes_of(count, dtype, whole.nbytes())
            limited.spend("copies", size)
            storages[key] = Storage(torch.UntypedStorage(size), dtype)
        if view is None:
            return storages[key]
        view_key, start, count = view
        _require_key(view_key)
        if view_key not in views:
            first = _bytes_of(start, dtype, storages[key].data.nbytes())
            last = _bytes_of(start + count, dtype, storages[key].data.nbytes())
            views[view_key] = Storage(storages[key].data[first:last], dtype)
        return views[view_key]

    if TorchUnpickler(limited).load() != MAGIC or TorchUnpickler(limited).load() != VERSION:
        raise InputError("not of a version of torch's older format that there is")
    TorchUnpickler(limited).load()  # about the machine
    content = TorchUnpickler(limited, storage).load()
    keys = TorchUnpickler(limited).load()
    for key in keys:
        _require_key(key)
        found = storages.pop(key).data
        limited.stream.seek(8, io.SEEK_CUR)  # the number of elements again
        start = limited.stream.tell()
        if start + found.nbytes() > whole.nbytes():
            raise EOFError("it ends before its end")
        found.copy_(whole[start : start + found.nbytes()])
        limited.stream.seek(found.nbytes(), io.SEEK_CUR)
    if storages:
        raise InputError(f"{len(storages)} tensors have no numbers; the file is damaged")
    return content


def read_stream(path: Path, *, legacy: bool) -> Any:
    """The object in a file of torch's older format, or in a pickle as Python's own module writes it."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    limited = LimitedStream(mapped, len(mapped))
    if legacy:
        return read_legacy(limited, torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage())
    return TorchUnpickler(limited).load()


def _require_key(key: Any) -> None:
    """InputError for a storage's key of another kind than torch's, which could take for ever to compare."""
    if type(key) not in (str, int):
        raise InputError("a storage whose key is no text or number; refused")


def _bytes_of(count: Any, dtype: torch.dtype, most: int) -> int:
    """Of so many elements. InputError if that is more than ``most``."""
    if type(count) is not int or not 0 <= count <= most // dtype.itemsize:
        raise InputError("truncated, damaged: a storage is larger than its part of the file")
    return count * dtype.itemsize


class TorchUnpickler(PlainUnpickler):
    """Also rebuilds tensors; ``storage(dtype, key, location, count, …)`` gives what persistent ids are about.

    Gradients, hooks and attributes are left out, subclasses are tensors.
    """

    owned = (Tensor,)

    def __init__(self, limited: LimitedStream, storage: Callable[..., Storage] | None = None) -> None:
        super().__init__(limited)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Types of numbers and the like as they are, all else a name."""
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
        _require_key(about[0])
        return self._storage(_STORAGES[named.name.rpartition(".")[2]], *about)

    def _tensor(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """(storage, offset, size, stride, gradient, hooks, type in version 3, bits of conjugation or negation)."""
        storage, offset, size, stride, *rest = args
        dtype = rest[2] if name.endswith("_v3") else storage.dtype
        bits = rest[-1] if len(rest) > (3 if name.endswith("_v3") else 2) else None
        _require_inside(storage, dtype, offset, size, stride)
        tensor = torch.empty(0, dtype=dtype).set_(storage.data, offset, tuple(size), tuple(stride))
        if isinstance(bits, dict) and bits:
            _bytes_of(tensor.numel(), dtype, storage.data.nbytes())  # it is copied, and strides of 0 make it endless
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
        """(array or tensor, type, device, gradient): of other devices than CPU and CUDA."""
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
        """A tensor of that size and type without the numbers: none here uses a sparse one."""
        layout, parts = args
        values, size = parts[1:3] if layout == torch.sparse_coo else parts[2:4]
        _require_shape(size)
        none = torch.zeros(len(size), 0, dtype=torch.int64), torch.zeros(0, dtype=values.dtype)
        return torch.sparse_coo_tensor(*none, tuple(size), check_invariants=True)

    def _quantised(self, name: str, args: tuple[Any, ...]) -> Tensor:
        """A tensor of that size and type without the numbers: none here uses a quantised one."""
        storage, offset, size, stride, *_ = args
        _require_inside(storage, storage.dtype, offset, size, stride)
        _bytes_of(math.prod(size), storage.dtype, storage.data.nbytes())
        return torch._empty_affine_quantized(tuple(size), scale=1.0, zero_point=0, dtype=storage.dtype)

    def _size(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.limited.spend("copies", 8 * len(args[0]))
        return tuple(args[0])

    def _layout(self, _: str, args: tuple[Any, ...]) -> Any:
        (name,) = args
        return self.find_class("torch", name.removeprefix("torch."))

    def _storage_in_bytes(self, name: str, args: tuple[Any, ...]) -> Any:
        """A file of the older format in a pickle that Python's own module wrote."""
        data = args[0]
        inner = self.limited.inside(data)
        return read_legacy(inner, torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage())


def _require_shape(*shapes: Any) -> None:
    """InputError for sizes or strides as no array has them: copies of very long ones fill the memory."""
    if not all(map(is_shape, shapes)):
        raise InputError("damaged: a tensor's size is none that there is")


def _require_inside(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> None:
    """InputError for a tensor that reaches beyond its storage, for which torch would make it larger."""
    good = is_shape([offset]) and is_shape(size) and is_shape(stride) and len(size) == len(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if good else 0
    if not good or (0 not in size and (last + 1) * dtype.itemsize > storage.data.nbytes()):
        raise InputError("truncated, damaged: a tensor is larger than its storage")


def to_tensor(array: PlainArray) -> Any:
    """A tensor of its own for an array of numbers, whatever its byte order; as it is where torch has no such type."""
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
