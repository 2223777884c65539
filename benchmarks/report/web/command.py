"""The command `report`: the runs of a profile or of a suite as one HTML file. Imports no torch.

python -m benchmarks report demo
python -m benchmarks report my_suite.toml --output report.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.profiles import PROFILES
from benchmarks.records import RunSpec
from benchmarks.report.cells import recorded
from benchmarks.report.tables import file_name
from benchmarks.report.web.board import board_of
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
    return _written(gathered(arguments.runs, facts), facts, output)


def gathered(runs: str | None, facts: Facts) -> Gathered:
    """The runs of a profile or of a suite, or of the only profile there is. InputError where nothing is recorded."""
    if runs in PROFILES or runs is None:
        profile = runs or _only_profile(facts)
        return Gathered(pairs=_recorded(profile, facts), profile=profile, name=profile)
    suite = find_suite(runs)
    labels = {label for row in suite.rows for label, _ in row.members()}
    pairs = [pair for pair in _recorded(suite.profile, facts) if not labels or pair[0] in labels]
    if not pairs:
        raise InputError(f"no recorded run is of a row of suite {suite.name}: run `python -m benchmarks suite` first")
    order = {label: number for number, label in enumerate(label for row in suite.rows for label, _ in row.members())}
    pairs.sort(key=lambda pair: order.get(pair[0], len(order)))
    return Gathered(pairs=pairs, profile=suite.profile, name=suite.name, suite=suite)


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


def html_of(found: Gathered, facts: Facts, live: Live | None = None) -> str:
    """The page; with ``live`` the one that `watch` serves."""
    groups, row_groups = found.groups, {}
    if suite := found.suite:
        members = {label: row.label for row in suite.rows if row.seeds for label, _ in row.members()}
        groups = members | dict(groups or {})
        row_groups = {row.label: row.group for row in suite.rows if row.group}
    board = board_of(found.pairs, facts.newest, groups, row_groups)
    published = published_rows(board, found.profile)
    return page(board, facts, published, name=found.name, profile=found.profile, live=live)


def _written(found: Gathered, facts: Facts, output: Path | None) -> Path:
    path = output or results_dir() / "tables" / f"{file_name(found.name)}-report.html"
    text = html_of(found, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
