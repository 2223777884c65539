"""A table's mean ranks and Kendall's τ between its columns, as Markdown and CSV. Imports no torch.

One column per task and data set counts, the first: AP and AP50 of one run would count twice. Rows printed equal are
tied.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.report.cells import Cell
from benchmarks.report.marks import Sides
from benchmarks.report.paper.layout import DASH, Table
from benchmarks.report.paper.markup import plain
from benchmarks.report.paper.spec import TableSpec, column_name
from benchmarks.report.text import for_markdown, for_spreadsheet
from benchmarks.statistics import ranks as statistics
from benchmarks.statistics.paired import DRAWS, mean_error
from benchmarks.statistics.ranks import FEWEST, Correlation, correlation, redrawn
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError

FEWEST_ROWS = 2


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Rows × columns whose numbers are all there.

    ``values`` columns×rows with more being better, ``drawn`` DRAWS×columns×rows; ``left_out`` rows lack a number,
    ``fixed`` cells have nothing that could be drawn.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    drawn: np.ndarray
    left_out: tuple[str, ...]
    fixed: int

    def correlations(self) -> list[tuple[int, int, Correlation]]:
        """τ of each pair of columns."""
        return [
            (one, other, correlation(self.values[one], self.values[other], (self.drawn[:, one], self.drawn[:, other])))
            for one, other in itertools.combinations(range(len(self.columns)), 2)
        ]


def ranked_columns(spec: TableSpec) -> list[int]:
    """Places of the columns that count: ``ranks`` of the layout, or the first of each task on each data set."""
    if spec.ranks:
        return [place for place, column in enumerate(spec.columns) if column_name(column) in spec.ranks]
    first: dict[tuple[str, str], int] = {}
    for place, column in enumerate(spec.columns):
        first.setdefault((column.task, column.data), place)
    return list(first.values())


def ranking_of(table: Table, places: Sequence[int]) -> Ranking:
    """The ranking over the columns at ``places``. InputError for fewer than two rows or columns that are whole."""
    names = [column_title(table, place) for place in places]
    lines = [(row, [cells[place] for place in places]) for row, cells in table.own]
    directed = [place for place in range(len(places)) if all(_known(line[place]) for _, line in lines)]
    empty = [place for place in directed if all(line[place].mean is None for _, line in lines)]
    kept = [place for place in directed if place not in empty]
    whole = [(row, line) for row, line in lines if all(line[place].mean is not None for place in kept)]
    if not kept:
        raise InputError(f"ranks need numbers, and no row has one in {', '.join(names)}")
    if len(whole) < FEWEST_ROWS:
        where = ", ".join(names[place] for place in kept)
        raise InputError(f"ranks need {FEWEST_ROWS} rows with numbers in all of {where}, and there are {len(whole)}")
    out = [row.row.title or row.row.label for row, line in lines if not any(line is one for _, one in whole)]
    rng = np.random.default_rng(0)
    values, drawn, fixed = [], [], 0
    for place in kept:
        column = [line[place] for _, line in whole]
        fixed += sum(mean_error(table.sides.of(cell))[0] is None for cell in column)
        one, draws = as_ranked(column, table.sides, rng)
        values.append(one)
        drawn.append(draws)
    titles = tuple(row.row.title or row.row.label for row, _ in whole)
    columns = tuple(names[place] for place in kept)
    return Ranking(titles, columns, np.array(values), np.stack(drawn, axis=1), tuple(out), fixed)


def as_ranked(column: Sequence[Cell], sides: Sides, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) numbers of a column as printed, more being better, and DRAWS×n on draws of images and seeds."""
    metric = column[0].metric
    sign = -1.0 if metric.higher_is_better is False else 1.0
    found = [sides.of(cell) for cell in column]
    values = np.round([sign * side.mean for side in found], metric.decimals)
    return values, np.round(sign * np.stack([redrawn(side, rng) for side in found], axis=1), metric.decimals)


def tau_of(x: Sequence[Cell], y: Sequence[Cell], sides: Sides) -> Correlation:
    """τ of two columns of the same rows, all of which have numbers."""
    rng = np.random.default_rng(0)
    (xs, drawn_x), (ys, drawn_y) = as_ranked(x, sides, rng), as_ranked(y, sides, rng)
    return correlation(xs, ys, (drawn_x, drawn_y))


def in_words(found: Correlation) -> str:
    """``Kendall τ = +0.62 [+0.10, +0.95], p = 0.01, n = 9``."""
    if math.isnan(found.tau):
        return f"Kendall τ undefined (n = {found.n})"
    interval = f" [{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]" if found.interval else ""
    return f"Kendall τ = {found.tau:+.2f}{interval}, p = {found.p:.2g}, n = {found.n}"


