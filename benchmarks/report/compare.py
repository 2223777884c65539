"""Two checkpoints of the records: first all that differs besides, then the paired differences. Imports no torch.

    python -m benchmarks compare supervised superinfo --profile demo

A name is a checkpoint's label, or that of a suite's row of several pretraining runs (their labels are ``NAME #SEED``).
Only runs of one column are compared: the same task, settings, data, precision and GPUs.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.records import ResultsStore, RunRecord, RunSpec, store_of
from benchmarks.report.cells import in_words, recorded
from benchmarks.report.text import for_markdown, for_spreadsheet, shortened
from benchmarks.sharing.imported import imports, newest_of
from benchmarks.statistics.paired import DRAWS, Difference, Side, difference, holm
from benchmarks.statistics.scored import on_draws, side_of
from benchmarks.tasks import TASKS, Metric
from pretrain.common.errors import InputError, printable
from pretrain.common.files import replacing, results_dir
from pretrain.common.provenance import short_commit

COLUMN = ("protocol_digest", "data_name", "data_fingerprint", "precision", "overrides", "num_gpus")
SHOWN = 12  # characters of a digest
Run = tuple[RunRecord, Path]
Drawn = Callable[[RunRecord, Path, bool], Mapping[str, np.ndarray]]
Pair = tuple[list[Run], list[Run], tuple[str, ...]]  # of both sides, and the fields in which their columns differ


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A metric of a column with its difference; ``unlike`` names the fields in which the sides' columns differ."""

    column: RunSpec
    metric: Metric
    found: Difference
    counts: tuple[str, str]
    unlike: tuple[str, ...] = ()
    adjusted: float | None = None


def compare(
    a: str, b: str, profile: str, tasks: Sequence[str] = (), *, sizes: bool = False, force: bool = False
) -> list[Path]:
    """Print the comparison on stderr and write results/tables/compare-A-B.{md,csv}; their paths.

    InputError where a name has no run, or the two have no column in common.
    """
    read = [ResultsStore().all_newest(), *map(newest_of, imports())]
    sides = [_runs(name, profile, tasks, read) for name in (a, b)]
    pairs, refused = common_columns(*sides, force=force)
    if not pairs:
        reason = f"; {refused[0]} (--force compares all the same)" if refused else ""
        raise InputError(f"{a} and {b} have no column of profile {profile} in common{reason}")
    rows = adjusted([one for pair in pairs for one in compared(*pair, sizes)])
    text = _markdown(a, b, profile, differences(a, b, pairs), refused, rows)
    print(f"\n{text}", file=sys.stderr)
    plain = re.sub(r"[^-.\w]+", "_", f"{a}-{b}")
    stem = results_dir() / "tables" / shortened([f"compare-{plain}"], 80)[0]
    written = []
    for suffix, content in (("md", text), ("csv", _frame(a, b, rows).to_csv(index=False))):
        path = stem.with_name(f"{stem.name}.{suffix}")
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def _runs(
    name: str, profile: str, tasks: Sequence[str], read: Iterable[Mapping[RunSpec, RunRecord]]
) -> dict[RunSpec, list[Run]]:
    """The finished runs of a name by column, with their records' files. ``read``: this machine's newest records, and
    those of each import."""
    member = re.compile(rf"{re.escape(name)}( #\d+)?")
    known: dict[str, None] = {}
    found: dict[RunSpec, list[Run]] = {}
    for newest in read:
        pairs = recorded(profile, newest=newest)
        known.update(dict.fromkeys(printable(label) for label, _ in pairs))
        for spec in (spec for label, spec in pairs if member.fullmatch(label)):
            if (not tasks or spec.task in tasks) and (run := store_of(newest[spec]).done(spec)):
                found.setdefault(spec.column(), []).append(run)
    if not found and not any(member.fullmatch(label) for label in known):
        raise InputError(f"profile {profile} has no run of {name}: it has {', '.join(known) or 'no checkpoint'}")
    return found


