"""Published numbers as rows of a table, each with its source and in what it may differ. Imports no torch.

Like stands beside like: a value is shown in a column only where it is of the column's detector and schedule
(``Task.published``); in what norm, learning rates and pretraining data differ, or are not stated, is in its footnote.
The profiles but ``paper`` measure on other data: no published row is in their tables.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks.records import RunRecord
from benchmarks.report.paper.spec import SAME, TableColumn, TableRow, TableSpec, metric_of
from benchmarks.report.published import NETWORK, REFERENCE, gpus, setting
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError

PROFILE = "paper"
TEST_IMAGES = {"imagenet": 50_000, "voc": 4952, "coco": 5000, "keypoints": 5000, "cityscapes": 500, "lvis": 19_809}
"""Test images of the standard set of a layout: a run on others is not of the published protocol."""


@dataclasses.dataclass(frozen=True)
class Published:
    """A published value as printed, ``57.0``, or ``57.0 / 57.1`` where ``source`` prints several."""

    text: str
    source: str

    @property
    def value(self) -> float | None:
        """The number; None where there are several."""
        try:
            return float(self.text)
        except ValueError:
            return None


@dataclasses.dataclass(frozen=True)
class OutsideRow:
    """A published row: a value per column or None, its source, and the settings that differ or are not stated."""

    row: TableRow
    values: tuple[Published | None, ...]
    source: str
    differs: tuple[str, ...]


@functools.cache
def _file() -> pd.DataFrame:
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    return table.assign(cited=table["source"] + table["second_hand"].map({"yes": " (second hand)", "no": ""}))


def outside_rows(spec: TableSpec) -> list[OutsideRow]:
    """The published rows that ``spec`` asks for. InputError for a listed one that no column has a number of."""
    listed = [row for row in spec.rows if row.method]
    lookup = [_rows_of(column) for column in spec.columns]
    found = [_outside(spec, row, lookup) for row in listed]
    if spec.published == SAME:
        there = {(one.row.method, one.row.epochs, one.source) for one in found}
        for row in _same(spec, lookup):
            one = _outside(spec, row, lookup)
            if (one.row.method, one.row.epochs, one.source) not in there:
                found.append(one)
    return found


def _rows_of(column: TableColumn) -> pd.DataFrame:
    """The rows of published.csv of the column's detector, schedule and metric."""
    pair, counterpart = counterpart_of(column), TASKS[column.task].published
    table = _file()
    if pair is None or counterpart is None:
        return table.iloc[:0]
    return table[
        (table["detector"] == counterpart.detector)
        & (table["schedule"] == counterpart.schedule)
        & (table["task"] == pair[0])
        & (table["metric"] == pair[1])
    ]


def counterpart_of(column: TableColumn) -> tuple[str, str] | None:
    """Task and metric of published.csv for a column; ``bbox/AP50`` follows from the pair of ``bbox/AP``."""
    task, metric = TASKS[column.task], metric_of(column.task, column.metric)
    if task.published is None or not column.published:
        return None
    headings = task.published.headings
    if metric.label in headings:
        return headings[metric.label]
    if len(headings) == 1 and metric.key == task.metrics[0].key:
        return next(iter(headings.values()))
    for heading, (name, base) in headings.items():
        if metric.label in (f"{heading}50", f"{heading}75"):
            return name, base + metric.label[-2:]
    return None


def _outside(spec: TableSpec, row: TableRow, lookup: Sequence[pd.DataFrame]) -> OutsideRow:
    values: list[Published | None] = []
    sources: dict[str, None] = {}
    differs: dict[str, None] = {}
    for column, table in zip(spec.columns, lookup, strict=True):
        found = table[table["method"] == row.method]
        found = found[[row.source in one for one in found["cited"]]] if len(found) else found
        found = found if row.epochs is None else found[found["pretrain_epochs"] == row.epochs]
        _check_one(row, column, found)
        values.append(Published(" / ".join(found["value"]), found["cited"].iloc[0]) if len(found) else None)
        sources |= dict.fromkeys(found["cited"])
        for _, one in found.iterrows():
            differs |= dict.fromkeys(filter(None, setting(TASKS[column.task]).differences(one).split(", ")))
    if not sources:
        raise InputError(f"no published number of {row.method} is of a column's protocol: see {REFERENCE.name}")
    return OutsideRow(row, tuple(values), "; ".join(sources), tuple(differs))


def _check_one(row: TableRow, column: TableColumn, found: pd.DataFrame) -> None:
    several = list(dict.fromkeys(zip(found["pretrain_epochs"], found["cited"], strict=True)))
    if len(several) > 1:
        words = "; ".join(f"{epochs or 'no'} epochs, {source}" for epochs, source in several[:3])
        raise InputError(
            f"published row {row.method}: {column.task} has it more than once ({words}): give epochs, source"
        )


def _same(spec: TableSpec, lookup: Iterable[pd.DataFrame]) -> list[TableRow]:
    """Every row of the file that is known to be of a column's protocol."""
    found: dict[tuple[str, str, str], None] = {}
    for column, table in zip(spec.columns, lookup, strict=True):
        for _, one in table.iterrows():
            if not setting(TASKS[column.task]).differences(one):
                found[one["method"], one["pretrain_epochs"], one["source"]] = None
    return [
        TableRow(method=method, epochs=epochs, source=source, group="published") for method, epochs, source in found
    ]


def own_differences(column: TableColumn, records: Iterable[RunRecord]) -> str:
    """In what our runs of a column depart from the published protocol: ``4 GPUs, other test images (150)``; or ""."""
    task = TASKS[column.task]
    found: dict[str, None] = {}
    for record in records:
        spec = record.spec
        if task.detects and spec.num_gpus not in (None, gpus(task)):
            found[f"{spec.num_gpus} GPUs"] = None
        if spec.overrides:
            found[f"options {' '.join(spec.overrides)}"] = None
        if task.detects and record.architecture not in (None, NETWORK):
            found[f"network {record.architecture}"] = None
        standard = TEST_IMAGES.get(task.layout)
        if standard and record.test_images not in (None, standard):
            found[f"other data ({record.test_images} test images)"] = None
    return ", ".join(found)
