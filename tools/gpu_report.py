"""One page with the speed of this machine's GPU: every perf script against its bare limit, each with its command.

    python tools/gpu_report.py                       # on a GPU node, in an hour: docs/gpu.md
    python tools/gpu_report.py --small -o page.md    # at small size, on the CPU too, in minutes: shows that it runs

Every script runs in a process of its own: one that fails, as where memory runs out, is on the page with its reason, and
the others go on; the status is then 1. The page is written after each script, so that a kill keeps the finished ones.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import visible_gpus
from benchmarks.executors.progress import minutes
from benchmarks.perf.timing import processor
from benchmarks.rehearsal.machine import ask_torch
from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import replacing, results_dir
from pretrain.common.provenance import git_state, package_versions, short_commit, utc_now
from transfer.detection.detectron2_version import describe, detectron2_origin

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "gpu.md"
DRIVER = Path("/proc/driver/nvidia/version")
DATA = "DATA"  # in a measurement's words: a generated data root


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """A section of the page: ``words`` after `python`."""

    title: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """As a person types it."""
        return shlex.join(["python", *self.words])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Its standard output, or the reason that it has none."""

    measurement: Measurement
    seconds: float
    text: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Speed of this GPU against bare limits, on one page."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The page; default docs/gpu.md, with --small gpu-small.md in the folder of results."""
    small: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Small sizes, whose figures mean little; without a GPU always."""
    workers: int = dataclasses.field(default_factory=lambda: min(16, os.cpu_count() or 1))
    """Processes that read images."""
    timeout: float = 30.0
    """Minutes after which a script counts as failed."""


def main(argv: list[str]) -> int:
    """Run every measurement; 1 if one of them failed. InputError for small figures in place of a GPU's page."""
    arguments = tyro.cli(Arguments, args=argv, prog="python tools/gpu_report.py")
    small = arguments.small or not visible_gpus()
    page = arguments.output or (results_dir() / "gpu-small.md" if small else PAGE)
    if small and page.absolute() == PAGE:
        raise InputError(f"{PAGE} is for a GPU at full size: give another path with -o")
    with tempfile.TemporaryDirectory() as folder:
        done = report(measurements(small, arguments.workers), page, Path(folder), arguments.timeout * 60, small)
    print(page)
    return 1 if any(one.reason for one in done) else 0


def measurements(small: bool, workers: int) -> list[Measurement]:
    """The sections, at the sizes of a paper run or small."""
    perf = ("-m", "benchmarks.perf")
    reading = ("--workers", str(1 if small else workers))
    step = ("--backbone", "resnet18", "--image-size", "32", "--batch-size", "8", "--steps", "1", "--rounds", "1")
    full = ("--image-size", "224", "--batch-size", "256", "--precision", "bf16", "--steps", "10", "--rounds", "5")
    extract = ("--architecture", "resnet18", "--size", "32", "--images", "64", "--rounds", "1")
    linear = ("--data", DATA, "--profile", "smoke", "--epochs", "0.02", "--batch", "32", *reading)
    evaluators = ("--coco-images", "20", "--voc-images", "120", "--detections", "10")
    quick = ("--size", "64", "--rounds", "1", "--iterations", "1")
    own = ("--size", "0", "--rounds", "7", "--iterations", "5", "--fused")
    found = [
        ("Pretraining step and loader", ("step", *(step if small else full), *reading)),
        ("Reading and augmentation on one core", ("data", *(("--images", "4", "--rounds", "1") if small else ()))),
        ("Features", ("extract", *(extract if small else ("--size", "224", "--images", "8192")), *reading)),
        (
            "Linear heads in one pass",
            ("linear", *(linear if small else (*linear[:3], "paper", "--epochs", "0.05", *reading))),
        ),
        (
            "VOC FPN, an iteration (C4 takes minutes on a CPU)" if small else "VOC C4, an iteration",
            ("detector", "--protocol", "voc_c4_24k" if not small else "voc_fpn_24k", *(quick if small else own)),
        ),
        ("COCO FPN, an iteration", ("detector", "--protocol", "coco_fpn_1x", *(quick if small else own))),
        ("Evaluators", ("evaluators", *(evaluators if small else ()))),
    ]
    return [Measurement(title=title, words=(*perf, *words)) for title, words in found]


