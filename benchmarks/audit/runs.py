"""The runs behind a table's cells, read from their stores. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from pathlib import Path

from benchmarks.audit.finding import OK, Finding, changed, unknown, worst
from benchmarks.audit.table import Row
from benchmarks.records import ResultsStore, RunRecord, attempt_files, files_of, imports_dir
from benchmarks.sharing.archive import MOST_MANIFEST, is_kept, read_manifest
from benchmarks.sharing.imported import MANIFEST, theirs
from pretrain.common.errors import InputError, printable
from pretrain.common.files import file_sha256, read_text, results_dir

Attempt = tuple[RunRecord, Path]


@dataclasses.dataclass
class Runs:
    """The newest finished attempt of each of a cell's runs that is there, and how the search for them ended."""

    attempts: list[Attempt]
    finding: Finding


class Records:
    """The stores that the cells' runs are in; each run is read once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Attempt | None, Finding]] = {}
        self._manifests: dict[str, dict[str, str] | None] = {}  # of each import: sha256 by file

    def of(self, row: Row) -> Runs:
        """The runs of ``row``."""
        each = [self._run(run, row.imported) for run in row.runs]
        return Runs([attempt for attempt, _ in each if attempt], worst([finding for _, finding in each]))

    def _run(self, run: str, origin: str) -> tuple[Attempt | None, Finding]:
        if (run, origin) not in self._found:
            self._found[run, origin] = self._read(run, origin)
        return self._found[run, origin]

    def _read(self, run: str, origin: str) -> tuple[Attempt | None, Finding]:
        if origin and (Path(origin).name != origin or not (imports_dir() / origin).is_dir()):
            return None, unknown(f"nothing is imported as {printable(origin)[:40]} here")
        store = ResultsStore(imports_dir() / origin / "runs" if origin else None)
        folder, newest, damaged = store.root / run, None, []
        for path in attempt_files(folder):
            try:
                record = store.load(path)
            except InputError as error:
                damaged.append(str(error).partition(": move it away")[0])
                continue
            if record.spec.spec_id != run:
                damaged.append(f"{path} is a record of run {record.spec.spec_id}, not of its folder's")
            elif record.status == "ok":
                newest = (theirs(record, origin) if origin else record, path)
        if damaged:
            return newest, changed(within_results(damaged[0]))
        if newest and origin and (differs := self._unlike_archive(newest[1], origin)):
            return newest, differs
        if newest is None:
            return None, unknown(f"{within_results(str(folder))} is gone, or has no finished attempt")
        return newest, OK

    def _unlike_archive(self, path: Path, origin: str) -> Finding | None:
        """The first of a record and its predictions that is not the file that was imported."""
        place = imports_dir() / origin
        if origin not in self._manifests:
            try:
                text = read_text(place / MANIFEST, MOST_MANIFEST)
                self._manifests[origin] = {name: one.sha256 for name, one in read_manifest(text).files.items()}
            except (OSError, ValueError, RecursionError):
                self._manifests[origin] = None
        listed = self._manifests[origin]
        if listed is None:
            return unknown(f"the manifest of {origin} is gone or damaged: its files cannot be compared with it")
        for file in (path, *(one for one in sorted(files_of(path).glob("*.npz")) if is_kept(one.name))):
            if listed.get(file.relative_to(place).as_posix()) != file_sha256(file):
                return changed(f"{within_results(str(file))} is not the file that was imported")
        return None


def within_results(text: str) -> str:
    """``text`` for one line, paths relative to the results folder."""
    return printable(text.replace(f"{results_dir()}/", ""))


class Known:
    """All of this machine's records, for what a cell alone does not show.

    ``labels`` of each checkpoint, with those of suites' rows; ``seeds`` of the finished runs of each checkpoint in each
    column, by spec id.
    """

    def __init__(self) -> None:
        self.labels: dict[str, set[str]] = {}
        self.seeds: dict[Hashable, dict[str, int]] = {}
        for record in ResultsStore().load_all():
            spec = record.spec
            row, _, seed = record.label.rpartition(" #")
            names = {record.label} | ({row} if seed.isdigit() else set())
            self.labels.setdefault(spec.checkpoint_sha256, set()).update(names)
            if record.status == "ok":
                self.seeds.setdefault(dataclasses.replace(spec, seed=0), {})[spec.spec_id] = spec.seed

    def left_out(self, row: Row, runs: Runs) -> str:
        """The seeds of finished runs that the cell could hold and does not, in words; "" without any."""
        specs = [] if row.imported else [record.spec for record, _ in runs.attempts]
        more: dict[str, int] = {}
        for spec in specs:
            more |= self.seeds.get(dataclasses.replace(spec, seed=0), {})
        seeds = sorted({seed for run, seed in more.items() if run not in row.runs})
        return f"finished runs that it leaves out: seed {', '.join(map(str, seeds))}" if seeds else ""
