"""The caption of a table, from its cells: profile, n, detectors, data, tasks, notes, commits. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.profiles import PROFILES
from benchmarks.records import RunRecord
from benchmarks.report import searches
from benchmarks.report.cells import Cell
from benchmarks.report.marks import DAGGER
from benchmarks.report.text import shortened
from benchmarks.statistics.best import ENOUGH
from benchmarks.tasks import TASKS, by_group
from pretrain.common.errors import printable
from pretrain.common.provenance import short_commit
from transfer.detection.search import without_search

ERRORS = 5  # per caption


def caption(cells: Sequence[Cell], profile: str) -> str:
    """Profile, data and fingerprints, tasks, n and commit in one paragraph; the errors if no cell has a number."""
    records = [record for cell in cells for record in cell.records]
    if not records:
        return printable(f"Profile {profile} ({PROFILES[profile].meaning}). {_failures(cells)}")
    versions: dict[int, list[str]] = {}
    for record in records:
        versions.setdefault(record.spec.task_version, []).append(record.spec.task)
    tasks = [f"{name} v{version}" for version, names in versions.items() for name in by_group(names)]
    fixed = [without_search(record.spec.overrides) for record in records]
    overrides = dict.fromkeys(" ".join(words) for words in fixed if words)
    commits = dict.fromkeys(short_commit(record.git) for record in records)
    sentences = [
        f"Profile {profile} ({PROFILES[profile].meaning}). {units(cells)}; mean ± standard deviation (n) over seeds",
        f"of the downstream run, without ± where n = 1. {pretraining_runs(cells)}{_MARKS}",
        f"{_detectors(records)}{searches.sentences(records)}{_precisions(records)}{_networks(records)}"
        f"Data: {_data(records)}.",
        f"Tasks: {', '.join(tasks)}.",
        *([f"Overrides: {'; '.join(overrides)}."] if overrides else []),
        f"{_notes(cells)}{_imported(records)}Commit: {', '.join(commits)}.",
    ]
    return printable(" ".join(sentences))


_MARKS = (
    f" Bold: the best of a column (n ≥ {ENOUGH}); {DAGGER}: not told apart from it (5 % over all pairs of rows, over "
    f"test images where predictions were kept and over seeds or runs; n < {ENOUGH} is never told apart)."
)


def _data(records: Sequence[RunRecord]) -> str:
    """``toy (own data), fingerprints imagenet f099f178, imagenet bfcf06ac of semi-1-swav``; sets joined by ``; ``.

    Tasks are named where a task has a fingerprint of its own, as fine-tuning on some of the labels.
    """
    sets: dict[str, dict[str, list[str]]] = {}
    for record in records:
        spec, task = record.spec, TASKS[record.spec.task]
        prints = sets.setdefault(f"{spec.data_name} ({record.data['description']})", {})
        names = prints.setdefault(f"{task.layout} {spec.data_fingerprint[:8]}", [])
        names += [task.name] if task.fingerprint else []
    described = []
    for heading, prints in sets.items():
        named = [one + (f" of {' '.join(by_group(names))}" if names else "") for one, names in prints.items()]
        described.append(f"{heading}, fingerprints {', '.join(named)}")
    return "; ".join(described)


def units(cells: Sequence[Cell]) -> str:
    """``Percent``, or ``Percent; nats (information)`` where columns have another unit."""
    others: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.metric.unit != "%":
            others.setdefault(cell.metric.unit, {})[cell.column] = None
    return "; ".join(["Percent", *(f"{unit} ({', '.join(columns)})" for unit, columns in others.items())])


def pretraining_runs(cells: Sequence[Cell]) -> str:
    """Number of pretraining runs per row."""
    groups = dict.fromkeys(cell.label for cell in cells if cell.pooled)
    if not groups:
        return "One pretraining run per row: these seeds leave out the differences between pretraining runs."
    several = f"{', '.join(groups)}: over n pretraining runs, each the mean of its downstream seeds"
    if any(cell.pooled and cell.within is not None for cell in cells):
        several += " (n×m: m seeds each; ± between the runs / within one)"
    others = any(not cell.pooled for cell in cells)
    return f"{several}; other rows have one pretraining run." if others else f"{several}."


def _failures(cells: Sequence[Cell]) -> str:
    """``Every run failed, so there is no number: out of memory (VOC C4: a, b).`` with the first few errors."""
    places: dict[str, dict[str, dict[str, None]]] = {}
    for cell in cells:
        for error in cell.errors:
            columns = places.setdefault(shortened([error.rstrip(". ")], 200)[0], {})
            columns.setdefault(cell.column, {})[cell.label] = None
    if not places:
        return "No run has ended yet."
    found = []
    for error, columns in places.items():
        where = "; ".join(f"{column}: {', '.join(labels)}" for column, labels in columns.items())
        found.append(f"{error} ({where})")
    more = f"; and {len(found) - ERRORS} other errors" if len(found) > ERRORS else ""
    return f"Every run failed, so there is no number: {'; '.join(found[:ERRORS])}{more}."


def _detectors(records: Sequence[RunRecord]) -> str:
    """``voc-fpn-24k: Faster R-CNN FPN, 300 iterations. `` for each detector that ran, from its own config."""
    found = dict.fromkeys(f"{record.spec.task}: {record.detector}. " for record in records if record.detector)
    return "".join(found)


def _precisions(records: Sequence[RunRecord]) -> str:
    """``Computed in fp32 (linear, knn), bf16 (voc-fpn-24k). ``"""
    tasks: dict[str, dict[str, None]] = {}
    for record in records:
        tasks.setdefault(record.spec.precision, {})[record.spec.task] = None
    found = ", ".join(f"{precision} ({', '.join(by_group(names))})" for precision, names in tasks.items())
    return f"Computed in {found}. " if found else ""


def _notes(cells: Sequence[Cell]) -> str:
    """``Notes: linear: decay 0.1 is the largest of its grid (random). ``: the runs' own warnings."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        for record in cell.records:
            for note in record.notes:
                seed = f" seed {record.spec.seed}" if len(cell.records) > 1 else ""
                rows.setdefault((note, cell.column), {})[cell.label + seed] = None
    columns: dict[str, list[str]] = {}  # of the same note and rows
    for (note, column), labels in rows.items():
        columns.setdefault(f"{note} ({', '.join(labels)})", []).append(column)
    found = "; ".join(f"{', '.join(names)}: {note}" for note, names in columns.items())
    return f"Notes: {found}. " if found else ""


def _imported(records: Sequence[RunRecord]) -> str:
    """``Imported from lab: a [lab], b [lab]. ``: the rows that others have run."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        if record.imported:
            rows.setdefault(record.imported, {})[record.label] = None
    return "".join(f"Imported from {name}, run there: {', '.join(labels)}. " for name, labels in rows.items())


def _networks(records: Sequence[RunRecord]) -> str:
    """``resnet50. `` or, where rows differ, each network with its rows; empty if the records lack it."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        if record.architecture:
            rows.setdefault(record.architecture, {})[record.label] = None
    if len(rows) < 2:
        return "".join(f"{name}. " for name in rows)
    return ", ".join(f"{name} ({', '.join(labels)})" for name, labels in rows.items()) + ". "
