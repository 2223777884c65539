"""Which rows of a column are not told apart from its best one, at a family-wise level of 5 %.

The best row is chosen by the data, so that its lead over equal rows is larger than that of a row named beforehand:
every pair of rows counts as compared, and the p-values of paired.py are multiplied by the number of pairs (Bonferroni).
Tukey's and Games and Howell's tests find more, but mark up to 17 % of the columns of equal rows with three seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.statistics.paired import Side, difference

LEVEL = 0.05
ENOUGH = 2  # seeds or pretraining runs, of a row that may be best or told apart from it


def told_apart(sides: Sequence[Side], higher_is_better: bool = True) -> tuple[int, set[int]] | None:
    """The best row's number and those of the rows that it leads beyond chance; None without ENOUGH values in it.

    A row with fewer values than ENOUGH is never told apart.
    """
    if len(sides) < 2:
        return None
    sign = 1 if higher_is_better else -1
    best = max(range(len(sides)), key=lambda number: sign * sides[number].mean)
    if _values(sides[best]) < ENOUGH:
        return None
    apart = set()
    for number, side in enumerate(sides):
        if number != best and _values(side) >= ENOUGH and _p(sides[best], side, len(sides)) < LEVEL:
            apart.add(number)
    return best, apart


def _values(side: Side) -> int:
    """Pretraining runs, of one run its seeds."""
    return len(side.scores) if len(side.scores) > 1 else len(side.scores[0])


def _p(best: Side, other: Side, rows: int) -> float:
    found = difference(best, other)
    assert found.p is not None
    return min(1.0, found.p * math.comb(rows, 2))
