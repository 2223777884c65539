"""The choice of SuperInfo's λa and λb from a suite's table, by a rule that was written before the numbers.

    python -m benchmarks.claims.coefficients results/tables/coefficients-own.csv [--suite coefficients]

Of each form (a group of the suite's rows with the settings λa and λb), on HELD-OUT TRAINING IMAGES (docs/claims.md):

1. The best point has the highest mean linear top-1.
2. A point is its equal if it is behind by at most one standard error of the difference of the two. A point of several
   pretraining runs has their standard deviation / √n, a point of one run the binomial standard error of its accuracy on
   the test images.
3. Among the equals, the best included, the smallest |λa| + |λb| is chosen; of several such, the one of the highest
   linear top-1, then the first in the suite.

Points without a number (a pretraining run that collapsed) are named and never chosen. Imports no torch.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.suites import Suite, find_suite
from pretrain.common.errors import InputError, printable, run_cli

TASK, METRIC, UNIT = "linear", "top1", "%"
SETTINGS = ("λa", "λb")
COLUMNS = ("checkpoint", "metric", "mean", "std", "n", "unit", "task", "data", "test_images")
ROUNDING = 1e-9  # of the differences and of |λa| + |λb|: 0.1 + 0.2 is not 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Print, for each form of a suite, the table of its points and the chosen coefficients."""

    table: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="TABLE.csv")]]
    """Long-form table that the suite wrote, on held-out training images."""
    suite: str = "coefficients"
    """Suite whose rows these are: a name, or the path of a .toml file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Linear top-1 of one row, in percent: mean over ``n`` pretraining runs, their standard deviation (n > 1)."""

    mean: float
    std: float | None
    n: int
    test_images: int
    data: str

    @property
    def variance(self) -> float:
        """Squared standard error of the mean."""
        if self.n > 1 and self.std is not None:
            return self.std**2 / self.n
        share = self.mean / 100
        return 100**2 * share * (1 - share) / self.test_images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A row of the suite: its form, its coefficients, and its score, None where it has none."""

    label: str
    form: str
    a: float
    b: float
    score: Score | None

    @property
    def size(self) -> float:
        """|λa| + |λb|."""
        return abs(self.a) + abs(self.b)


def read_scores(path: Path) -> dict[str, Score]:
    """Row label → score, from a suite's long-form CSV. InputError for another file, another unit, several data sets."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            header, rows = reader.fieldnames or [], list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}): give the CSV in results/tables that a suite wrote"
        ) from None
    if lacking := [name for name in COLUMNS if name not in header]:
        raise InputError(f"{path} has no column {lacking[0]}: give the CSV in results/tables that a suite wrote")
    found: dict[str, Score] = {}
    for number, row in enumerate(rows, 2):
        task = (row["task"] or "").split(" ")[0]
        if task != TASK or row["metric"] != METRIC or not row["mean"]:
            continue
        if row["unit"] != UNIT:
            raise InputError(f"{path}, line {number}: {TASK} {METRIC} is in {row['unit']!r}, not {UNIT}: run it again")
        if row["checkpoint"] in found:
            raise InputError(f"{path}, line {number}: {row['checkpoint']} has two numbers of {TASK}: keep one data set")
        found[row["checkpoint"]] = _score(path, number, row)
    if not found:
        raise InputError(f"{path} has no {TASK} {METRIC}: run the suite to its end first")
    if len(names := {score.data for score in found.values()}) > 1:
        raise InputError(f"{path} has numbers of {' and '.join(sorted(names))}: they cannot be compared")
    return found


def _score(path: Path, number: int, row: dict[str, str]) -> Score:
    """The numbers of a line of the table. InputError for one that is none."""
    try:
        score = Score(
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
            n=int(row["n"]),
            test_images=int(row["test_images"]),
            data=row["data"],
        )
        if not (0 <= score.mean <= 100 and math.isfinite(score.std or 0.0) and score.n > 0 and score.test_images > 0):
            raise ValueError("a number is out of range")
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, line {number}: {error}: make the table again") from None
    return score


