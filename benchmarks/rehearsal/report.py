"""The summary of a rehearsal: a row per task with its seconds in each variant, then the failures with their logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.rehearsal.machine import Finding
from benchmarks.rehearsal.steps import Outcome
from benchmarks.tasks import Task
from pretrain.common.errors import printable


@dataclasses.dataclass(frozen=True)
class Line:
    """A step that is no task in a variant."""

    name: str
    outcome: Outcome


def summary(
    tasks: Sequence[Task],
    outcomes: Mapping[str, Mapping[str, Outcome | None]],
    lines: Sequence[Line],
    findings: Sequence[Finding],
) -> tuple[str, int]:
    """The text, and how many steps failed. ``outcomes``: by variant, then by task."""
    variants = list(outcomes)
    rows = [["task", *variants]]
    rows += [[task.name, *(cell(outcomes[way].get(task.name)) for way in variants)] for task in tasks]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table.insert(1, "  ".join("─" * width for width in widths))
    others = [f"{cell(one.outcome):>12}  {one.name}" for one in lines]
    bad = [(f"{name} ({way})", one) for way in variants for name, one in outcomes[way].items() if one and one.reason]
    bad += [(one.name, one.outcome) for one in lines if one.outcome.reason]
    failures = [printable(f"FAILED {name}: {one.reason}{f' (log: {one.log})' if one.log else ''}") for name, one in bad]
    found = [str(one) for one in findings if one.level != "ok"]
    failed = len(bad) + sum(one.level == "failed" for one in findings)
    passed = sum(bool(one and not one.reason) for way in variants for one in outcomes[way].values())
    end = f"{passed} runs passed, {failed} steps failed" if failed else f"all {passed} runs passed"
    return "\n".join([*table, "", *others, *([""] if found else []), *found, "", *failures, end]), failed


def cell(outcome: Outcome | None) -> str:
    """``12 s``, ``ok``, ``FAILED``, or – where the variant has no part in the task."""
    if outcome is None:
        return "–"
    if outcome.reason:
        return "FAILED"
    return "ok" if outcome.seconds is None else f"{outcome.seconds:.0f} s"
