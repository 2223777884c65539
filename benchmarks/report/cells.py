"""The cells of a table: run records grouped by checkpoint, column and metric; only the seed varies within a cell.

Std is the sample standard deviation over the seeds of the downstream run. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from benchmarks.records import UNKNOWN, ResultsStore, RunRecord, RunSpec
from benchmarks.report.text import shortened
from benchmarks.tasks import TASKS, Metric
from pretrain.common.errors import printable
from pretrain.common.pixels import PixelInput
from transfer.detection.search import title_of, without_search

K = TypeVar("K")
LONGEST = 300  # characters of a row's or column's name


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row × column of the table: the values over seeds, and the records they come from.

    ``label`` and ``column`` are printable, and no two rows or columns of a table have the same.
    """

    label: str
    column: str
    metric: Metric
    records: tuple[RunRecord, ...]
    failed: int
    errors: tuple[str, ...] = ()  # of the failed runs
    pooled: bool = False  # of several pretraining runs: one value per run, the mean over its downstream seeds

    @functools.cached_property
    def values(self) -> list[float]:
        """Defined values in the metric's unit; of a pooled cell the mean of each pretraining run."""
        return [sum(several) / len(several) for several in self._runs.values()]

    @functools.cached_property
    def _runs(self) -> dict[str, list[float]]:
        """The defined values of each pretraining run; where not pooled, each value alone."""
        found: dict[str, list[float]] = {}
        for number, record in enumerate(self.records):
            value = record.metrics.get(self.metric.key)
            if value is not None:
                found.setdefault(record.spec.checkpoint_sha256 if self.pooled else str(number), []).append(value)
        return found

    @functools.cached_property
    def within(self) -> float | None:
        """Standard deviation over the downstream seeds of a pretraining run, pooled over the runs; None without any."""
        spreads = [statistics.variance(several) for several in self._runs.values() if len(several) > 1]
        return statistics.mean(spreads) ** 0.5 if spreads else None

    @property
    def count(self) -> str:
        """``5``; ``3×5`` for five downstream seeds of each of three pretraining runs; ``3×4–5`` where some lack."""
        sizes = sorted({len(several) for several in self._runs.values()})
        if not self.pooled or sizes in ([], [1]):
            return str(len(self.values))
        return f"{len(self.values)}×{sizes[0]}" + (f"–{sizes[-1]}" if len(sizes) > 1 else "")

    @functools.cached_property
    def mean(self) -> float | None:
        """Mean over the values, None without one."""
        return sum(self.values) / len(self.values) if self.values else None

    @functools.cached_property
    def std(self) -> float | None:
        """Sample standard deviation, None for fewer than two values."""
        if self.mean is None or len(self.values) < 2:
            return None
        return (sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)) ** 0.5

    def text(self, plus_minus: str, dash: str) -> str:
        """``12.3 ± 0.4 (3)``; without ± for n = 1; ``failed``, ``undefined`` or a dash where there is no number.

        ``12.3 ± 0.4 / 0.2 (3×5)`` over pretraining runs: the deviation between the runs, then within one.
        """
        if self.mean is None:
            return "failed" if self.failed and not self.records else "undefined" if self.records else dash
        number = f"{self.mean:.{self.metric.decimals}f}"
        if self.std is not None:
            number += f"{plus_minus}{self.std:.{self.metric.decimals}f}"
            number += f" / {self.within:.{self.metric.decimals}f}" if self.pooled and self.within is not None else ""
        return f"{number} ({self.count})"


