"""Jobs in Slurm's queue, and the notes in results/slurm by which later commands find them again. Imports no torch.

A batch is one submission, an array or a single job: ``results/slurm/<batch>/batch.json`` says which results its tasks
make, beside submitit's files. The batch is the job's name in Slurm, so that a note written before sbatch is enough. The
folder of a batch may be removed when its jobs have ended.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import pickle
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pretrain.common.errors import InputError
from pretrain.common.files import read_mapping, results_dir, write_json

SECONDS = 60  # for Slurm's commands to answer
NOTE, CANCELLED = "batch.json", "cancelled"
ENDED = "ended"  # beside the note of a batch that has no more jobs in the queue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """``tasks``: name, work, log, estimated seconds and follow-ups of each job, in the order of the array.

    ``job_id`` is "" from before sbatch has answered.
    """

    name: str
    kind: str
    tasks: tuple[dict[str, Any], ...]
    submitted: str
    user: str
    job_id: str = ""

    @property
    def folder(self) -> Path:
        """Of the note and of submitit's files."""
        return batches_dir() / self.name

    def task_id(self, index: int) -> str:
        """Slurm's id of a task: 12, or 12_3 in an array; "" where sbatch has not answered."""
        return self.job_id if len(self.tasks) == 1 or not self.job_id else f"{self.job_id}_{index}"

    def result(self, index: int) -> tuple[bool, Any, float] | None:
        """What slurm_task.Task returned, or (False, reason, 0) of one that failed; None if it has left nothing."""
        path = self.folder / f"{self.task_id(index)}_0_result.pkl"
        try:
            kind, value = pickle.loads(path.read_bytes())
        except (OSError, EOFError):
            return None
        except Exception as error:  # a class of another version of the code
            return False, f"its result cannot be read ({type(error).__name__}: {error})", 0.0
        lines = str(value).strip().splitlines() if kind == "error" else []
        return (False, lines[-1] if lines else "no reason given", 0.0) if kind == "error" else value

    def log(self, index: int) -> Path:
        """Where submitit writes what the job itself says."""
        return self.folder / f"{self.task_id(index)}_0_log.err"

    def is_cancelled(self, index: int) -> bool:
        """Whether the user has cancelled the task, by `cancel`."""
        return (self.folder / f"{CANCELLED}-{index}").exists()

    def has_ended(self) -> bool:
        """Whether it is known to have no more jobs in the queue."""
        return (self.folder / ENDED).exists()

    def end(self) -> None:
        """Note that it has none."""
        with suppress(OSError):  # the folder was removed, or is another user's
            (self.folder / ENDED).touch()

    def age(self) -> float:
        """Seconds since its submission."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.submitted)).total_seconds()

    def write(self) -> None:
        """Write the note."""
        write_json(self.folder / NOTE, dataclasses.asdict(self))


def batches_dir() -> Path:
    """Folder of all batches."""
    return results_dir() / "slurm"


def new_batch(kind: str, tasks: Sequence[dict[str, Any]]) -> Batch:
    """A batch of its own name, not yet submitted."""
    now = datetime.now(UTC)
    return Batch(
        name=f"transfer-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        kind=kind,
        tasks=tuple(tasks),
        submitted=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        user=getpass.getuser(),
    )


def all_batches(*, open_only: bool = False) -> list[Batch]:
    """The batches on disk, oldest first; damaged notes are left out. ``open_only``: those not known to have ended."""
    try:
        names = sorted(entry.name for entry in os.scandir(batches_dir()) if entry.name.startswith("transfer-"))
    except OSError:
        return []
    found = []
    for name in names:
        if open_only and (batches_dir() / name / ENDED).exists():
            continue
        values = read_mapping(batches_dir() / name / NOTE) or {}
        try:
            found.append(Batch(**{**values, "tasks": tuple(values["tasks"])}))
        except (TypeError, KeyError):
            continue
    return [batch for batch in found if batch.tasks and all("work" in task for task in batch.tasks)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What Slurm says of a task in its queue: PENDING with a ``reason``, RUNNING on ``node`` …; times as it prints."""

    task_id: str
    batch: str
    state: str
    node: str
    spent: str
    left: str
    reason: str


def is_here() -> bool:
    """Whether Slurm's commands are installed."""
    return all(shutil.which(name) for name in ("sbatch", "squeue", "scontrol", "scancel", "srun"))


def require_slurm() -> None:
    """InputError where there is no Slurm, or no submitit."""
    if not is_here():
        raise InputError("--executor slurm: no sbatch here; log in where jobs are submitted, or give --executor local")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise InputError("--executor slurm needs submitit: python -m pip install submitit -c constraints.txt") from None


def queued(names: Iterable[str]) -> dict[str, State] | None:
    """The queued and running tasks of the batches ``names``, of any user, by id; None if Slurm does not answer."""
    names = list(names)
    if not names:
        return {}
    form = "%i|%j|%T|%N|%M|%L|%r"
    try:
        text = _said("squeue", "--noheader", "--array", f"--format={form}", f"--name={','.join(names)}")
    except (OSError, subprocess.SubprocessError):
        return None
    found = {}
    for line in text.splitlines():
        task_id, name, state, node, spent, left, reason = line.split("|", 6)
        found[task_id] = State(
            task_id=task_id, batch=name, state=state, node=node, spent=spent, left=left, reason=reason
        )
    return found


def end_of(task_id: str) -> str:
    """How Slurm says that a task ended, as CANCELLED, TIMEOUT or OUT_OF_MEMORY; "" if it no longer knows."""
    try:
        text = _said("scontrol", "show", "job", "--oneliner", task_id)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\bJobState=(\w+)", text)
    return found[1] if found else ""


def most_in_an_array() -> int:
    """The site's limit on the size of an array."""
    try:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _said("scontrol", "show", "config"))
    except (OSError, subprocess.SubprocessError):
        return 1000
    return max(1, int(found[1]) - 1) if found else 1000


def cancel(task_ids: Sequence[str]) -> None:
    """Cancel tasks. InputError in Slurm's words if it refuses."""
    try:
        _said("scancel", *task_ids)
    except subprocess.CalledProcessError as error:
        raise InputError(f"scancel: {' '.join(str(error.stderr).split())[:300]}") from None


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
