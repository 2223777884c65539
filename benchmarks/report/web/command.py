"""The command `report`: the runs of a profile or of a suite as one HTML file. Imports no torch.

python -m benchmarks report demo
python -m benchmarks report my_suite.toml --output report.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.profiles import PROFILES
from benchmarks.records import RunSpec
from benchmarks.report.cells import recorded
from benchmarks.report.tables import file_name
from benchmarks.report.web.board import board_of
from benchmarks.report.web.outside import published_rows
from benchmarks.report.web.page import page
from benchmarks.report.web.runs import Facts, read_facts
from benchmarks.suites import Suite, find_suite
from pretrain.common.errors import InputError
from pretrain.common.files import replacing, results_dir

if TYPE_CHECKING:
    from benchmarks.arguments import ReportArguments

Pair = tuple[str, RunSpec]


def report(arguments: ReportArguments) -> Path:
    """Write the page; its path. InputError where nothing is recorded, or the file cannot be a page."""
    output = arguments.output
    if output is not None and (output.is_dir() or output.suffix.lower() not in (".html", ".htm")):
        raise InputError(f"--output {output}: give the page's file, such as report.html")
    facts = read_facts()
    if arguments.runs in PROFILES or arguments.runs is None:
        profile = arguments.runs or _only_profile(facts)
        return write_report(_recorded(profile, facts), profile, profile, facts, output=output)
    suite = find_suite(arguments.runs)
    labels = {label for row in suite.rows for label, _ in row.members()}
    pairs = [pair for pair in _recorded(suite.profile, facts) if not labels or pair[0] in labels]
    if not pairs:
        raise InputError(f"no recorded run is of a row of suite {suite.name}: run `python -m benchmarks suite` first")
    order = {label: number for number, label in enumerate(label for row in suite.rows for label, _ in row.members())}
    pairs.sort(key=lambda pair: order.get(pair[0], len(order)))
    return write_report(pairs, suite.profile, suite.name, facts, suite=suite, output=output)


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
    facts = facts or read_facts()
    row_groups = {}
    if suite:
        members = {label: row.label for row in suite.rows if row.seeds for label, _ in row.members()}
        groups = members | dict(groups or {})
        row_groups = {row.label: row.group for row in suite.rows if row.group}
    board = board_of(pairs, facts.newest, groups, row_groups)
    text = page(board, facts, published_rows(board, profile), name=name, profile=profile)
    path = output or results_dir() / "tables" / f"{file_name(name)}-report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
