"""The command `report`: the runs of a profile or of a suite as one HTML file. Imports no torch.

python -m benchmarks report demo
python -m benchmarks report my_suite.toml --output report.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.profiles import PROFILES
from benchmarks.records import RunSpec
from benchmarks.report.cells import recorded
from benchmarks.report.members import pooled_groups
from benchmarks.report.tables import file_name
from benchmarks.report.web.board import board_of
from benchmarks.report.web.expected import with_expected
from benchmarks.report.web.outside import published_rows
from benchmarks.report.web.page import Live, page
from benchmarks.report.web.runs import Facts, read_facts
from benchmarks.suites import Suite, find_suite
from pretrain.common.errors import InputError
from pretrain.common.files import replacing, results_dir

if TYPE_CHECKING:
    from benchmarks.arguments import ReportArguments

Pair = tuple[str, RunSpec]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gathered:
    """The runs of a page. ``name`` is its title; ``suite`` has the order and the groups of rows, if it is of one."""

    pairs: Sequence[Pair]
    profile: str
    name: str
    suite: Suite | None = None
    groups: Mapping[str, str] | None = None


def report(arguments: ReportArguments) -> Path:
    """Write the page; its path. InputError where nothing is recorded, or the file cannot be a page."""
    output = arguments.output
    if output is not None and (output.is_dir() or output.suffix.lower() not in (".html", ".htm")):
        raise InputError(f"--output {output}: give the page's file, such as report.html")
    facts = read_facts()
    return _written(gathered(arguments.runs, facts), facts, output, pictures=not arguments.without_images)


def gathered(runs: str | None, facts: Facts) -> Gathered:
    """The runs of a profile or of a suite, or of the only profile there is. InputError where nothing is recorded."""
    if runs in PROFILES or runs is None:
        profile = runs or _only_profile(facts)
        return Gathered(pairs=_recorded(profile, facts), profile=profile, name=profile)
    suite = find_suite(runs)
    there = _recorded(suite.profile, facts)
    groups = members_of(suite, there, facts)
    order = {label: number for number, row in enumerate(suite.rows) for label in (row.label, *dict(row.members()))}
    order = {label: order[row] for label, row in groups.items() if row in order} | order
    pairs = [pair for pair in there if not order or pair[0] in order]
    if not pairs:
        raise InputError(f"no recorded run is of a row of suite {suite.name}: run `python -m benchmarks suite` first")
    pairs.sort(key=lambda pair: order.get(pair[0], len(order)))
    return Gathered(pairs=pairs, profile=suite.profile, name=suite.name, suite=suite, groups=groups)


def members_of(suite: Suite, pairs: Sequence[Pair], facts: Facts) -> dict[str, str]:
    """Label → label of its row, for the rows of a suite that have several pretraining runs: in the suite's file, or
    because it ran with --pretrain-seeds."""
    groups = pooled_groups(pairs, facts.newest)
    rows = {row.label for row in suite.rows if row.preset}
    return {label: row for label, row in groups.items() if row in rows or not suite.rows}


def _only_profile(facts: Facts) -> str:
    there = sorted({spec.profile for spec in facts.newest})
    if len(there) != 1:
        has = f"the records are of {', '.join(there)}: name one" if there else "nothing is recorded"
        raise InputError(f"report: {has}")
    return there[0]


def _recorded(profile: str, facts: Facts) -> list[Pair]:
    pairs = recorded(profile, newest=facts.newest)
    if not pairs:
        raise InputError(f"no recorded run of profile {profile} under {results_dir() / 'runs'}")
    return pairs


def write_report(
    pairs: Sequence[Pair],
    profile: str,
    name: str,
    facts: Facts | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    suite: Suite | None = None,
    output: Path | None = None,
) -> Path:
    """Write the page of ``pairs`` to ``output``, by default results/tables/NAME-report.html; its path. OSError."""
    found = Gathered(pairs=pairs, profile=profile, name=name, suite=suite, groups=groups)
    return _written(found, facts or read_facts(), output)


def html_of(found: Gathered, facts: Facts, live: Live | None = None, *, pictures: bool = True) -> str:
    """The page; with ``live`` the one that `watch` serves."""
    groups, row_groups = found.groups, {}
    if suite := found.suite:
        members = {label: row.label for row in suite.rows if row.seeds for label, _ in row.members()}
        groups = members | dict(groups or {})
        row_groups = {row.label: row.group for row in suite.rows if row.group}
    board = board_of(found.pairs, facts.newest, groups, row_groups)
    board = with_expected(board, suite) if suite else board
    published = published_rows(board, found.profile)
    about: dict[str, Any] = {"name": found.name, "profile": found.profile, "suite": found.suite}
    return page(board, facts, published, **about, live=live, pictures=pictures)


def _written(found: Gathered, facts: Facts, output: Path | None, *, pictures: bool = True) -> Path:
    path = output or results_dir() / "tables" / f"{file_name(found.name)}-report.html"
    text = html_of(found, facts, pictures=pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
