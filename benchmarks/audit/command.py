"""`python -m benchmarks audit TABLE.csv`: every cell of a table derived again, and the evidence behind it checked.

The report is results/tables/audit-<table>.md; stdout has a line per problem and a summary. Status 1 if the evidence
contradicts the table; not where something can no longer be checked, which is said.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from benchmarks.audit.finding import CHECKS, RANK, Finding, worst
from benchmarks.audit.numbers import Predictions, check_numbers
from benchmarks.audit.origins import Origins
from benchmarks.audit.runs import Known, Records
from benchmarks.audit.table import Row, read_table
from benchmarks.records import RunRecord
from benchmarks.report.text import for_markdown, shortened
from pretrain.common.files import replacing, results_dir

SHOWN = {"ok": "ok", "changed": "**changed**", "unknown": "?", "nothing": "–"}
Findings = dict[str, Finding]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditArguments:
    """Every cell of a table derived again from its records, and their predictions, checkpoints, data, settings, code.

    Status 1 if something contradicts the table; where something cannot be checked any more it is said.
    """

    table: tyro.conf.Positional[Path]
    """A table's .csv, under results/tables."""
    data: tuple[Path, ...] = ()
    """Data roots outside of results/data."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not hash checkpoints and data."""


def main(argv: list[str]) -> int:
    """``audit``: see AuditArguments."""
    arguments = tyro.cli(AuditArguments, args=argv, prog="python -m benchmarks audit")
    rows = read_table(arguments.table)
    found, notes = audit(rows, Origins(arguments.data, quick=arguments.quick))
    lines, total = [*problems(rows, found), *notes], summary(rows, found)
    target = results_dir() / "tables" / f"{shortened([f'audit-{arguments.table.stem}'], 80)[0]}.md"
    text = _markdown(arguments.table, rows, found, lines, total, quick=arguments.quick)
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
    print(*lines, *total, target, sep="\n")
    return 1 if any(one.verdict == "changed" for findings in found for one in findings.values()) else 0


def audit(rows: Sequence[Row], origins: Origins) -> tuple[list[Findings], list[str]]:
    """The findings of each row by check; and notes on runs that cells leave out, which contradict nothing."""
    records, predictions, known = Records(), Predictions(), Known()
    found: list[Findings] = []
    left: dict[tuple[str, str, str], list[Row]] = {}
    for number, row in enumerate(rows):
        runs = records.of(row)
        of = [record for record, _ in runs.attempts]
        if number % 100 == 99:
            print(f"{number + 1:,} of {len(rows):,} cells", file=sys.stderr)
        found.append(
            {
                "numbers": check_numbers(row, runs, known.labels),
                "records": runs.finding,
                "predictions": predictions.check(row, runs),
                **{name: _each(getattr(origins, name), of) for name in ("checkpoint", "data", "settings", "code")},
            }
        )
        if out := known.left_out(row, runs):
            left.setdefault((row.texts["checkpoint"], row.texts["column"], out), []).append(row)
    return found, [f"note: {_cells(some)}: {out}" for (_, _, out), some in left.items()]


def _cells(rows: Sequence[Row]) -> str:
    """The first of the rows, and how many others."""
    return rows[0].name + (f" and {len(rows) - 1} other cells" if len(rows) > 1 else "")


def _each(check: object, records: Sequence[RunRecord]) -> Finding:
    assert callable(check)
    return worst([check(record) for record in records])


def verdict(findings: Findings) -> str:
    """A row's: that of its worst check."""
    return worst(list(findings.values())).verdict


def problems(rows: Sequence[Row], found: Sequence[Findings]) -> list[str]:
    """A line per problem with the first cell that has it: contradictions first, then in the table's order."""
    cells: dict[tuple[str, Finding], list[Row]] = {}
    for row, findings in zip(rows, found, strict=True):
        for check, finding in findings.items():
            if finding.reason and finding.verdict in ("changed", "unknown"):
                cells.setdefault((check, finding), []).append(row)
    words = {"changed": "changed", "unknown": "cannot be checked"}
    ordered = sorted(cells.items(), key=lambda item: RANK[item[0][1].verdict])
    return [
        f"{words[finding.verdict]}: {_cells(some)}: {check}: {finding.reason}" for (check, finding), some in ordered
    ]


def summary(rows: Sequence[Row], found: Sequence[Findings]) -> list[str]:
    """Counts of the rows' verdicts, and of each check's."""
    total = Counter(map(verdict, found))
    lines = [
        f"{len(rows)} cells: {total['ok']} ok, {total['changed']} changed, "
        f"{total['unknown']} that cannot be checked in every part"
        + (f", {total['nothing']} without a number" if total["nothing"] else "")
    ]
    for check in CHECKS:
        counts = Counter(findings[check].verdict for findings in found)
        parts = [f"{counts['ok']} ok", f"{counts['changed']} changed", f"{counts['unknown']} cannot be checked"]
        parts += [f"{counts['nothing']} not checked"] if counts["nothing"] else []
        lines.append(f"  {check}: {', '.join(parts)}")
    return lines


def _markdown(
    table: Path,
    rows: Sequence[Row],
    found: Sequence[Findings],
    lines: Sequence[str],
    total: Sequence[str],
    *,
    quick: bool,
) -> str:
    keys = ("checkpoint", "column", "metric", "mean", "n")
    frame = pd.DataFrame(
        [
            [for_markdown(row.texts[key]) for key in keys] + [SHOWN[findings[check].verdict] for check in CHECKS]
            for row, findings in zip(rows, found, strict=True)
        ],
        columns=[*keys, *CHECKS],
    )
    about = "?: cannot be checked any more; –: nothing to check (no predictions kept for this metric"
    about += ", or left out by --quick)." if quick else ")."
    parts = [f"# Audit of {for_markdown(table.name)}", "", *(f"- {for_markdown(line.strip())}" for line in total), ""]
    parts += ["## Problems", "", *(f"- {for_markdown(line)}" for line in lines), ""] if lines else []
    parts += ["## Cells", "", frame.to_markdown(index=False, disable_numparse=True), "", about]
    return "\n".join(parts) + "\n"
