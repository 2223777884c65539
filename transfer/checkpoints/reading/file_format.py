"""Detect the format of a file from its first bytes and its name, and explain formats that are not supported.

Imports nothing that reads the formats. ``python -m transfer inspect FILE`` shows the answer.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

from pretrain.common.errors import InputError

SAFETENSORS, TORCH_ZIP, TORCH_LEGACY, PICKLE = "safetensors", "torch zip", "torch legacy", "pickle"
_HEAD = 1024
_LARGEST_LIST = 8 << 20  # bytes of a zip's directory, enough for about 100,000 parts
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # 0x1950A86A20F9469CFC6C (torch:serialization.py)
_ONNX = re.compile(rb"\x08[\x01-\x20](?:\x12.{0,40}(?:pytorch|onnx|tf2onnx|keras|skl)|:)", re.DOTALL)
# The first bytes of pickles of protocols 2 to 5, 0, and 1.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\((?:dp|lp|d|l)\d|c[\w.]+\n[\w.]+\n[()pq]|[}\]]q")
_STARTS = {
    b"\x89HDF": "an HDF5 file (Keras?); this reads PyTorch, safetensors and pickle files",
    b"\x93NUMPY": "a single NumPy array, not a state dict",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a rar archive; unpack it first",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF",
}
_TENSORFLOW = re.compile(r".*\.(?:data-\d+-of-\d+|meta|index)|saved_model\.pb")
_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".torch", ".bin", ".pkl")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.")
JOIN = 'load_file each (torch.load a .bin), update one dict with them, torch.save(that, "all.pth")'
_DISTRIBUTED = (
    "PyTorch's distributed checkpoint; make one file of its folder: "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth"
)
_LEVELDB = bytes.fromhex("57fb808b247547db")  # at the end of a TensorFlow checkpoint's .index


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint file meant by ``path``: itself, or ``backbone.safetensors`` of a finished run's folder."""
    path = Path(path)
    if path.is_dir():
        found = path / "backbone.safetensors"
        if not found.is_file():
            raise InputError(f"{path}: {folder(path)}")
        if not (path / "meta.json").is_file():
            raise InputError(f"{path}: no meta.json, so this pretraining run has not finished; run its command again")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def kind(path: Path) -> str:
    """The file's format, one of the four supported ones. InputError in one line that names any other kind of file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(max(0, size - len(_LEVELDB)))
        tail = stream.read()
    if not head:
        raise InputError(f"{path}: the file is empty")
    if path.suffix == ".distcp" or (path.name == ".metadata" and any(path.parent.glob("*.distcp"))):
        raise InputError(f"{path}: a part of {_DISTRIBUTED}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < max(size, 1 << 26):
        return SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return _torch_zip(path)
    if _TORCH_MAGIC in head[:32]:
        return TORCH_LEGACY
    if _PICKLE.match(head):
        return PICKLE
    raise InputError(f"{path}: {_in_words(path, head, tail)}")


def _in_words(path: Path, head: bytes, tail: bytes) -> str:
    for start, what in _STARTS.items():
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        old = b"sys_info" in head[:100] or b"storages" in head[:100]
        return f"{'torch.save of before 2017: save it anew' if old else 'a tar archive: unpack it first'}"
    if path.suffix == ".onnx" or _ONNX.match(head):
        return "an ONNX model, whose weights have no names left to map; take the PyTorch checkpoint it was made from"
    if tail == _LEVELDB or (_TENSORFLOW.fullmatch(path.name) and not _is_text(head)):
        return "a part of a TensorFlow checkpoint; convert that to PyTorch first"
    return _text(path, head)


def _text(path: Path, head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML or XML page (a download that failed?)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run: git lfs pull)"
    if text.startswith(b"model_checkpoint_path:"):
        return "the index of a TensorFlow checkpoint; convert that to PyTorch first"
    if text.startswith(b"{") and b"weight_map" in text:
        return f"the index of a model {_shards(path)}"
    if _is_text(head):
        return "a text file; expected a .safetensors or a torch checkpoint"
    return "truncated, damaged or not a checkpoint format known here; expected a .safetensors or a torch checkpoint"


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head)


def folder(path: Path) -> str:
    """Explain why this folder is not a finished run's, and which file in it to give."""
    names = sorted(item.name for item in path.iterdir() if item.is_file())
    tensorflow = [name for name in names if _TENSORFLOW.fullmatch(name)]
    if tensorflow:
        return f"a folder of TensorFlow files ({tensorflow[0]} …); convert them to PyTorch first"
    if any(name.endswith(".distcp") for name in names):
        return f"a folder of {_DISTRIBUTED}"
    shards = [name for name in names if is_shard(path / name)]
    if shards:
        return f"a folder of a model in {len(shards)} files ({shards[0]} …); {JOIN}"
    found = [name for name in names if name.endswith(_CHECKPOINTS)]
    such = f", such as {', '.join(found[:3])} in it," if found else ""
    return f"a folder without backbone.safetensors; give a checkpoint file{such} or a finished run"


def _shards(path: Path) -> str:
    try:
        names = sorted(set(map(str, json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "in several files, and damaged; give the .safetensors file itself"
    if len(names) == 1:
        return f"in another file; give that one, {names[0]}"
    first = names[0] if names else "no file at all"
    return f"in {len(names)} files ({first} …); {JOIN}"


def is_shard(path: Path) -> bool:
    """Whether a file is by its name one of several shards, such as model-00001-of-00002.safetensors."""
    found = _SHARD.search(path.name)
    return bool(found) and int(found[1]) > 1  # type: ignore[index]  # found is not None here


class _Bounded(io.FileIO):
    """A file for zipfile, which reads an archive's directory at once, whatever its length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_LIST:
            raise InputError("its zip directory lists more parts than any checkpoint has")
        return super().read(-1 if size is None else size)


def zip_parts(path: Path) -> list[zipfile.ZipInfo]:
    """The parts of a zip archive. A damaged one raises many types of errors, too long a directory InputError."""
    with _Bounded(path) as stream, zipfile.ZipFile(stream) as archive:
        return archive.infolist()


def _torch_zip(path: Path) -> str:
    try:
        names = [info.filename for info in zip_parts(path)]
    except Exception as error:  # zipfile raises many types for damaged archives
        raise InputError(f"{path}: truncated, damaged or not a torch checkpoint ({error})") from None
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner):
        raise InputError(f"{path}: a TorchScript archive, which is a program; save model.state_dict() instead")
    if "data.pkl" not in inner and any("archive_format" in name for name in inner):
        raise InputError(f"{path}: a program of torch.export; save model.state_dict() instead")
    if "data.pkl" not in inner and "model.weights.h5" in names:
        raise InputError(f"{path}: a Keras model; this reads PyTorch, safetensors and pickle files")
    if "data.pkl" not in inner:
        arrays = names and all(name.endswith(".npy") for name in names)
        unpack = "write its arrays with pickle, as one dict" if arrays else "unpack it first"
        what = "NumPy's .npz" if arrays else f"with {', '.join(names[:2]) or 'nothing inside'}"
        raise InputError(f"{path}: a zip archive not written by torch.save ({what}); {unpack}")
    return TORCH_ZIP
