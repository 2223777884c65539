"""Checkpoint files into plain tensors without running any code from them.

Safetensors files are read as such; torch files with ``weights_only=True`` and an allow-list of harmless types, mapped
into memory where they are zip archives; plain pickles with a restricted unpickler (transfer.pickles). Everything else
is refused in one line that says what it is (transfer.kinds). ``python -m transfer inspect FILE`` shows what is inside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pretrain.errors import InputError
from transfer import kinds
from transfer.pickles import KNOWN, PlainUnpickler, harmless, require_tame
from transfer.pkl import one_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checkpoint file as it lies on disk: the top-level mapping, and the meta.json beside it if there is one."""

    path: Path
    content: dict[str, Any]
    meta: dict[str, Any] | None


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint file meant by ``path``: itself, or ``backbone.safetensors`` of a finished run's folder."""
    path = Path(path)
    if path.is_dir():
        found = path / "backbone.safetensors"
        if not found.is_file():
            raise InputError(f"{path}: a folder without backbone.safetensors; give a checkpoint file or a finished run")
        if not (path / "meta.json").is_file():
            raise InputError(f"{path}: no meta.json, so this pretraining run has not finished; run its command again")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def load_checkpoint(path: Path | str) -> Loaded:
    """Read a safetensors, torch or pickle file. InputError in one line for anything else, and for what needs code."""
    path = find_checkpoint(path)
    readers = {
        kinds.SAFETENSORS: _load_safetensors,
        kinds.TORCH_ZIP: _load_zip,
        kinds.TORCH_LEGACY: _load_legacy,
        kinds.PICKLE: _load_pickle,
    }
    content = readers[kinds.kind(path)](path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    of_class = vars(content).get("pickled_class") if isinstance(content, OrderedDict) else None
    if of_class:
        raise InputError(f"{path}: holds an object of {of_class}, not a state dict; save model.state_dict() instead")
    return Loaded(path=path, content=content, meta=_read_meta(path))


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: truncated or damaged safetensors file ({one_line(error)})") from None


def _load_zip(path: Path) -> Any:
    kinds.require_whole(path)
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream, _refusing(path):
        record = next(info for info in archive.infolist() if info.filename.partition("/")[2] == "data.pkl")
        stream.seek(record.header_offset + 26)  # not archive.open: an archive without checksums is fine
        stream.seek(sum(struct.unpack("<HH", stream.read(4))), io.SEEK_CUR)
        require_tame(stream)
    return _load_torch(path, path, mmap=True)


def _load_legacy(path: Path) -> Any:
    with path.open("rb") as stream, _refusing(path):
        for _ in range(4):  # magic number, protocol version, system, then the object
            require_tame(stream)
    return _load_torch(path, path, mmap=False)


def _load_pickle(path: Path) -> Any:
    """A pickle as Python's own module writes it, with arrays or tensors."""
    with path.open("rb") as stream, _refusing(path):
        require_tame(stream)
        stream.seek(0)
        return _TensorUnpickler(stream, encoding="latin1").load()


class _TensorUnpickler(PlainUnpickler):
    """Also knows tensors that were pickled without torch.save: each storage is a torch file inside the pickle."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "torch.storage._load_from_bytes": self._storage,
            "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
            "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
        }
        return known.get(f"{module}.{name}") or super().find_class(module, name)

    @staticmethod
    def _storage(data: bytes) -> Any:
        for_scan = io.BytesIO(data)
        for _ in range(4):
            require_tame(for_scan)
        return _load_torch(Path("storage"), io.BytesIO(data), mmap=False)


def _load_torch(path: Path, source: Path | IO[bytes], *, mmap: bool) -> Any:
    """torch.load with weights only; what the file asks for beyond that is replaced by what ``harmless`` has for it.

    torch names one unknown global at a time, before it reads a tensor: the pickle is read again with that one known.
    """
    known: dict[str, Any] = dict(KNOWN)
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals([(v, k) for k, v in known.items()]):
                warnings.simplefilter("ignore")  # a damaged file makes torch guess aloud before it gives up
                return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:  # torch raises many types for hostile and damaged files; each is the file's fault
            name = _asked_for(error)
            if name is None or name in known:
                raise _fault(path, error) from None
            with _refusing(path):
                module, _, last = name.rpartition(".")
                known[name] = harmless(module or "builtins", last)
            if not isinstance(source, Path):
                source.seek(0)


def _asked_for(error: Exception) -> str | None:
    found = re.search(r"Unsupported global: GLOBAL (\S+) was not an allowed global", str(error))
    return found[1] if found else None


def _fault(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return InputError(f"{path}: {error}")
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return InputError(f"{path}: the pickle asks for {found[1]}, which could run code; refused")
    if re.search(r"Unsupported operand 1(4\d|50)\b", str(error)):  # MEMOIZE, FRAME and their kind
        return InputError(
            f"{path}: a torch file of pickle protocol 4 or 5, which torch reads only by running it; "
            "where you trust it, load it and torch.save it again without pickle_protocol"
        )
    detail = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
    why = detail[1] if detail else one_line(error)
    return InputError(f"{path}: truncated, damaged or not a torch checkpoint ({why})")


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is one line about that file."""
    try:
        yield
    except Exception as error:
        raise _fault(path, error) from None


def _read_meta(path: Path) -> dict[str, Any] | None:
    meta = path.with_name("meta.json")
    if not meta.is_file():
        return None
    try:
        value = json.loads(meta.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