def report(sections: Sequence[Measurement], page: Path, folder: Path, timeout: float, small: bool) -> list[Measured]:
    """Run ``sections`` one after the other and write ``page`` after each; ``folder`` is for generated data."""
    head, done = heading(small), list[Measured]()
    data = folder / "data" / f"emoji-{'smoke' if small else 'demo'}"
    if any(DATA in one.words for one in sections):
        prepare = ("-m", "benchmarks", "prepare", "emoji", "--profile", data.name.removeprefix("emoji-"))
        run(Measurement(title="data", words=prepare), folder, timeout)
    for number, one in enumerate(sections):
        words = tuple(str(data) if word == DATA else word for word in one.words)
        found = run(dataclasses.replace(one, words=words), folder, timeout)
        done.append(dataclasses.replace(found, measurement=one))
        print(
            f"[{number + 1}/{len(sections)}] {one.title}: {found.reason or 'done'} · {minutes(found.seconds)}",
            file=sys.stderr,
        )
        with replacing(page) as temporary:
            temporary.write_text(text_of(head, done, sections[number + 1 :]), encoding="utf-8")
    return done


def run(measurement: Measurement, folder: Path, timeout: float) -> Measured:
    """Its output; the last line of its errors where it fails."""
    places = {"RESULTS_DIR": str(folder), "DATA_DIR": str(folder / "data")}
    began, line = time.monotonic(), [sys.executable, *measurement.words]
    try:
        done = subprocess.run(
            line, cwd=CHECKOUT, env=os.environ | places, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return Measured(measurement=measurement, seconds=timeout, reason=f"not done after {minutes(timeout)}")
    seconds = time.monotonic() - began
    if done.returncode:
        lines = [one.strip() for one in done.stderr.splitlines() if one.strip()]
        reason = f"status {done.returncode}: {lines[-1][:300] if lines else 'it said nothing'}"
        return Measured(measurement=measurement, seconds=seconds, reason=reason)
    return Measured(measurement=measurement, seconds=seconds, text=done.stdout.strip())


def heading(small: bool) -> list[str]:
    """The lines about this machine."""
    found = ask_torch()
    gpus = [f"{name}, {memory:.0f} GB" for name, memory in found.get("gpus", [])]
    driver = DRIVER.read_text(encoding="utf-8").splitlines()[0] if DRIVER.exists() else "no NVIDIA driver"
    versions = ", ".join(f"{name} {version}" for name, version in package_versions("torch", "torchvision").items())
    lines = ["# Speed on a GPU", ""]
    if small:
        lines += ["**At small size: these figures show that the scripts run, and no speed.**", ""]
    return [
        *lines,
        f"- device: {'; '.join(gpus) or f'no GPU, {processor()}'}; {os.cpu_count()} cores",
        f"- driver: {driver}; CUDA {found.get('cuda')}, cuDNN {found.get('cudnn')}, NCCL {found.get('nccl')}",
        f"- versions: {versions}; detectron2: {describe(detectron2_origin()).split(' in /')[0]}",
        f"- date: {utc_now()}; commit {short_commit(git_state())}",
        f"- written by `python tools/gpu_report.py{' --small' if small else ''}`",
    ]


def text_of(head: Sequence[str], done: Sequence[Measured], left: Sequence[Measurement]) -> str:
    """The page in Markdown."""
    lines = [*head]
    for one in done:
        lines += ["", f"## {one.measurement.title}", "", f"`{one.measurement.command}` ({minutes(one.seconds)})", ""]
        lines += [f"FAILED, {one.reason}"] if one.reason else ["```", one.text, "```"]
    for section in left:
        lines += ["", f"## {section.title}", "", f"`{section.command}`", "", "not run yet"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    run_cli(main)
