"""What a run needs to go on after a crash: its folder's lock and its saves, whole or absent, the newest few of them."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from pretrain.common.errors import RunError
from pretrain.common.files import replacing
from pretrain.runtime.distributed import broadcast_object, rank


class Stateful(Protocol):
    """A method, an optimiser, a loss scaler, …"""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take them in again."""
        ...


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a failed write of ``path`` into a RunError; torch and safetensors have their own errors for a full disk."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else "write failed, disk full?"
        raise RunError(
            f"could not save {path} ({reason}); earlier saves are intact: free some space and run the same command"
        ) from error


def saves(folder: Path) -> list[Path]:
    """The run's saves, ``state-<steps done>.pt``, newest first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)


def save_state(folder: Path, step: int, parts: Mapping[str, Stateful], keep: int) -> None:
    """Save ``parts`` after ``step`` steps and keep the newest ``keep`` saves.

    RunError if it cannot be written; the earlier saves stay.
    """
    path = folder / f"state-{step:09d}.pt"
    with saving(path), replacing(path) as temporary:
        torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, temporary)
    for old in saves(folder)[keep:]:
        old.unlink()


def load_state(folder: Path, parts: Mapping[str, Stateful]) -> int:
    """Restore ``parts`` on every rank from rank 0's newest usable save; the number of steps done, 0 without one.

    A damaged save is named on stderr and the one before it is taken.
    """
    path, state = broadcast_object(_newest_usable(folder, parts) if rank() == 0 else (None, None))
    if state is None:
        return 0
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (RuntimeError, ValueError) as error:
        raise RunError(f"{path} does not fit this version of the code: --resume never starts anew") from error
    return int(state["step"])


def _newest_usable(folder: Path, parts: Mapping[str, Stateful]) -> tuple[Path | None, dict[str, Any] | None]:
    for path in saves(folder):
        if (state := read_save(path, {"step", *parts})) is not None:
            return path, state
    return None, None


def read_save(path: Path, names: Set[str]) -> dict[str, Any] | None:
    """The content of a file of torch.save, on the CPU; None where it is damaged or lacks one of ``names``, named on
    stderr."""
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None  # torch.load does not look at the checksums that torch.save wrote
        state = torch.load(path, map_location="cpu", weights_only=True)
        if whole and names <= set(state):
            return dict(state)
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile):
        pass
    print(f"warning: {path} is damaged: taking the save before it, or starting anew", file=sys.stderr)
    return None


def discard(folder: Path) -> None:
    """Remove what an earlier run left, the finished checkpoint's meta.json first: from then on it is unfinished."""
    for name in ("meta.json", "backbone.safetensors", "metrics.jsonl", "settings.json"):
        (folder / name).unlink(missing_ok=True)
    for path in saves(folder):
        path.unlink()
