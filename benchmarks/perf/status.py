"""Time of `python -m benchmarks status` over many records, and of the engine for each run.

Run: ``python -m benchmarks.perf status --records 1000 10000 --runs 200``.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from benchmarks.perf.tables import PROFILE, run, write_records
from benchmarks.perf.timing import processor
from benchmarks.records import ResultsStore
from pretrain.common.files import locked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """`status` over synthetic records of the size of real ones; and lock, claim, look-up and record of a run."""

    records: tuple[int, ...] = (1000, 10_000)
    runs: int = 200


def measure(arguments: Arguments) -> str:
    """A line for each number of records, and one for the engine."""
    lines = [f"python -m benchmarks status, start-up included; one core of {processor()}"]
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.records:
            results = Path(folder, str(count))
            write_records(ResultsStore(results / "runs"), count)
            seconds, busy, megabytes = run(results, "status")
            lines.append(f"{count:,} records{seconds:10.2f} s, {busy:.2f} s on a processor {megabytes:7.0f} MB")
        lines.append(_engine(Path(folder, "engine"), arguments.runs))
    return "\n".join(lines)


def _engine(results: Path, count: int) -> str:
    """Milliseconds of what ``benchmarks.run.execute`` does for a run beside the task itself."""
    store = ResultsStore(results / "runs")
    write_records(store, count)
    records = list(store.load_all())
    begun = time.perf_counter()
    for record in records:
        with locked(store.path_for(record.spec), record.label) as claim:
            store.has(record.spec)
            claim.require()
            store.save(record)
    each = (time.perf_counter() - begun) / count * 1000
    return f"lock, claim, look-up and record of a run of profile {PROFILE}: {each:.1f} ms"
