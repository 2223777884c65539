"""The leaderboard before any format: rows in groups, columns, and an entry for every cell with its runs or its reason.

Numbers, marks and reasons are those of the Markdown tables: cells.py, marks.py and layout.py make them. Imports no
torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.cells import Cell, collect
from benchmarks.report.marks import DAGGER, Marks, Sides, marks_of
from benchmarks.report.members import pooled_groups
from benchmarks.report.paper.layout import DASH, why_missing
from benchmarks.series import POINT
from benchmarks.tasks import TASKS, Metric
from pretrain.common.errors import printable

KINDS = {"frozen": "frozen features", "finetune": "fine-tuning", "detection": "trained detector"}
NOT_RUN = "not run"
Pair = tuple[str, RunSpec]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A metric of a task under the same settings on the same data; ``heading`` is the Markdown table's."""

    heading: str
    metric: Metric
    task: str
    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell: ``text`` as in the Markdown table, ``mark`` "best", "close" (†) or "", ``reason`` where runs are missing.

    ``runs`` are the specs behind it, finished and failed.
    """

    text: str
    mean: float | None = None
    mark: str = ""
    reason: str = ""
    runs: tuple[tuple[str, RunSpec], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A checkpoint, or several pretraining runs of one recipe, with an entry per column."""

    label: str
    group: str
    architecture: str
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """The leaderboard, with the cells that it was made of and what the marks were computed from."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    sides: Sides

    def groups(self) -> dict[str, list[Row]]:
        """The rows by group, in the order of the first of each."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return found


def board_of(
    pairs: Sequence[Pair],
    newest: Mapping[RunSpec, RunRecord],
    groups: Mapping[str, str] | None = None,
    row_groups: Mapping[str, str] | None = None,
) -> Board:
    """The board of the (label, spec) pairs. ``groups`` as in ``collect``; ``row_groups``: row's label → its group."""
    groups = pooled_groups(pairs, newest) if groups is None else groups
    cells = collect(pairs, newest, groups)
    sides = Sides()
    marks = marks_of(cells, sides)
    shown = [cell for cell in cells if cell.metric.shown]
    specs = _specs_behind(pairs, groups, newest)
    tasks = {cell.column: one.spec.task for cell in cells for one in cell.records}
    columns: dict[tuple[str, str], Column] = {}
    for cell in shown:
        task = tasks.get(cell.column) or _task_titled(cell.column)
        found = Column(heading=cell.column, metric=cell.metric, task=task, kind=KINDS[TASKS[task].kind])
        columns.setdefault((cell.column, cell.metric.key), found)
    by_row: dict[str, dict[tuple[str, str], Cell]] = {}
    for cell in shown:
        by_row.setdefault(cell.label, {})[cell.column, cell.metric.key] = cell
    rows = [
        _row(label, [there.get(key) for key in columns], marks, specs, row_groups or {})
        for label, there in by_row.items()
    ]
    return Board(columns=tuple(columns.values()), rows=tuple(rows), cells=tuple(cells), sides=sides)


def _task_titled(heading: str) -> str:
    """The task of a column whose runs all failed: the one with the longest title that begins its heading."""
    fitting = [task for task in TASKS.values() if heading.startswith(task.title)]
    return max(fitting, key=lambda task: len(task.title)).name


def _specs_behind(
    pairs: Sequence[Pair], groups: Mapping[str, str], newest: Mapping[RunSpec, RunRecord]
) -> dict[tuple[str, str], list[Pair]]:
    """The recorded (label, spec) pairs by their record's own row label and task; failed ones are found by these."""
    found: dict[tuple[str, str], list[Pair]] = {}
    for label, spec in dict.fromkeys(pairs):
        if spec in newest:
            found.setdefault((printable(groups.get(label, label)).strip(), spec.task), []).append((label, spec))
    return found


def _row(
    label: str,
    cells: Sequence[Cell | None],
    marks: Marks,
    specs: Mapping[tuple[str, str], Sequence[Pair]],
    row_groups: Mapping[str, str],
) -> Row:
    records = [record for cell in cells if cell for record in cell.records]
    networks = dict.fromkeys(record.architecture for record in records if record.architecture)
    group = row_groups.get(label, "")
    if not group:
        imported = dict.fromkeys(record.imported for record in records if record.imported)
        group = f"imported from {', '.join(imported)}" if imported else ""
        group = found[1] if (found := POINT.fullmatch(label)) else group
    entries = tuple(_entry(cell, marks, specs) for cell in cells)
    return Row(label=label, group=group, architecture=", ".join(networks), entries=entries)


def _entry(cell: Cell | None, marks: Marks, specs: Mapping[tuple[str, str], Sequence[Pair]]) -> Entry:
    if cell is None:
        return Entry(text=DASH, reason=NOT_RUN)
    runs = [(record.label, record.spec) for record in cell.records]
    if cell.failed:
        task = cell.records[0].spec.task if cell.records else _task_titled(cell.column)
        known = {spec for _, spec in runs}
        runs += [pair for pair in specs.get((cell.label, task), ()) if pair[1] not in known]
    if cell.mean is None:
        return Entry(text=cell.text(" ± ", DASH), reason=why_missing(cell), runs=tuple(runs))
    reason = f"{cell.failed} more failed: {cell.errors[0]}" if cell.failed else ""
    mark = "best" if id(cell) in marks.bold else "close" if id(cell) in marks.dagger else ""
    text = cell.text(" ± ", DASH) + f" {DAGGER}" * (mark == "close")
    return Entry(text=text, mean=cell.mean, mark=mark, reason=reason, runs=tuple(runs))
