"""What a run keeps while it is under way: its lock, its training state, metrics.jsonl and the curves drawn from it."""

from __future__ import annotations

import fcntl
import json
import pickle
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer

from pretrain.errors import RunError
from pretrain.files import replacing


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock; a second process says so and waits. It ends with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        # lockf, not flock: loader processes forked from this one must not keep the lock of a killed parent.
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"another process works in {folder}: waiting for it", file=sys.stderr)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        for half_written in folder.glob(".*.tmp"):  # left by a process killed during a save
            half_written.unlink()
        yield


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


def save_state(path: Path, step: int, method: nn.Module, optimizer: Optimizer) -> None:
    """Replace ``path`` by the state after ``step`` steps. RunError if it cannot be written; the previous one stays."""
    with saving(path), replacing(path) as temporary:
        torch.save({"step": step, "method": method.state_dict(), "optimizer": optimizer.state_dict()}, temporary)


def load_state(path: Path, method: nn.Module, optimizer: Optimizer, device: torch.device) -> int:
    """Restore ``method`` and ``optimizer``; the number of steps done, 0 without a usable file (said on stderr)."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        step, weights, moments = int(state["step"]), state["method"], state["optimizer"]
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        print(f"warning: {path} is damaged: starting anew", file=sys.stderr)
        return 0
    try:
        method.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"{path} does not fit this version of the code: remove it to start anew") from error
    return step


class Metrics:
    """metrics.jsonl: one JSON object a logged step, whole lines only; begins with what was logged before ``start``."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        kept = [row for row in read_metrics(path) if row["step"] < start]
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl, up to the first line that is not whole; none if the file is absent."""
    rows: list[dict[str, float]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def draw_curves(metrics: Path, png: Path, title: str) -> None:
    """Draw every term of metrics.jsonl over the steps, one small panel each."""
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    names = [name for name in rows[0] if name not in ("step", "images_per_second", "data_wait")]
    figure = Figure(figsize=(3.2 * min(4, len(names)), 2.4 * -(-len(names) // 4)), layout="constrained")
    axes = figure.subplots(-(-len(names) // 4), min(4, len(names)), squeeze=False).ravel().tolist()
    for name, axis in zip(names, axes, strict=False):
        axis.plot([row["step"] for row in rows], [row[name] for row in rows], linewidth=0.8)
        axis.set(title=name.replace("_", " "), xlabel="step")
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=9)
    with replacing(png) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


class Progress:
    """The line on stderr that is due every ``seconds``: terms, images/s, share of time waiting for data, ETA."""

    def __init__(self, steps: int, images_per_step: int, seconds: float = 5.0) -> None:
        self.steps, self.images_per_step, self.seconds = steps, images_per_step, seconds
        self.since, self.done, self.waited = time.perf_counter(), 0, 0.0

    def tick(self, waited: float) -> None:
        """Count one step, of which ``waited`` seconds were spent waiting for data."""
        self.done, self.waited = self.done + 1, self.waited + waited

    def rates(self) -> dict[str, float]:
        """Images/s and data-wait share since the last line shown."""
        spent = max(1e-9, time.perf_counter() - self.since)
        return {
            "images_per_second": round(self.done * self.images_per_step / spent, 2),
            "data_wait": round(self.waited / spent, 4),
        }

    def due(self) -> bool:
        """Whether ``seconds`` have passed since the last line."""
        return time.perf_counter() - self.since >= self.seconds

    def show(self, step: int, terms: Mapping[str, float]) -> None:
        """Print the line and start a new count. ``step`` counts from 0."""
        now = time.perf_counter()
        rates, left = self.rates(), (self.steps - step - 1) * (now - self.since) / max(1, self.done)
        values = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
        print(
            f"step {step + 1}/{self.steps} {values} | {rates['images_per_second']:.0f} images/s, "
            f"data wait {rates['data_wait']:.0%}, ETA {int(left // 60)}:{int(left % 60):02d}",
            file=sys.stderr,
            flush=True,
        )
        self.since, self.done, self.waited = now, 0, 0.0
