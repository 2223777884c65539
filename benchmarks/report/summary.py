"""The end of a command: the table, seconds per stage, the output folders, the failed runs. Imports no torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.executors.base import Outcome
from benchmarks.executors.progress import minutes
from benchmarks.records import ResultsStore, RunSpec, files_of
from benchmarks.report.figures import draw_figures
from benchmarks.report.files import say_failed, write_files
from benchmarks.report.tables import complete, file_name, write_tables
from pretrain.common.errors import InputError, printable
from pretrain.common.files import results_dir
from pretrain.common.shell import command

if TYPE_CHECKING:
    from benchmarks.suites import Suite


def stage_lines(seconds: Mapping[str, Sequence[float]]) -> list[str]:
    """One line per stage: number of jobs, their total seconds (they may have run in parallel) and the longest."""
    rows = [(stage, str(len(spent)), minutes(sum(spent)), minutes(max(spent))) for stage, spent in seconds.items()]
    if not rows:
        return []
    rows.insert(0, ("stage", "jobs", "time", "longest"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join((row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)))) for row in rows]


FOLDERS = ("runs", "tables", "pretrain", "backbones", "data", "logs")


def _places(expected: Sequence[tuple[str, RunSpec]]) -> list[str]:
    """The output folders, and the command that draws the predictions of the last detection run that kept them."""
    store, results = ResultsStore(), results_dir()
    there = ", ".join(name for name in FOLDERS if (results / name).is_dir())
    records = [record for _, spec in expected for record in store.paths(spec)]
    kept = [record for record in records if (files_of(record) / "predictions.json").is_file()]
    commands = [f"predictions as a picture: {command('benchmarks', 'show', record)}" for record in kept[-1:]]
    return [f"everything is under {results}: {there}", *commands]


def finish(
    expected: Sequence[tuple[str, RunSpec]],
    profile: str,
    name: str,
    saved: Sequence[Path],
    ran: Outcome,
    begun: float,
    groups: Mapping[str, str] | None = None,
    suite: Suite | None = None,
    series: bool = False,
) -> int:
    """Print the table and the summary on stderr, the artefact paths on stdout; draw the figures of ``suite``.

    ``series``: draw the rows named NAME @EPOCH against their epochs.

    0, or 1 when a run failed or the table could not be written.
    """
    whole = True
    if expected:
        cells, paths = write_tables(expected, profile, name, with_published=name == "paper", groups=groups)
        if suite and suite.figures:
            paths += draw_figures(suite, cells)
        if series:
            from benchmarks.report.paper.pictures import series_files

            folder = results_dir() / "tables"
            drawn, failed = write_files(folder, series_files(file_name(name), cells))
            say_failed(folder, failed)
            paths += drawn
        paths += _report(expected, profile, name, groups, suite) if suite else []
        print(*paths, sep="\n", end="\n" if paths else "", flush=True)
        whole = complete(paths)
    print(*stage_lines(ran.seconds), sep="\n", file=sys.stderr)
    print(f"{len(saved)} new runs, {minutes(time.monotonic() - begun)} in all", file=sys.stderr)
    print(*_places(expected), sep="\n", file=sys.stderr)
    for job, reason in ran.failed:
        where = f" (log: {job.log})" if job.log else ""
        print(printable(f"failed: {job.name}: {reason}{where}"), file=sys.stderr)
    return 1 if ran.failed or not whole else 0


def _report(
    expected: Sequence[tuple[str, RunSpec]], profile: str, name: str, groups: Mapping[str, str] | None, suite: Suite
) -> list[Path]:
    """Write the suite's HTML page; its path. An error there only gives a warning: the tables are written already."""
    from benchmarks.report.web.command import write_report

    try:
        return [write_report(expected, profile, name, groups=groups or {}, suite=suite)]
    except (OSError, InputError) as error:
        print(f"warning: no report: {printable(f'{type(error).__name__}: {error}')[:200]}", file=sys.stderr)
        return []
