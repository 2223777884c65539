"""Facts about this machine that stop long runs: GPUs that torch cannot use, disk, shared memory, open files, cores.

python -c "from benchmarks.rehearsal.machine import findings; print(*findings(), sep='\\n')"

Imports no torch: a process of its own asks it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from benchmarks.arguments import visible_gpus
from benchmarks.profiles import PROFILES
from benchmarks.tasks import Task
from pretrain.common.files import require_writable, results_dir
from pretrain.common.provenance import package_versions
from transfer.detection.detectron2_version import describe, detectron2_origin

GB = 1e9
REHEARSAL_GB = 8.0  # data, backbones, and the checkpoints of the detectors that run at once
SHARED_GB = (
    1.0  # per GPU: loader processes hand their batches over in /dev/shm, 8 × 2 of 256 crops of 224 px are 0.6 GB
)
OPEN_FILES = 4096  # each batch in shared memory is an open file

_ASK_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
gpus = [torch.cuda.get_device_properties(i) for i in range(count)]
nccl = ".".join(map(str, torch.cuda.nccl.version())) if gpus else None
print(json.dumps({"gpus": [[one.name, one.total_memory / 1e9] for one in gpus], "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version(), "nccl": nccl, "torch": torch.__version__}))
"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the report. ``failed`` stops a paper run, ``warning`` may."""

    level: Literal["ok", "warning", "failed"]
    text: str

    def __str__(self) -> str:
        return f"{self.level:8} {self.text}"


def findings(tasks: Iterable[Task] = ()) -> list[Finding]:
    """All of them; ``tasks`` are those whose paper runs have to fit on the disk."""
    return [
        *_versions(),
        _device(ask_torch(), len(visible_gpus())),
        _place(results_dir()),
        *_disk(list(tasks)),
        _shared_memory(Path("/dev/shm"), max(1, len(visible_gpus()))),
        _open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        _cores(len(os.sched_getaffinity(0)), len(visible_gpus())),
    ]


def ask_torch() -> dict[str, Any]:
    """GPUs as torch sees them (name, GB of memory), versions of CUDA, cuDNN and NCCL; "error" if it cannot start."""
    done = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _versions() -> list[Finding]:
    origin = detectron2_origin()
    named = package_versions("torch", "torchvision", "numpy", "pycocotools", "fvcore")
    text = ", ".join(f"{name} {version}" for name, version in named.items())
    level: Literal["ok", "failed"] = "failed" if origin["location"] is None else "ok"
    return [Finding("ok", f"versions: {text}"), Finding(level, f"detectron2: {describe(origin)}")]


def _device(found: dict[str, Any], there: int) -> Finding:
    """``there``: GPUs that this process may use by the driver and CUDA_VISIBLE_DEVICES."""
    if "error" in found:
        return Finding("failed", f"torch does not start: {found['error']}")
    gpus = found["gpus"]
    if there > len(gpus):
        return Finding(
            "failed",
            f"torch {found['torch']} (CUDA {found['cuda']}) sees {len(gpus)} of {there} GPUs: install the build of "
            "torch that fits the driver (nvidia-smi), or correct CUDA_VISIBLE_DEVICES",
        )
    if not gpus:
        return Finding("ok", "no GPU: the rehearsal runs on the CPU, paper runs need GPUs")
    names = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in gpus)
    return Finding(
        "ok", f"{len(gpus)} GPUs: {names}; CUDA {found['cuda']}, cuDNN {found['cudnn']}, NCCL {found['nccl']}"
    )


def _place(folder: Path) -> Finding:
    try:
        require_writable(folder)
    except OSError as error:
        return Finding("failed", f"{folder} cannot be written ({error.strerror}): set RESULTS_DIR to another folder")
    return Finding("ok", f"results go to {folder}")


def _disk(tasks: list[Task]) -> list[Finding]:
    place = next(path for path in (results_dir(), *results_dir().absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / GB
    known = [task.cost.disk_gb for task in tasks if task.cost]
    found = [
        Finding("ok" if free > REHEARSAL_GB else "failed", f"disk: {free:.0f} GB free, {REHEARSAL_GB:.0f} needed here")
    ]
    if sum(known) > free:
        text = f"disk: paper runs of these {len(known)} tasks keep up to {sum(known):.0f} GB per checkpoint and seed"
        found.append(
            Finding("warning", f"{text}: set RESULTS_DIR to a larger disk, or run some and delete model_*.pth")
        )
    return found


def _shared_memory(place: Path, gpus: int) -> Finding:
    if not place.is_dir():
        return Finding("warning", f"{place} is not there: loader processes need shared memory")
    free = shutil.disk_usage(place).free / GB
    if free < SHARED_GB * gpus:
        return Finding(
            "warning",
            f"{place} has {free:.2f} GB free, and loader processes may need {SHARED_GB * gpus:.0f}: a container takes "
            "--shm-size 16g or --ipc host",
        )
    return Finding("ok", f"shared memory: {free:.0f} GB free in {place}")


def _open_files(soft: int, hard: int) -> Finding:
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return Finding("ok", f"open files: {'no limit' if soft == resource.RLIM_INFINITY else soft}")
    return Finding(
        "warning", f"open files are limited to {soft}, loader processes may need {OPEN_FILES}: ulimit -n {hard}"
    )


def _cores(cores: int, gpus: int) -> Finding:
    wanted = PROFILES["paper"].loader_workers
    if gpus and cores < wanted * gpus:
        return Finding("warning", f"{cores} cores for {gpus} GPUs: reading images may take longer than the training")
    return Finding("ok", f"{cores} cores")
