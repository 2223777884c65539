"""Logs of a run: metrics.jsonl, the same scalars for TensorBoard, curves, and the progress line on stderr.

``tensorboard --logdir results/pretrain`` shows all runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pretrain.common.files import replacing


class Metrics:
    """metrics.jsonl, one JSON object per logged step, whole lines only, and its numbers as TensorBoard scalars.

    Begins with what was logged before ``start``; TensorBoard is told to hide the rest.
    """

    def __init__(self, path: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = path
        kept = [row for row in read_metrics(path) if row["step"] < start]
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self.board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=start, flush_secs=10)

    def write(self, row: Mapping[str, float]) -> None:
        """Append one line; ``row`` holds its "step"."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")
        for name, value in row.items():
            if name != "step":
                self.board.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Write what TensorBoard's own thread has not written yet."""
        self.board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl, up to the first line that is not whole; none if the file is absent."""
    rows: list[dict[str, float]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if not (isinstance(row, dict) and "step" in row):
                break
            rows.append(row)
    return rows


def draw_curves(metrics: Path, png: Path, title: str) -> None:
    """Draw every term of metrics.jsonl over the steps, one small panel each; nothing where there are no rows."""
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if name not in ("step", "images_per_second", "data_wait")]
    if not names:
        return
    figure = Figure(figsize=(3.2 * min(4, len(names)), 2.4 * -(-len(names) // 4)), layout="constrained")
    axes = figure.subplots(-(-len(names) // 4), min(4, len(names)), squeeze=False).ravel().tolist()
    for name, axis in zip(names, axes, strict=False):
        shown = [row for row in rows if name in row]
        dots = "." if len(shown) < 10 else ""
        axis.plot([row["step"] for row in shown], [row[name] for row in shown], linewidth=0.8, marker=dots)
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
