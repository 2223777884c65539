"""Checkpoint files into plain tensors without running any code from them.

Safetensors files are read as such; torch files with ``weights_only=True`` (memory-mapped where they are zip archives).
Everything else is refused in one line; for detectron2's ``.pkl`` see transfer.pkl.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pretrain.errors import InputError
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
    """Read a safetensors or torch checkpoint. InputError in one line for anything else, and for whatever needs code."""
    path = find_checkpoint(path)
    head = _head(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        content: Any = _load_safetensors(path)
    elif head.startswith((b"\x80\x03", b"\x80\x04", b"\x80\x05")):  # torch.save always wrote protocol 2
        raise InputError(f"{path}: a plain pickle, not written by torch.save; it could run code, so it is not opened")
    elif head.startswith((b"PK\x03\x04", b"\x80")):
        content = _load_torch(path, mmap=head.startswith(b"PK"))
    else:
        raise InputError(f"{path}: {_what_it_is(head)}; expected a .safetensors or a torch checkpoint")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    return Loaded(path=path, content=content, meta=_read_meta(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise InputError(f"{path}: the file is empty")
    return head


def _what_it_is(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML or XML page (a download that failed?)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run: git lfs pull)"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text file"
    return "not a checkpoint format known here, or damaged"


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: truncated or damaged safetensors file ({one_line(error)})") from None


def _load_torch(path: Path, *, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file makes torch guess aloud before it gives up
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises many types for hostile and damaged files; each is the user's file's fault
        found = re.search(r"GLOBAL (\S+)", str(error)) or re.search(r"Trying to (?:load|call) \S+ (\S+)", str(error))
        if found:
            raise InputError(
                f"{path}: holds Python objects ({found[1]}), which could run code; save model.state_dict() instead"
            ) from None
        raise InputError(f"{path}: truncated, damaged or not a torch checkpoint ({one_line(error)})") from None


def _read_meta(path: Path) -> dict[str, Any] | None:
    meta = path.with_name("meta.json")
    if not meta.is_file():
        return None
    try:
        value = json.loads(meta.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