def collect(
    expected: Sequence[tuple[str, RunSpec]],
    newest: Mapping[RunSpec, RunRecord] | None = None,
    groups: Mapping[str, str] | None = None,
) -> list[Cell]:
    """Cells of the (label, spec) pairs, in their order, for every metric; only the seed varies within a cell.

    ``newest``: the record of each spec, if already read. ``groups``: label → label of its group, whose
    pretraining runs share one row.
    """
    groups = groups or {}
    if newest is None:
        newest = _read(spec for _, spec in expected)
    columns: dict[tuple[str, str, str], dict[RunSpec, None]] = {}
    headings = _headings([spec for _, spec in expected])
    rows = _rows([pair for pair in expected if pair[0] not in groups])
    for label, spec in expected:
        row = groups[label] if label in groups else rows[label, _checkpoint(spec)]
        key = (row, spec.task, headings[spec.column()])
        columns.setdefault(key, {})[spec] = None
    cells = []
    metrics = _metrics(columns, newest)
    for (row, task, heading), specs in columns.items():
        records = [newest[spec] for spec in specs if spec in newest]
        done = tuple(record for record in records if record.status == "ok")
        errors = tuple(record.error or "" for record in records if record.status != "ok")
        pooled = row in groups.values()
        cells += [Cell(row, heading, metric, done, len(errors), errors, pooled) for metric in metrics[task, heading]]
    return cells


def _metrics(
    columns: Mapping[tuple[str, str, str], Iterable[RunSpec]], newest: Mapping[RunSpec, RunRecord]
) -> dict[tuple[str, str], tuple[Metric, ...]]:
    """The metrics of each (task, heading): the task's, or those of its runs where they depend on the data."""
    keys: dict[tuple[str, str], dict[str, None]] = {}
    for (_, task, heading), specs in columns.items():
        records = (newest[spec] for spec in specs if spec in newest)
        keys.setdefault((task, heading), {}).update(dict.fromkeys(key for one in records for key in one.metrics))
    found = {}
    for (name, heading), there in keys.items():
        declared = TASKS[name].metrics
        if (made := TASKS[name].open_metrics) and there:
            known = tuple(metric for metric in declared if metric.key in there)
            declared = *known, *(made(key) for key in there if key not in {metric.key for metric in declared})
        found[name, heading] = declared
    return found


def _read(specs: Iterable[RunSpec]) -> dict[RunSpec, RunRecord]:
    store = ResultsStore()
    found = ((spec, store.newest(spec)) for spec in dict.fromkeys(specs))
    return {spec: record.outline() for spec, record in found if record}


def _checkpoint(spec: RunSpec) -> tuple[str, PixelInput | None]:
    return spec.checkpoint_sha256, spec.input


def _rows(expected: Iterable[tuple[str, RunSpec]]) -> dict[tuple[str, tuple[str, PixelInput | None]], str]:
    """Row heading of each (label, checkpoint), with its digest or input where several checkpoints share a label."""
    found: dict[str, dict[tuple[str, PixelInput | None], None]] = {}
    for label, spec in expected:
        found.setdefault(label, {})[_checkpoint(spec)] = None
    rows = {}
    for label, several in found.items():
        for sha256, convention in several:
            parts = [sha256[:6]] if len({one for one, _ in several}) > 1 else []
            if len({other for one, other in several if one == sha256}) > 1:
                parts.append(in_words(convention))
            rows[label, (sha256, convention)] = f"{label} [{', '.join(parts)}]" if parts else label
    return _shown(rows)


def _shown(names: Mapping[K, str]) -> dict[K, str]:
    """``names`` made printable, short and distinct: other people's records may hold any label."""
    texts = (printable(name).strip() or "(no name)" for name in names.values())
    return dict(zip(names, shortened(texts, LONGEST), strict=True))


def in_words(convention: PixelInput | None) -> str:
    """``RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225``, with the stride where it is in the 1×1."""
    if convention is None:
        return "input unknown"
    mean, std = (" ".join(f"{x:.3g}" for x in values) for values in (convention.mean, convention.std))
    return f"{convention.order}, mean {mean}, std {std}{', stride in 1×1' * convention.stride_in_1x1}"


