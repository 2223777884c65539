"""Published rows beside ours: only in columns whose runs are of the published protocol. Imports no torch."""

from __future__ import annotations

import dataclasses

from benchmarks.report.cells import Cell
from benchmarks.report.paper.layout import source_note
from benchmarks.report.paper.outside import PROFILE, outside_rows, own_differences
from benchmarks.report.paper.spec import SAME, TableColumn, TableSpec
from benchmarks.report.web.board import Board


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row that nobody ran here: a text per column of the board, "" where it has no number of that protocol."""

    label: str
    texts: tuple[str, ...]
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRows:
    """The rows, and the columns (heading: in what ours depart) beside which none may stand."""

    rows: tuple[PublishedRow, ...] = ()
    unlike: tuple[str, ...] = ()


def published_rows(board: Board, profile: str) -> PublishedRows:
    """Every published row known to be of a column's protocol; none in another profile than ``paper``."""
    if profile != PROFILE:
        return PublishedRows()
    by_column: dict[tuple[str, str], list[Cell]] = {}
    for cell in board.cells:
        by_column.setdefault((cell.column, cell.metric.key), []).append(cell)
    columns, unlike = [], []
    for one in board.columns:
        column = TableColumn(task=one.task, metric=one.metric.key)
        records = [record for cell in by_column.get((one.heading, one.metric.key), ()) for record in cell.records]
        if not records:  # nothing of ours to stand beside
            column = dataclasses.replace(column, published=False)
        elif differs := own_differences(column, records):
            unlike.append(f"{one.heading} {one.metric.label}: {differs}")
            column = dataclasses.replace(column, published=False)
        columns.append(column)
    rows = []
    for row in outside_rows(TableSpec(name="report", columns=tuple(columns), published=SAME)):
        if not row.differs:
            epochs = f" ({row.row.epochs} epochs)" if row.row.epochs else ""
            texts = tuple(value.text if value else "" for value in row.values)
            rows.append(PublishedRow(label=f"{row.row.method}{epochs}", texts=texts, note=source_note(row)))
    return PublishedRows(rows=tuple(rows), unlike=tuple(unlike))