def common_columns(
    a: Mapping[RunSpec, list[Run]], b: Mapping[RunSpec, list[Run]], *, force: bool = False
) -> tuple[list[Pair], list[str]]:
    """Pairs of runs of one column, with ``force`` also of unlike columns of one task; and the refused ones in words."""
    pairs: list[Pair] = [(a[one], b[one], ()) for one in a if one in b]
    refused = []
    for one in (column for column in a if column not in b):
        others = [other for other in b if other.task == one.task and other not in a]
        for other in others[:1]:
            unlike = tuple(name for name in ("task_version", *COLUMN) if getattr(one, name) != getattr(other, name))
            if force:
                pairs.append((a[one], b[other], unlike))
            else:
                refused.append(f"{one.task}: {', '.join(_unlike(one, other, name) for name in unlike)}")
    return pairs, refused


def _unlike(one: RunSpec, other: RunSpec, name: str) -> str:
    values = (str(getattr(spec, name))[:SHOWN] for spec in (one, other))
    return f"{name.replace('_', ' ')} {' and '.join(value or 'none' for value in values)}"


def compared(
    a: list[Run], b: list[Run], unlike: tuple[str, ...] = (), sizes: bool = False, read: Drawn = on_draws
) -> list[Compared]:
    """The differences of a column's metrics that both sides have. ``read`` gives a run's metrics on the draws."""
    task = TASKS[a[0][0].spec.task]
    # Of unlike data the images are others: nothing can be paired.
    alone = "data_fingerprint" in unlike
    drawn = [[{} if alone else read(*run, sizes) for run in side] for side in (a, b)]
    rows = []
    for metric in _metrics(task.metrics, [*a, *b], sizes):
        made = [
            side_of([record for record, _ in side], values, metric.key)
            for side, values in zip((a, b), drawn, strict=True)
        ]
        if all(one.scores for one in made):
            counts = _count(made[0]), _count(made[1])
            column, found = a[0][0].spec.column(), difference(*made)
            rows.append(Compared(column=column, metric=metric, found=found, counts=counts, unlike=unlike))
    return rows


def _metrics(declared: Sequence[Metric], runs: Sequence[Run], sizes: bool) -> list[Metric]:
    """The metrics that the table shows; with ``sizes`` those of object sizes too."""
    chosen = [metric for metric in declared if metric.shown]
    keys = dict.fromkeys(key for record, _ in runs for key in record.metrics)
    if sizes:
        chosen += [Metric(key=key, label=key) for key in keys if key.rsplit("/", 1)[-1] in ("APs", "APm", "APl")]
    return list({metric.key: metric for metric in chosen if metric.key in keys}.values())


def _count(side: Side) -> str:
    """``5`` seeds, or ``3×5``."""
    sizes = {len(run) for run in side.scores}
    if len(side.scores) == 1:
        return str(sizes.pop())
    return f"{len(side.scores)}×{'–'.join(map(str, sorted(sizes)))}"


def adjusted(rows: Sequence[Compared]) -> list[Compared]:
    """With Holm's p-values over all rows that have one."""
    known = [number for number, row in enumerate(rows) if row.found.p is not None]
    values = dict(zip(known, holm([rows[number].found.p or 0.0 for number in known]), strict=True))
    return [dataclasses.replace(row, adjusted=values.get(number)) for number, row in enumerate(rows)]


def differences(a: str, b: str, pairs: Sequence[Pair]) -> list[str]:
    """What differs besides the weights: input, network, device, versions, commits; ``unlike`` columns by --force."""
    facts = [
        [_facts(record) for one, _, _ in pairs for record, _ in one],
        [_facts(record) for _, other, _ in pairs for record, _ in other],
    ]
    lines = []
    for heading in dict.fromkeys(name for side in facts for one in side for name in one):
        one, other = (dict.fromkeys(fact.get(heading, "unknown") for fact in side) for side in facts)
        if one.keys() != other.keys():
            lines.append(f"{heading}: {', '.join(one)} ({a}); {', '.join(other)} ({b})")
    for left, right, unlike in pairs:
        if unlike:
            specs = left[0][0].spec, right[0][0].spec
            lines.append(f"{specs[0].task}, compared by --force: {', '.join(_unlike(*specs, one) for one in unlike)}")
    return lines


