"""Two rows of the board beside each other: their columns' paired differences, classes and test images. No torch.

The numbers are those of `compare` (benchmarks/report/compare.py): the same runs, the same intervals, Holm's p-values
over a pair's columns. They are made for the pairs of at most ROWS rows, with many columns of fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import RunRecord, RunSpec, store_of
from benchmarks.report.compare import Compared, Run, adjusted, common_columns, compared, differences
from benchmarks.report.web.album import Album, Column
from benchmarks.report.web.board import Board
from benchmarks.report.web.pair_classes import Classes
from benchmarks.report.web.pair_images import Images
from benchmarks.statistics.scored import on_draws
from pretrain.common.errors import InputError, printable

ROWS = 10  # whose pairs are compared, 45, if they have not more than
LINES = 2500  # differences: pairs times columns; else as many rows as have no more
Runs = Mapping[RunSpec, list[Run]]  # finished ones, by column


def pairs_of(board: Board, profile: str, *, pictures: bool = True) -> dict[str, Any]:
    """What the page shows of each pair of rows, as JSON; ``pictures``: with thumbnails of test images."""
    rows = chosen(board)
    runs = {row: runs_of(board, board.rows[row].label) for row in rows}
    headings = {record.spec.column(): cell.column for cell in board.cells for record in cell.records}
    draws, classes, album = Draws(), Classes(), Album()
    images = Images(album) if pictures else None
    found: dict[str, dict[str, Any]] = {}
    waiting: list[Column] = []
    for a, b in combinations(rows, 2):
        common, refused = common_columns(runs[a], runs[b])
        names = board.rows[a].label, board.rows[b].label
        differing = differences(*names, common)
        lines = adjusted([one for pair in common for one in compared(*pair, read=draws.of)])
        one = found[f"{a} {b}"] = {
            "rows": [_line(line, headings[line.column]) for line in lines],
            "differs": [printable(text) for text in differing],
            "refused": [printable(text) for text in refused],
            "classes": [],
            "images": [],
        }
        for left, right, _ in common:
            heading = headings[left[0][0].spec.column()]
            one["classes"] += [{"title": heading, **table} for table in classes.tables(left, right)]
            if images and (column := images.column(left, right)):
                column.about["title"] = heading
                one["images"].append(column.about)  # filled below
                waiting.append(column)
    album.fill(waiting)
    return {
        "profile": profile,
        "chosen": rows,
        "pairs": found,
        "thumbs": album.thumbs,
        "album": album.words,
        "pictures": pictures,
    }


def chosen(board: Board) -> list[int]:
    """Numbers of the rows whose pairs are compared, in the board's order: of too many those that are best, or not told
    apart from the best, in most columns."""
    most = max(rows for rows in range(2, ROWS + 1) if rows == 2 or math.comb(rows, 2) * len(board.columns) <= LINES)
    there = [number for number, row in enumerate(board.rows) if any(entry.mean is not None for entry in row.entries)]
    marked = {number: sum(bool(entry.mark) for entry in board.rows[number].entries) for number in there}
    return sorted(sorted(there, key=lambda number: -marked[number])[:most])


def runs_of(board: Board, label: str) -> dict[RunSpec, list[Run]]:
    """The finished runs of a row by column, each with its record's file."""
    specs = {record.spec: record for cell in board.cells if cell.label == label for record in cell.records}
    found: dict[RunSpec, list[Run]] = {}
    for spec, record in specs.items():
        if run := store_of(record).done(spec):
            found.setdefault(spec.column(), []).append(run)
    return found


class Draws:
    """``on_draws`` of each run, read once; {} where its files cannot be read."""

    def __init__(self) -> None:
        self._kept: dict[Path, Mapping[str, np.ndarray]] = {}

    def of(self, record: RunRecord, path: Path, sizes: bool) -> Mapping[str, np.ndarray]:
        """Percent on the draws by metric key."""
        if path not in self._kept:
            try:
                self._kept[path] = on_draws(record, path, sizes)
            except (InputError, OSError):
                self._kept[path] = {}
        return self._kept[path]


def _line(line: Compared, heading: str) -> list[Any]:
    """[heading, unit, decimals, a, its n, b, its n, a − b, low, high, Holm's p, levels]; None without an interval."""
    found, digits = line.found, line.metric.decimals + 2
    low, high = found.interval or (None, None)
    numbers = [None if one is None else round(one, digits) for one in (found.value, low, high)]
    return [
        f"{heading} {line.metric.label}",
        line.metric.unit,
        line.metric.decimals,
        round(found.a, digits),
        line.counts[0],
        round(found.b, digits),
        line.counts[1],
        *numbers,
        None if line.adjusted is None else round(line.adjusted, 4),
        ", ".join(found.levels),
    ]
