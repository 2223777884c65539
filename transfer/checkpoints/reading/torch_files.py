"""Read the files of torch.save (a zip archive, or the older format in one stream) and pickles that hold tensors.

torch's own reader is not used: it calls listed functions as the file asks, reports unknown names one at a time, and
bounds neither time nor memory. Tensors of an archive are mapped into memory. See safe_pickle.py.
"""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.file_format import zip_parts
from transfer.checkpoints.reading.pickle_values import LimitedStream
from transfer.checkpoints.reading.torch_unpickler import Storage, TorchUnpickler, bytes_of, require_key

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the older format (torch:serialization.py)


def read_zip(path: Path) -> Any:
    """The object in torch's zip archive. InputError for a damaged one; other errors for one not from torch.save."""
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
            taken = bytes_of(count, dtype, size)
            storages[key] = Storage(whole[start : start + taken], dtype)
            if swapped:
                storages[key].data.byteswap(dtype)
        return storages[key]

    start, size = places[f"{root}data.pkl"]
    return TorchUnpickler(LimitedStream(io.BytesIO(mapped[start : start + size]), len(mapped)), storage).load()


def _place(info: zipfile.ZipInfo, mapped: mmap.mmap) -> tuple[int, int]:
    """Start and length of a part's bytes, by its own header: the name there can be longer than in the directory."""
    if info.compress_type != zipfile.ZIP_STORED:  # mapped into memory, compressed bytes would be read as numbers
        raise InputError("a compressed zip archive, not as torch.save writes it; save it anew")
    lengths = mapped[info.header_offset + 26 : info.header_offset + 30]
    start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    if info.header_offset < 0 or len(lengths) < 4 or start + info.file_size > len(mapped):
        raise InputError("truncated: the archive lacks one of its parts")
    return start, info.file_size


def _require_whole(infos: list[zipfile.ZipInfo], places: dict[str, tuple[int, int]], stream: io.BufferedReader) -> None:
    """InputError if a part's checksum is wrong; torch can leave out all checksums, and then they are 0."""
    if not any(info.CRC for info in infos):
        return
    wrong = [info.filename for info in infos if _checksum(stream, *places[info.filename]) != info.CRC]
    if wrong:
        raise InputError(f"damaged: {len(wrong)} parts have a wrong checksum, the first is {wrong[0]}")


def _checksum(stream: io.BufferedReader, start: int, size: int) -> int:
    """CRC-32 of ``size`` bytes, read in pieces: pages of a mapping that were read count as memory."""
    stream.seek(start)
    found = 0
    while size and (data := stream.read(min(size, 1 << 20))):
        found, size = zlib.crc32(data, found), size - len(data)
    return found


def read_legacy(limited: LimitedStream, whole: torch.UntypedStorage) -> Any:
    """The object in torch's older format: four pickles, keys, and the storages' bytes. ``whole`` is the same file."""
    storages: dict[Any, Storage] = {}
    views: dict[Any, Storage] = {}

    def storage(dtype: torch.dtype, key: Any, location: Any, count: int, view: Any = None) -> Storage:
        if key not in storages:
            size = bytes_of(count, dtype, whole.nbytes())
            limited.spend("copies", size)
            storages[key] = Storage(torch.UntypedStorage(size), dtype)
        if view is None:
            return storages[key]
        view_key, start, count = view
        require_key(view_key)
        if view_key not in views:
            first = bytes_of(start, dtype, storages[key].data.nbytes())
            last = bytes_of(start + count, dtype, storages[key].data.nbytes())
            views[view_key] = Storage(storages[key].data[first:last], dtype)
        return views[view_key]

    if TorchUnpickler(limited).load() != MAGIC or TorchUnpickler(limited).load() != VERSION:
        raise InputError("an unknown version of torch's older format")
    TorchUnpickler(limited).load()  # describes the machine
    content = TorchUnpickler(limited, storage).load()
    keys = TorchUnpickler(limited).load()
    for key in keys:
        require_key(key)
        found = storages.pop(key).data
        limited.stream.seek(8, io.SEEK_CUR)  # the number of elements again
        start = limited.stream.tell()
        if start + found.nbytes() > whole.nbytes():
            raise EOFError("it ends before its last tensor")
        found.copy_(whole[start : start + found.nbytes()])
        limited.stream.seek(found.nbytes(), io.SEEK_CUR)
    if storages:
        raise InputError(f"{len(storages)} tensors have no numbers; the file is damaged")
    return content


def read_stream(path: Path, *, legacy: bool) -> Any:
    """The object in a file of torch's older format, or in a pickle written by Python's own module."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    limited = LimitedStream(mapped, len(mapped))
    if legacy:
        return read_legacy(limited, torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage())
    return TorchUnpickler(limited).load()