def _facts(record: RunRecord) -> dict[str, str]:
    """The parts of a record that move numbers or tell checkpoints apart."""
    versions = record.environment.get("versions")
    return {
        "input": in_words(record.spec.input),
        "network": record.architecture or "unknown",
        "device": str(record.environment.get("device", "unknown")),
        "commit": short_commit(record.git),
        **({name: str(version) for name, version in versions.items()} if isinstance(versions, dict) else {}),
    }


def _markdown(
    a: str, b: str, profile: str, differ: Sequence[str], refused: Sequence[str], rows: Sequence[Compared]
) -> str:
    lines = [f"# {for_markdown(a)} and {for_markdown(b)}, profile {profile}", ""]
    lines += [f"- differs: {for_markdown(line)}" for line in differ] or ["- nothing differs but the weights"]
    lines += [f"- not compared: {for_markdown(line)}" for line in refused]
    table = pd.DataFrame([_cells(row) for row in rows], columns=["", a, b, "difference", "95 % interval", "p", "over"])
    table.columns = [for_markdown(str(name)) for name in table.columns]
    lines += ["", table.to_markdown(index=False, disable_numparse=True), "", _caption(rows)]
    return "\n".join(lines) + "\n"


def _cells(row: Compared) -> list[str]:
    found, decimals = row.found, row.metric.decimals
    title = f"{TASKS[row.column.task].title} {row.metric.label}" + (" ≠" if row.unlike else "")
    values = [f"{value:.{decimals}f} ({n})" for value, n in zip((found.a, found.b), row.counts, strict=True)]
    if found.interval is None or row.adjusted is None:
        return [for_markdown(title), *values, f"{found.value:+.{decimals}f}", "–", "–", "one run each, nothing kept"]
    difference = f"{found.value:+.{decimals}f}"
    if row.adjusted < 0.05:
        difference = f"**{difference}**"
    interval = f"[{found.interval[0]:+.{decimals}f}, {found.interval[1]:+.{decimals}f}]"
    p = "< 0.001" if row.adjusted < 0.001 else f"{row.adjusted:.3f}"
    return [for_markdown(title), *values, difference, interval, p, ", ".join(found.levels)]


def _caption(rows: Sequence[Compared]) -> str:
    sentences = [
        "Means (downstream seeds; of several pretraining runs runs×seeds). Intervals and p are over the levels in",
        f"the last column: test images by a paired bootstrap of {DRAWS:,} draws, seeds and pretraining runs by the",
        "variance of their means (benchmarks/statistics/paired.py). p is Holm's over the rows of this table; bold:",
        "below 0.05.",
    ]
    if not any("runs" in row.found.levels for row in rows):
        sentences.append(
            "One pretraining run on a side: differences between pretraining runs are not in the intervals."
        )
    if any(row.unlike for row in rows):
        sentences.append("≠: the sides' settings or data differ, as said above.")
    return " ".join(sentences)


def _frame(a: str, b: str, rows: Iterable[Compared]) -> pd.DataFrame:
    """The long form: a row per metric."""
    records = [
        {
            "a": for_spreadsheet(a),
            "b": for_spreadsheet(b),
            "task": row.column.task,
            "data": for_spreadsheet(row.column.data_name),
            "metric": row.metric.key,
            "mean_a": row.found.a,
            "mean_b": row.found.b,
            "n_a": row.counts[0],
            "n_b": row.counts[1],
            "difference": row.found.value,
            "low": row.found.interval[0] if row.found.interval else None,
            "high": row.found.interval[1] if row.found.interval else None,
            "p": row.found.p,
            "p_holm": row.adjusted,
            "error_of_images": row.found.error.images if row.found.error else None,
            "error_of_seeds_or_runs": row.found.error.between if row.found.error else None,
            "levels": " ".join(row.found.levels),
            "unlike": " ".join(row.unlike),
        }
        for row in rows
    ]
    return pd.DataFrame(records)
