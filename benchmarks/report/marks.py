"""Marks in a table: the best row of a column is bold, and a dagger is on every row that is not told apart from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.records import RunRecord, store_of
from benchmarks.report.cells import Cell
from benchmarks.statistics.best import ENOUGH, told_apart
from benchmarks.statistics.paired import Side, mean_error
from benchmarks.statistics.scored import on_draws, side_of
from pretrain.common.errors import InputError

DAGGER = "†"


@dataclasses.dataclass(frozen=True)
class Marks:
    """Ids of the cells that are best in their column, and of those that are not told apart from the best one."""

    bold: frozenset[int] = frozenset()
    dagger: frozenset[int] = frozenset()


class Sides:
    """The scores behind cells, with those on the draws of the test images where they were kept; each is read once."""

    def __init__(self) -> None:
        self._kept: dict[int, Mapping[str, np.ndarray]] = {}

    def of(self, cell: Cell) -> Side:
        """The side of a comparison that a cell with a number is."""
        for record in cell.records:
            if id(record) not in self._kept:
                self._kept[id(record)] = kept_draws(record)
        return side_of(cell.records, [self._kept[id(record)] for record in cell.records], cell.metric.key)


def marks_of(cells: Iterable[Cell], sides: Sides | None = None) -> Marks:
    """The marks of every column in which the best row has ENOUGH values, and in which more is better or worse."""
    columns: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.mean is not None and cell.metric.higher_is_better is not None:
            columns.setdefault((cell.column, cell.metric.key), []).append(cell)
    sides = sides or Sides()
    bold, dagger = set(), set()
    for column in columns.values():
        if max(len(cell.values) for cell in column) < ENOUGH:
            continue
        higher = bool(column[0].metric.higher_is_better)
        found = told_apart([sides.of(cell) for cell in column], higher)
        if found is not None:
            best, apart = found
            bold.add(id(column[best]))
            dagger |= {id(cell) for number, cell in enumerate(column) if number != best and number not in apart}
    return Marks(frozenset(bold), frozenset(dagger))


def half_width(sides: Sides, cell: Cell) -> float:
    """Half of the 95 % interval of a cell's mean; NaN where nothing is known of its error."""
    error, _ = mean_error(sides.of(cell))
    return error.width(0.95) if error is not None else math.nan


def kept_draws(record: RunRecord) -> Mapping[str, np.ndarray]:
    """The metrics on draws of the run's test images; {} where it kept no predictions or they cannot be read."""
    done = store_of(record).done(record.spec) if record.files else None
    try:
        return on_draws(*done) if done else {}
    except (InputError, OSError):
        return {}
