"""The checkpoints to evaluate: from NAME=PATH on the command line to imported backbones. Imports no torch."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.report.text import checked_label
from benchmarks.series import series_of
from pretrain.common.errors import InputError, RunError, printable
from pretrain.common.files import digest, require_writable, results_dir
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.store import StoredBackbone, find, import_checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedCheckpoint:
    """A checkpoint to evaluate: its row's ``label``, and the backbone that was imported from its file."""

    label: str
    stored: StoredBackbone

    @property
    def sha256(self) -> str:
        """Of its tensors without counters."""
        return self.stored.sha256

    @property
    def input(self) -> PixelInput:
        """The network's pixel input without ``assumed``, so that it can be part of an identity."""
        return PixelInput.from_json(self.stored.input.identity())

    @property
    def detectron2(self) -> Path | None:
        """The converted .pkl; None if no detector can use the backbone: then only its features are evaluated."""
        return self.stored.detectron2


def parse_checkpoints(items: tuple[str, ...], flag: str = "--checkpoint") -> dict[str, Path]:
    """``NAME=PATH`` or ``PATH`` items as label → file. InputError for a repeated name or a missing file.

    ``flag`` is where the items were given, for the error.
    An item that exists is a path: ``epoch=99-step=500400.ckpt`` and ``lr=0.1/x.pth`` need no name.
    """
    found: dict[str, Path] = {}
    for item in items:
        label, path = _label_and_path(item)
        file = path / "backbone.safetensors" if _is_there(path, stat.S_ISDIR) else path
        if not label or not _is_there(file, stat.S_ISREG):
            raise InputError(f"{flag} {item}: {file} is not a file; give a PATH, or NAME=PATH")
        label = checked_label(label)
        if label in found:
            raise InputError(f"two checkpoints are named {label}: give each its own as NAME=PATH")
        found[label] = file.resolve()
    return found


def with_series(checkpoints: dict[str, Path], items: tuple[str, ...]) -> dict[str, Path]:
    """``checkpoints`` and those of the series ``NAME=PATTERN``. InputError for one without files, or a name twice."""
    found = dict(checkpoints)
    for item in items:
        for label, path in series_of(item, "--series").items():
            label = checked_label(label)
            if label in found:
                raise InputError(f"--series {item}: {label} is there twice: give each series its own name")
            found[label] = path.resolve()
    return found


def _label_and_path(item: str) -> tuple[str, Path]:
    """The item as a path if it exists; else split at the first "=" that is followed by an existing path."""
    whole = Path(item).expanduser()
    splits = [(item[:at], Path(item[at + 1 :]).expanduser()) for at, letter in enumerate(item) if letter == "="]
    named = [(name, path) for name, path in splits if "/" not in name and path.name]
    if named and not _is_there(whole):
        return next((pair for pair in named if _is_there(pair[1])), named[0])
    return printable(whole.name if _is_there(whole, stat.S_ISDIR) else whole.stem), whole


def _is_there(path: Path, is_kind: Callable[[int], bool] = bool) -> bool:
    """Whether ``path`` exists and is of this kind; Path.exists raises if a name is too long."""
    try:
        return is_kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def import_first(checkpoint: Path) -> str:
    """Import ``checkpoint`` into results/backbones (in a worker); the proof in a few words."""
    stored = import_checkpoint(checkpoint)
    if stored.detectron2 is None:
        return "CMC's two encoders: only features are evaluated, no detector can use them"
    return f"{stored.proof.mapped}/{stored.proof.expected} tensors, forward pass equal"


def evaluated(label: str, checkpoint: Path) -> EvaluatedCheckpoint | None:
    """A checkpoint that has been imported; None if it has not."""
    stored = find(checkpoint)
    return EvaluatedCheckpoint(label=label, stored=stored) if stored else None


def import_all(checkpoints: dict[str, Path], executor: Executor) -> list[EvaluatedCheckpoint]:
    """Import those not yet imported; InputError with the reasons if any is rejected, before other work."""
    todo = [
        Job(
            name=f"{label} import",
            target="benchmarks.checkpoints:import_first",
            arguments={"checkpoint": path},
            report=str,
            kind="import",
            work=(f"import-{digest(str(path))[:12]}",),
        )
        for label, path in checkpoints.items()
        if evaluated(label, path) is None
    ]
    if todo:
        require_writable(results_dir() / "backbones")
    check_jobs(todo, executor)
    found = {label: evaluated(label, path) for label, path in checkpoints.items()}
    if lost := [label for label, one in found.items() if one is None]:
        raise RunError(f"{lost[0]}: its import is no longer under {results_dir() / 'backbones'}: run again")
    return [one for one in found.values() if one is not None]
