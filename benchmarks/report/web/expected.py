"""A suite's columns and rows of which nothing is recorded, as cells that say so. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.report.paper.layout import DASH
from benchmarks.report.web.board import KINDS, NOT_RUN, Board, Column, Entry, Row
from benchmarks.suites import Suite, SuiteColumn
from benchmarks.tasks import Task, named
from pretrain.common.errors import printable

NO_RECORD = "no run of this column is recorded"
NO_LAYOUT = f"{NO_RECORD}: not run yet, or the data have no such layout"


def with_expected(board: Board, suite: Suite) -> Board:
    """``board`` with a column for each task of the suite that it lacks, after the others, and with the suite's rows
    that it lacks, in the suite's order."""
    reason = NO_LAYOUT if suite.data == "own" else NO_RECORD
    lacking = [
        Column(heading=_heading(task, column), metric=task.metrics[0], task=task.name, kind=KINDS[task.kind])
        for column in suite.columns
        for task in named(column.task)
        if not _is_there(board, task, column, suite)
    ]
    empty = tuple(Entry(text=DASH, reason=reason) for _ in lacking)
    rows = {row.label: dataclasses.replace(row, entries=(*row.entries, *empty)) for row in board.rows}
    order = []
    for one in suite.rows:
        label = printable(one.label).strip()
        order.append(label)
        if label not in rows and not any(member in rows for member, _ in one.members()):
            none = tuple(Entry(text=DASH, reason=NOT_RUN) for _ in board.columns)
            rows[label] = Row(label=label, group=one.group, architecture="", entries=none + empty)
    place = {label: number for number, label in enumerate(order)}
    ordered = sorted(rows.values(), key=lambda row: place.get(row.label, len(place)))
    return dataclasses.replace(board, columns=(*board.columns, *lacking), rows=tuple(ordered))


def _heading(task: Task, column: SuiteColumn) -> str:
    return f"{task.title} {Path(column.data).name}" if column.data else task.title


def _is_there(board: Board, task: Task, column: SuiteColumn, suite: Suite) -> bool:
    """Whether the board has a column of the task, on data of its own where the suite's column names some."""
    names = {record.spec.data_name for cell in board.cells for record in cell.records if record.spec.task == task.name}
    if not column.data:
        apart = {Path(one.data).name for one in suite.columns if one.data}
        return any(one.task == task.name for one in board.columns) and (not names or bool(names - apart))
    own = Path(column.data).name
    return bool(names & {own, f"{own}-{suite.profile}"})
