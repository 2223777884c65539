"""Find the checkpoint from which an interrupted detection run resumes. detectron2 writes checkpoints in place, so that
a kill truncates the last one; the run then resumes from the one before it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch


def latest_readable(output: Path) -> Path | None:
    """The newest checkpoint in ``output`` that loads, with ``last_checkpoint`` set to it; None if there is none."""
    for path in sorted(output.glob("model_*.pth"), key=lambda path: path.stat().st_mtime, reverse=True):
        if _readable(path):
            (output / "last_checkpoint").write_text(path.name, encoding="utf-8")
            return path
    return None


def clear(output: Path) -> None:
    """Remove an earlier attempt's files that a new attempt would append to or mistake for its own."""
    clear_checkpoints(output)
    (output / "metrics.json").unlink(missing_ok=True)


def clear_checkpoints(output: Path) -> None:
    """Remove the checkpoints in ``output``."""
    for path in (*output.glob("model_*.pth"), output / "last_checkpoint"):
        path.unlink(missing_ok=True)


def _readable(path: Path) -> bool:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError):
        return False
    return isinstance(content, dict) and {"model", "iteration", "trainer"} <= set(content)