def points_of(suite: Suite, scores: dict[str, Score]) -> list[Point]:
    """The suite's rows with both settings, in its order. InputError where it has none, or the table none of them."""
    points = [
        Point(label=row.label, form=row.group, a=row.at["λa"], b=row.at["λb"], score=scores.get(row.label))
        for row in suite.rows
        if set(SETTINGS) <= row.at.keys()
    ]
    if not points:
        raise InputError(
            f"suite {suite.name} has no row with the settings {' and '.join(SETTINGS)}: give another --suite"
        )
    if all(point.score is None for point in points):
        raise InputError(f"the table has no row of suite {suite.name}: give --suite, the one that made it")
    return points


def standard_error(one: Score, other: Score) -> float:
    """Of the difference of two rows' means, in percentage points."""
    return math.sqrt(one.variance + other.variance)


def equals(points: Sequence[Point]) -> list[Point]:
    """The points that rule 2 calls equal to the best, the best first; [] where none has a score."""
    scored = sorted((point for point in points if point.score), key=lambda point: -_mean(point))
    if not scored:
        return []
    best = scored[0].score
    assert best is not None
    return [
        point
        for point in scored
        if point is scored[0]
        or (point.score and best.mean - point.score.mean <= standard_error(best, point.score) + ROUNDING)
    ]


def chosen(points: Sequence[Point]) -> Point | None:
    """The point of one form that the rule chooses; None where none has a score."""
    order = {id(point): place for place, point in enumerate(points)}
    found = equals(points)
    if not found:
        return None
    least = min(point.size for point in found)
    smallest = [point for point in found if point.size <= least + ROUNDING]
    return min(smallest, key=lambda point: (-_mean(point), order[id(point)]))


def _mean(point: Point) -> float:
    return point.score.mean if point.score else -math.inf


def report(form: str, points: Sequence[Point]) -> str:
    """Markdown: the points of a form from the best down, and the choice in a sentence."""
    found, choice = equals(points), chosen(points)
    lines = [
        f"## {form}",
        "",
        "| λa | λb | linear top-1 | n | behind | one standard error | |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in sorted(points, key=lambda one: -_mean(one)):
        coefficients = f"| {point.a:g} | {point.b:g} |"
        if point.score is None:
            lines.append(f"{coefficients} – | 0 | – | – | no number |")
            continue
        best = found[0].score
        assert best is not None
        behind, error = best.mean - point.score.mean, standard_error(best, point.score)
        spread = f" ± {point.score.std:.1f}" if point.score.std is not None else ""
        verdict = "**chosen**" if point is choice else "equal" if point in found else ""
        number = f"{point.score.mean:.1f}{spread} | {point.score.n}"
        lines.append(f"{coefficients} {number} | {behind:.1f} | {error:.1f} | {verdict} |")
    if choice is None:
        return "\n".join([*lines, "", f"{form}: no point has a number, nothing is chosen.", ""])
    lines += [
        "",
        f"{form}: λa {choice.a:g}, λb {choice.b:g}, the smallest |λa| + |λb| of {len(found)} equal to the best.",
    ]
    return "\n".join([*lines, ""])


def main(argv: list[str]) -> int:
    """Print the choice per form; a warning where the images are those that the demo's tables show."""
    arguments = tyro.cli(Arguments, prog="python -m benchmarks.claims.coefficients", description=__doc__, args=argv)
    suite, scores = find_suite(arguments.suite), read_scores(arguments.table)
    points = points_of(suite, scores)
    first = next(iter(scores.values()))
    if first.data in ("emoji-demo", "emoji-smoke"):
        print(
            f"warning: {first.data}'s test images are its val images, which choose nothing: docs/claims.md",
            file=sys.stderr,
        )
    print(printable(f"{TASK} {METRIC} on the {first.test_images:,} test images of {first.data}") + "\n")
    for form in dict.fromkeys(point.form for point in points):
        print(report(form, [point for point in points if point.form == form]))
    return 0


if __name__ == "__main__":
    run_cli(main)
