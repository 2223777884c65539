"""The cells of our own rows: which records belong to a row and a column of a layout. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.cells import Cell
from benchmarks.report.members import pooled_groups
from benchmarks.report.paper.spec import TableColumn, TableRow, TableSpec, metric_of
from benchmarks.report.text import shortened
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable

LONGEST = 300  # characters of a row's name
Pair = tuple[str, RunSpec]


@dataclasses.dataclass(frozen=True)
class OwnRow:
    """A row with its recorded runs; ``pooled`` where they are of several pretraining runs."""

    row: TableRow
    runs: tuple[Pair, ...]
    pooled: bool


def own_rows(
    spec: TableSpec, pairs: Sequence[Pair], newest: Mapping[RunSpec, RunRecord], chosen: Sequence[str] = ()
) -> list[OwnRow]:
    """Our rows in order: those that the layout lists, or ``chosen`` ones, or every name in the records.

    InputError for a chosen name without a run, and for one of several checkpoints.
    """
    members = pooled_groups(pairs, newest)
    by_label: dict[str, list[Pair]] = {}
    groups: dict[str, list[Pair]] = {}
    for label, run in pairs:
        by_label.setdefault(label, []).append((label, run))
        if label in members:
            groups.setdefault(members[label], []).append((label, run))
    listed = [row for row in spec.rows if row.label]
    if chosen:
        known = {row.label: row for row in listed}
        listed = [known.get(label, TableRow(label=label, group=spec.own_group)) for label in dict.fromkeys(chosen)]
    elif not listed:
        names = dict.fromkeys(members.get(label, label) for label, _ in pairs)
        listed = [TableRow(label=name, group=spec.own_group) for name in names]
    rows = []
    for row in listed:
        runs = groups.get(row.label) or by_label.get(row.label) or []
        if not runs and chosen:
            there = ", ".join(printable(label) for label in by_label)
            raise InputError(f"--row {row.label}: profile {spec.profile} has no run of it, but of {there}")
        pooled = row.label in groups
        rows.append(OwnRow(row, _of_one_checkpoint(row, runs, pooled), pooled))
    return rows


def _of_one_checkpoint(row: TableRow, runs: Sequence[Pair], pooled: bool) -> tuple[Pair, ...]:
    """The runs of the row's ``checkpoint``. InputError where its label is that of several and none is chosen."""
    runs = [pair for pair in runs if pair[1].checkpoint_sha256.startswith(row.checkpoint)]
    several = {(spec.checkpoint_sha256, spec.input): spec for _, spec in runs}
    if not pooled and len(several) > 1:
        digests = ", ".join(sorted({spec.checkpoint_sha256[:8] for spec in several.values()}))
        raise InputError(f"row {row.label}: several checkpoints or inputs have this name ({digests}): give checkpoint")
    return tuple(runs)


def own_cells(spec: TableSpec, rows: Sequence[OwnRow], newest: Mapping[RunSpec, RunRecord]) -> list[list[Cell]]:
    """A cell per row and column. InputError where a column's runs differ in settings or data."""
    shown = shortened((printable(one.row.label) for one in rows), LONGEST)
    table: list[list[Cell]] = [[] for _ in rows]
    for number, column in enumerate(spec.columns):
        of = [[one for _, one in row.runs if _matches(one, column)] for row in rows]
        _check_alike(column, f"columns[{number}]", [one for several in of for one in several])
        for place, (row, specs) in enumerate(zip(rows, of, strict=True)):
            table[place].append(_cell(spec, column, shown[place], row.pooled, specs, newest))
    return table


def heading_of(column: TableColumn) -> str:
    """``VOC C4 24k voc07``: tells the columns of the CSV apart."""
    parts = [TASKS[column.task].title, column.data, " ".join(column.overrides or ()), column.precision, column.protocol]
    parts += [f"{column.num_gpus} GPUs"] if column.num_gpus is not None else []
    return " ".join(filter(None, parts))


def _cell(
    spec: TableSpec,
    column: TableColumn,
    label: str,
    pooled: bool,
    specs: Sequence[RunSpec],
    newest: Mapping[RunSpec, RunRecord],
) -> Cell:
    metric = metric_of(column.task, column.metric)
    decimals = column.decimals if column.decimals is not None else spec.decimals
    if decimals is not None:
        metric = dataclasses.replace(metric, decimals=decimals)
    records = [newest[one] for one in sorted(dict.fromkeys(specs), key=lambda one: (one.checkpoint_sha256, one.seed))]
    done = tuple(record for record in records if record.status == "ok")
    errors = tuple(record.error or "" for record in records if record.status != "ok")
    return Cell(label, heading_of(column), metric, done, len(errors), errors, pooled)


def _matches(spec: RunSpec, column: TableColumn) -> bool:
    return (
        spec.task == column.task
        and column.data in ("", spec.data_name)
        and column.precision in ("", spec.precision)
        and column.num_gpus in (None, spec.num_gpus)
        and column.overrides in (None, spec.overrides)
        and spec.protocol_digest.startswith(column.protocol)
    )


CHOICES = {  # field of a RunSpec → field of a column that chooses among its values
    "data_name": "data",
    "protocol_digest": "protocol",
    "precision": "precision",
    "num_gpus": "num_gpus",
    "overrides": "overrides",
    "data_fingerprint": "data",
}


def _check_alike(column: TableColumn, where: str, specs: Sequence[RunSpec]) -> None:
    """Only runs of the same settings on the same data share a column."""
    variants = list(dict.fromkeys(one.column() for one in specs))
    if len(variants) < 2:
        return
    for field, choice in CHOICES.items():
        values = dict.fromkeys(getattr(one, field) for one in variants)
        if len(values) > 1:
            words = ", ".join(" ".join(one) if isinstance(one, tuple) else str(one)[:12] for one in values)
            raise InputError(
                f"{where} ({column.task}): its runs differ in {field.replace('_', ' ')} ({words}): give {choice}"
            )
