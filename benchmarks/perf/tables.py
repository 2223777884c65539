"""Time and memory of `python -m benchmarks tables` over many records.

Run: ``python -m benchmarks.perf tables --records 1000 10000``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.perf.timing import processor
from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.tasks import TASKS
from pretrain.common.pixels import PixelInput
from pretrain.common.provenance import git_state, package_versions, utc_now
from transfer.detection.config import resolved_protocol
from transfer.detection.profiles import Profile

PROFILE: Profile = "smoke"
# In a separate process, start-up included; its parent does not count.
CODE = """
import sys, time
from pathlib import Path
from benchmarks.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit:
    status = 0
lines = Path("/proc/self/status").read_text().splitlines()
print(time.process_time(), next(line.split()[1] for line in lines if line.startswith("VmHWM")))
sys.exit(status)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Tables over synthetic records of the size of real ones: seconds and peak memory of the command."""

    records: tuple[int, ...] = (1000, 10_000)


def columns() -> list[tuple[str, int, dict[str, Any]]]:
    """(task, seeds, settings) of every task; a detector's settings are its protocol's."""
    found = []
    for task in TASKS.values():
        config = resolved_protocol(task.protocol, PROFILE, 0, []) if task.protocol else {"tried": [[0.1, 9.9]] * 20}
        found.append((task.name, 1 if task.deterministic else 5, json.loads(json.dumps(config))))
    return found


def write_records(store: ResultsStore, count: int) -> int:
    """Write ``count`` records of one attempt each; returns their number of rows."""
    generator, made, row = np.random.default_rng(0), 0, 0
    kinds = columns()
    convention = PixelInput()
    versions, git, now = package_versions("torch", "torchvision", "numpy", "pandas"), git_state(), utc_now()
    while made < count:
        for name, seeds, config in kinds:
            for seed in range(min(seeds, count - made)):
                task = TASKS[name]
                spec = RunSpec(
                    task=name,
                    task_version=task.version,
                    protocol_digest="d" * 64,
                    precision="fp32",
                    data_name="toy",
                    data_fingerprint="f" * 64,
                    checkpoint_sha256=hashlib.sha256(str(row).encode()).hexdigest(),
                    input=convention,
                    seed=seed,
                    profile=PROFILE,
                    num_gpus=0 if task.detects else None,
                )
                record = RunRecord(
                    spec=spec,
                    label=f"checkpoint-{row:04d}",
                    architecture="resnet50",
                    status="ok",
                    error=None,
                    metrics={metric.key: float(generator.uniform(0, 100)) for metric in task.metrics},
                    test_images=5000,
                    data={"description": "random numbers", "synthetic": True},
                    config=config,
                    environment={"versions": versions, "device": "cpu"},
                    git=git,
                    start=now,
                    end=now,
                    wall_seconds=1.0,
                    peak_memory_mb=1.0,
                    resumed_at=None,
                    log=None,
                )
                path = store.path_for(spec) / "20260101T000000Z-000000.json"
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps(record.stored(), indent=1), encoding="utf-8")
                made += 1
        row += 1
    return row


def run(results: Path, *arguments: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MB of ``python -m benchmarks`` with these arguments."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=os.environ | {"RESULTS_DIR": str(results)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    *_, busy, kilobytes = done.stdout.split()
    return time.perf_counter() - begun, float(busy), int(kilobytes) / 1024


def measure(arguments: Arguments) -> str:
    """A line for the start-up, and one for each number of records."""
    lines = [f"python -m benchmarks tables, start-up included; one core of {processor()}"]
    with tempfile.TemporaryDirectory() as folder:
        lines.append(_line("start-up and --help", *run(Path(folder), "tables", "--help")))
        for count in arguments.records:
            results = Path(folder, str(count))
            rows = write_records(ResultsStore(results / "runs"), count)
            size = sum(path.stat().st_size for path in results.glob("runs/*/*.json")) / 1e6
            title = f"{count:,} records, {rows:,} rows, {size:,.0f} MB"
            lines.append(_line(title, *run(results, "tables", PROFILE)))
            layout = ("tables", "transfer", "--profile", PROFILE, "--ranks")
            lines.append(_line("  the layout transfer, ranks and figures", *run(results, *layout)))
    return "\n".join(lines)


def _line(title: str, seconds: float, busy: float, megabytes: float) -> str:
    return f"{title:40}{seconds:7.1f} s, {busy:.1f} s on a processor {megabytes:7.0f} MB"