def _known(cell: Cell) -> bool:
    return cell.metric.higher_is_better is not None


def column_title(table: Table, place: int) -> str:
    """``VOC detection AP``: the group and heading, or the task's title and the metric's label."""
    column = table.spec.columns[place]
    label = plain(column.heading) or (table.own[0][1][place].metric.label if table.own else column.metric)
    return f"{plain(column.group) or TASKS[column.task].title} {label}"


def ranking_files(table: Table) -> dict[str, str]:
    """``NAME-ranks.md`` and ``.csv``."""
    ranking = ranking_of(table, ranked_columns(table.spec))
    own = statistics.ranks(ranking.values)
    intervals = statistics.mean_rank_intervals(ranking.drawn)
    chance = statistics.by_chance(own)
    pairs = ranking.correlations()
    name = f"{table.spec.name}-ranks"
    text = _markdown(ranking, own, intervals, chance, pairs)
    return {f"{name}.md": text, f"{name}.csv": _csv(ranking, own, intervals, pairs)}


def _markdown(
    ranking: Ranking,
    own: np.ndarray,
    intervals: Sequence[tuple[float, float]],
    chance: tuple[float, float],
    pairs: Sequence[tuple[int, int, Correlation]],
) -> str:
    rows = [
        [
            for_markdown(row),
            f"{own[:, place].mean():.2f}",
            f"[{low:.2f}, {high:.2f}]",
            *(f"{one:g}" for one in own[:, place]),
        ]
        for place, (row, (low, high)) in enumerate(zip(ranking.rows, intervals, strict=True))
    ]
    rows.sort(key=lambda row: float(row[1]))
    heads = ["", "mean rank", "95 % interval", *map(for_markdown, ranking.columns)]
    parts = [pd.DataFrame(rows, columns=heads).to_markdown(index=False, disable_numparse=True)]
    parts.append(" ".join(_sentences(ranking, chance)))
    if pairs:
        lines = [
            [for_markdown(ranking.columns[one]), for_markdown(ranking.columns[other]), *_shown(found)]
            for one, other, found in pairs
        ]
        table = pd.DataFrame(lines, columns=["", "", "Kendall τ-b", "95 % interval", "p", "n"])
        parts.append(table.to_markdown(index=False, disable_numparse=True))
        parts.append(
            f"n rows. Interval: {DRAWS:,} draws of the rows with replacement and, where they are known, of their test "
            f"images and seeds; none below {FEWEST} rows, where it holds the truth too seldom. p: two-sided, over the "
            "orders of the rows, not corrected for the number of pairs."
        )
    return "\n\n".join(parts) + "\n"


def _shown(found: Correlation) -> list[str]:
    if math.isnan(found.tau):
        return ["a column is constant", DASH, DASH, str(found.n)]
    interval = f"[{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]" if found.interval else DASH
    return [f"{found.tau:+.2f}", interval, f"{found.p:.3f}" if found.p >= 0.001 else "< 0.001", str(found.n)]


def _sentences(ranking: Ranking, chance: tuple[float, float]) -> list[str]:
    found = [
        f"Rank 1 is the best of {len(ranking.rows)}; rows printed equal share a rank. Mean over {len(ranking.columns)}",
        "columns, which are fixed: the interval is over test images where predictions were kept, and seeds or runs.",
        f"Were every column's order random, a mean rank would lie in [{chance[0]:.2f}, {chance[1]:.2f}] in 95 %.",
    ]
    if ranking.fixed:
        found.append(f"{ranking.fixed} numbers of single runs without predictions are taken as exact.")
    if ranking.left_out:
        found.append(f"Left out, for want of a number: {', '.join(map(for_markdown, ranking.left_out))}.")
    return found


def _csv(
    ranking: Ranking,
    own: np.ndarray,
    intervals: Sequence[tuple[float, float]],
    pairs: Sequence[tuple[int, int, Correlation]],
) -> str:
    rows = [
        {"kind": "mean rank", "row": for_spreadsheet(row), "value": own[:, place].mean(), "low": low, "high": high}
        | {"n": len(ranking.columns)}
        | {f"rank {column}": rank for column, rank in zip(ranking.columns, own[:, place], strict=True)}
        for place, (row, (low, high)) in enumerate(zip(ranking.rows, intervals, strict=True))
    ]
    rows += [
        {"kind": "tau-b", "column": ranking.columns[one], "other": ranking.columns[other], "value": found.tau}
        | {"low": found.interval[0] if found.interval else None, "high": found.interval[1] if found.interval else None}
        | {"p": found.p, "n": found.n}
        for one, other, found in pairs
    ]
    return pd.DataFrame(rows).to_csv(index=False)
