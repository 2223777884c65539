"""The outcome of one check of one cell. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

Verdict = Literal["ok", "changed", "unknown", "nothing"]
RANK: dict[Verdict, int] = {"changed": 0, "unknown": 1, "ok": 2, "nothing": 3}  # a cell's is its first check's
CHECKS = ("numbers", "records", "predictions", "checkpoint", "data", "settings", "code")


@dataclasses.dataclass(frozen=True)
class Finding:
    """``verdict``: ok; changed: the evidence says otherwise; unknown: it cannot be checked any more; nothing to check.

    ``reason`` in one line for changed and unknown.
    """

    verdict: Verdict
    reason: str = ""


OK, NOTHING = Finding("ok"), Finding("nothing")


def changed(reason: str) -> Finding:
    """A contradiction."""
    return Finding("changed", reason)


def unknown(reason: str) -> Finding:
    """What cannot be checked any more."""
    return Finding("unknown", reason)


def worst(findings: list[Finding]) -> Finding:
    """The first of the findings with the worst verdict; nothing without any."""
    return min(findings, key=lambda one: RANK[one.verdict], default=NOTHING)