def _headings(specs: Iterable[RunSpec]) -> dict[RunSpec, str]:
    """Column heading of each task × data × overrides: its title, and the settings that tell columns apart."""
    variants = list(dict.fromkeys(spec.column() for spec in specs))
    # Tasks with a fingerprint of their own, such as one of the labels used, are compared with themselves.
    own = {spec: spec.task if TASKS[spec.task].fingerprint else TASKS[spec.task].layout for spec in variants}
    names = {(spec.data_name, own[spec], spec.data_fingerprint) for spec in variants}
    several = len({name for name, _, _ in names}) > 1
    twins = {
        name for name, read, print_ in names for other in names if (name, read) == other[:2] and print_ != other[2]
    }
    headings = {}
    for spec in variants:
        same = [other for other in variants if other.task == spec.task]
        fixed = {without_search(other.overrides) for other in same}
        parts = [
            TASKS[spec.task].title,
            spec.data_name if several else "",
            f"[{spec.data_fingerprint[:6]}]" if spec.data_name in twins else "",
            f"({searched})" if (searched := _searched(spec, same)) else "",
            " ".join(without_search(spec.overrides)) if len(fixed) > 1 else "",
            f"{spec.num_gpus} GPUs" if len({other.num_gpus for other in same}) > 1 else "",
            spec.precision if len({other.precision for other in same}) > 1 else "",
            f"settings {spec.protocol_digest[:6]}" if _edited(spec, same) else "",
        ]
        headings[spec] = " ".join(part for part in parts if part)
    return _shown(headings)


def _searched(spec: RunSpec, same: Iterable[RunSpec]) -> str:
    """``lr of 3``, with the values where another search of the task has the same title."""
    title, values = title_of(spec.overrides), title_of(spec.overrides, whole=True)
    alike = {title_of(one.overrides, whole=True) for one in same if title_of(one.overrides) == title}
    return values if len(alike) > 1 else title


def _edited(spec: RunSpec, same: Iterable[RunSpec]) -> bool:
    """Whether the task also ran with other settings that options, GPUs and precision do not explain."""
    alike = dataclasses.replace(spec, protocol_digest="")
    return any(other != spec and dataclasses.replace(other, protocol_digest="") == alike for other in same)


def recorded(
    profile: str, data: str | None = None, newest: Mapping[RunSpec, RunRecord] | None = None
) -> list[tuple[str, RunSpec]]:
    """(label, spec) of every recorded run, failed or not, of a profile and a current task version.

    Leaves out columns whose runs all failed, if later runs had other settings or data of the same names.
    ``data``: only runs on the data set of that name. ``newest`` as in ``collect``.
    """
    if newest is None:
        newest = ResultsStore().all_newest()
    found = [
        record
        for spec, record in newest.items()
        if spec.profile == profile
        and data in (None, spec.data_name)
        and spec.task in TASKS
        and spec.task_version == TASKS[spec.task].version
        and spec.protocol_digest != UNKNOWN
    ]
    obsolete = _obsolete(found)
    pairs = [(record.label, record.spec) for record in found if record.spec.column() not in obsolete]
    order = list(TASKS)
    return sorted(pairs, key=lambda pair: (pair[0], order.index(pair[1].task), pair[1].seed))


def _obsolete(records: Sequence[RunRecord]) -> set[RunSpec]:
    """Columns without a number that a later one with other settings or data of the same names replaces."""
    latest: dict[RunSpec, str] = {}
    for record in records:
        column = record.spec.column()
        latest[column] = max(latest.get(column, ""), record.start)
    replaced: dict[RunSpec, str] = {}
    for column, start in latest.items():
        names = dataclasses.replace(column, protocol_digest="", data_fingerprint="")
        replaced[names] = max(replaced.get(names, ""), start)
    done = {record.spec.column() for record in records if record.status == "ok"}
    return {
        column
        for column, start in latest.items()
        if column not in done and start < replaced[dataclasses.replace(column, protocol_digest="", data_fingerprint="")]
    }
