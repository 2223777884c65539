"""The cells of a table: run records grouped by checkpoint, column and metric; only the seed varies within a cell.

Std is the sample standard deviation over the seeds of the downstream run. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.tasks import TASKS, Metric


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row × column of the table: the values over seeds, and the records they come from."""

    label: str
    column: str
    metric: Metric
    records: tuple[RunRecord, ...]
    failed: int

    @property
    def values(self) -> list[float]:
        """Defined values, percent."""
        found = (record.metrics.get(self.metric.key) for record in self.records)
        return [value for value in found if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None without a value."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation, None for fewer than two values."""
        if self.mean is None or len(self.values) < 2:
            return None
        return (sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)) ** 0.5

    def text(self, plus_minus: str, dash: str) -> str:
        """``12.3 ± 0.4 (3)``; without ± for n = 1; ``failed``, ``undefined`` or a dash where there is no number."""
        if self.mean is None:
            return "failed" if self.failed and not self.records else "undefined" if self.records else dash
        number = f"{self.mean:.{self.metric.decimals}f}"
        if self.std is not None:
            number += f"{plus_minus}{self.std:.{self.metric.decimals}f}"
        return f"{number} ({len(self.values)})"


def collect(expected: Sequence[tuple[str, RunSpec]]) -> list[Cell]:
    """Cells of the (label, spec) pairs, in their order, for every metric; only the seed varies within a cell."""
    store = ResultsStore()
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    headings = _headings([spec for _, spec in expected])
    shas: dict[str, set[str]] = {}
    for label, spec in expected:
        shas.setdefault(label, set()).add(spec.checkpoint_sha256)
    for label, spec in expected:
        row = label if len(shas[label]) == 1 else f"{label} [{spec.checkpoint_sha256[:6]}]"
        groups.setdefault(
            (row, spec.task, headings[dataclasses.replace(spec, seed=0, checkpoint_sha256="")]), []
        ).append(spec)
    cells = []
    for (row, task, heading), specs in groups.items():
        newest = [store.newest(spec) for spec in dict.fromkeys(specs)]
        done = tuple(record for record in newest if record and record.status == "ok")
        failed = sum(1 for record in newest if record and record.status != "ok")
        cells += [Cell(row, heading, metric, done, failed) for metric in TASKS[task].metrics]
    return cells


def _headings(specs: Iterable[RunSpec]) -> dict[RunSpec, str]:
    """Column heading of each protocol × data × overrides: task and detector, and whatever else tells them apart."""
    variants = list(dict.fromkeys(dataclasses.replace(spec, seed=0, checkpoint_sha256="") for spec in specs))
    names = {(spec.data_name, TASKS[spec.task].needs, spec.data_fingerprint) for spec in variants}
    several = len({name for name, _, _ in names}) > 1
    twins = {
        name for name, needs, print_ in names for other in names if (name, needs) == other[:2] and print_ != other[2]
    }
    headings = {}
    for spec in variants:
        same = [other for other in variants if (other.task, other.protocol) == (spec.task, spec.protocol)]
        parts = [
            TASKS[spec.task].protocol_title(spec.protocol),
            spec.data_name if several else "",
            f"[{spec.data_fingerprint[:6]}]" if spec.data_name in twins else "",
            " ".join(spec.overrides) if len({other.overrides for other in same}) > 1 else "",
            f"{spec.num_gpus} GPUs" if len({other.num_gpus for other in same}) > 1 else "",
        ]
        headings[spec] = " ".join(part for part in parts if part)
    return headings


def best_cells(cells: Iterable[Cell]) -> set[int]:
    """Ids of the cells to set in bold: best of its column, n ≥ 2, and no runner-up within one std of it."""
    columns: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.mean is not None:
            columns.setdefault((cell.column, cell.metric.key), []).append(cell)
    bold = set()
    for column in columns.values():
        sign = 1 if column[0].metric.higher_is_better else -1
        first, *rest = sorted(column, key=lambda cell: -sign * (cell.mean or 0.0))
        if first.std is None or not rest:
            continue
        gap = sign * ((first.mean or 0.0) - (rest[0].mean or 0.0))
        if gap > max(first.std, rest[0].std or 0.0):
            bold.add(id(first))
    return bold


def recorded(profile: str, data: str | None = None) -> list[tuple[str, RunSpec]]:
    """(label, spec) of every recorded run, failed ones too, of a profile and a current task version and protocol.

    ``data``: on the data set of that name only.
    """
    found = {record.spec: record.label for record in ResultsStore().load_all() if record.spec.profile == profile}
    pairs = [
        (label, spec)
        for spec, label in found.items()
        if data in (None, spec.data_name)
        and spec.task in TASKS
        and spec.task_version == TASKS[spec.task].version
        and spec.protocol in TASKS[spec.task].protocols
    ]
    order = list(TASKS)
    return sorted(pairs, key=lambda pair: (pair[0], order.index(pair[1].task), pair[1].protocol, pair[1].seed))
