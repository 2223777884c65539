"""The checkpoints to evaluate: from NAME=PATH on the command line to converted weights. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Callable
from pathlib import Path

from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.report.text import checked_label
from pretrain.common.errors import InputError, RunError, printable
from pretrain.common.files import file_sha256, require_writable, results_dir, write_json
from pretrain.common.pixels import PixelInput
from transfer.checkpoints.converted import VERSION, usable


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedCheckpoint:
    """A checkpoint to evaluate: its row's ``label``, its file, its converted .pkl, and what identifies it."""

    label: str
    path: Path
    detectron2: Path | None  # None: no detector can have it, only its features are evaluated
    sha256: str  # of its tensors, as transfer's Backbone.sha256
    input: PixelInput  # nothing of it ``assumed``
    architecture: str
    family: str
    network: str


def parse_checkpoints(items: tuple[str, ...]) -> dict[str, Path]:
    """``NAME=PATH`` or ``PATH`` items as label → file. InputError for a repeated name or a missing file.

    What exists is a path, so that ``epoch=99-step=500400.ckpt`` and ``lr=0.1/x.pth`` need no name.
    """
    found: dict[str, Path] = {}
    for item in items:
        label, path = _label_and_path(item)
        file = path / "backbone.safetensors" if _is_there(path, stat.S_ISDIR) else path
        if not label or not _is_there(file, stat.S_ISREG):
            raise InputError(f"--checkpoint {item}: {file} is not a file; give a PATH, or NAME=PATH")
        label = checked_label(label)
        if label in found:
            raise InputError(f"two checkpoints are named {label}: give each its own as NAME=PATH")
        found[label] = file.resolve()
    return found


def _label_and_path(item: str) -> tuple[str, Path]:
    """The item as a path if there is one of that name; else split at the first "=" after which there is one."""
    whole = Path(item).expanduser()
    splits = [(item[:at], Path(item[at + 1 :]).expanduser()) for at, letter in enumerate(item) if letter == "="]
    named = [(name, path) for name, path in splits if "/" not in name and path.name]
    if named and not _is_there(whole):
        return next((pair for pair in named if _is_there(pair[1])), named[0])
    return printable(whole.name if _is_there(whole, stat.S_ISDIR) else whole.stem), whole


def _is_there(path: Path, is_kind: Callable[[int], bool] = bool) -> bool:
    """Whether there is something of this kind; Path's own questions raise where a name is too long."""
    try:
        return is_kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def converted_path(checkpoint: Path) -> Path:
    """Where the detectron2 form of a checkpoint file is kept, by the file's own hash."""
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint} is not a file: give a checkpoint, as NAME=PATH or PATH")
    return results_dir() / "converted" / f"{file_sha256(checkpoint)[:16]}.pkl"


def evaluated(label: str, checkpoint: Path) -> EvaluatedCheckpoint | None:
    """A checkpoint that was converted, or found fit for features alone; None if that is still to do."""
    converted = converted_path(checkpoint)
    proof = usable(converted)
    if proof and proof.version == VERSION:
        return EvaluatedCheckpoint(
            label=label,
            path=checkpoint,
            detectron2=converted,
            sha256=proof.source_sha256,
            input=PixelInput.from_json(proof.input.identity()),
            architecture=proof.architecture,
            family=proof.family,
            network=proof.network,
        )
    try:
        found = json.loads(_features_only(converted).read_text(encoding="utf-8"))
        convention = PixelInput.from_json(found.pop("input"))
        return EvaluatedCheckpoint(
            label=label, path=checkpoint, detectron2=None, input=convention, family="superinfo", network="", **found
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _features_only(converted: Path) -> Path:
    """Where it is kept which tensors the file has, if they cannot be converted."""
    return converted.with_suffix(".features-only.json")


def convert_checkpoint(checkpoint: Path) -> str:
    """Convert ``checkpoint`` to where the suite looks for it (in a worker); what was proved, in a few words.

    CMC's encoders, which no detector can have, are read and checked only.
    """
    from transfer.checkpoints.convert import convert
    from transfer.checkpoints.reading.read import load_checkpoint
    from transfer.checkpoints.two_encoders import read_two_encoders

    path = converted_path(checkpoint)
    if encoders := read_two_encoders(load_checkpoint(checkpoint)):
        about = {"sha256": encoders.sha256, "architecture": encoders.architecture}
        write_json(_features_only(path), about | {"input": encoders.input.identity()})
        return "CMC's two encoders: for features alone, no detector can have them"
    converted = convert(checkpoint, path)
    return f"{converted.mapped}/{converted.expected} tensors, forward pass equal"


def convert_first(checkpoints: dict[str, Path], executor: Executor) -> list[EvaluatedCheckpoint]:
    """Convert what has not been converted; InputError with the reasons if any is refused, before other work."""
    todo = [
        Job(
            name=f"{label} convert",
            target="benchmarks.checkpoints:convert_checkpoint",
            arguments={"checkpoint": path},
            report=str,
        )
        for label, path in checkpoints.items()
        if evaluated(label, path) is None
    ]
    if todo:
        require_writable(results_dir() / "converted")
    check_jobs(todo, executor)
    found = {label: evaluated(label, path) for label, path in checkpoints.items()}
    if lost := [label for label, source in found.items() if source is None]:
        raise RunError(f"{lost[0]}: its conversion is not under {results_dir() / 'converted'} any more: run again")
    return [source for source in found.values() if source is not None]
