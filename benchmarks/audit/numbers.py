"""A cell's numbers and provenance against its records, and its records' numbers against their predictions.

Imports no torch.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.audit.finding import NOTHING, OK, Finding, changed, unknown, worst
from benchmarks.audit.runs import Runs, within_results
from benchmarks.audit.table import Row
from benchmarks.records import RunRecord, files_of
from benchmarks.report.cells import Cell
from benchmarks.report.long_form import source_of
from benchmarks.report.published import REFERENCE
from benchmarks.report.text import for_spreadsheet
from benchmarks.sharing.archive import is_kept
from benchmarks.statistics.scored import EQUAL, scored
from benchmarks.tasks import TASKS, Metric
from pretrain.common.errors import InputError, printable

_FROM_CODE = ("reference",)  # words about a task, which may be put better since
_ROUNDING = 1e-9  # relative: sums differ in their last bits between versions of Python


def check_numbers(row: Row, runs: Runs, labels: dict[str, set[str]]) -> Finding:
    """Mean, deviations, n, unit, names and provenance against the records."""
    if row.texts.get("kind") == "published":
        return _published(row)
    if not row.runs:
        return NOTHING if not row.texts["mean"] else changed(f"mean {row.texts['mean']}, but no run is named")
    if len(runs.attempts) < len(row.runs):
        return unknown(f"{len(row.runs) - len(runs.attempts)} of its {len(row.runs)} runs are not here")
    records = [record for record, _ in runs.attempts]
    return worst([_values(row, records), _names(row, records, labels), _provenance(row, records)])


@functools.cache
def _reference() -> dict[str, set[str]]:
    """The values of results/reference/published.csv by method."""
    found: dict[str, set[str]] = {}
    with REFERENCE.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            found.setdefault(for_spreadsheet(line["method"]), set()).add(line["value"])
    return found


def _published(row: Row) -> Finding:
    """A published row, of a paper's layout, against the reference file; several values of a source have " / "."""
    method, values = row.texts["checkpoint"], row.texts["mean"].split(" / ")
    known = _reference().get(method, set())
    if absent := [value for value in values if value not in known]:
        return changed(f"no published number of {printable(method)[:60]} is {printable(absent[0])[:20]}")
    return OK


def _values(row: Row, records: Sequence[RunRecord]) -> Finding:
    key = row.texts["metric"]
    if row.texts["mean"] and not any(key in record.metrics for record in records):
        return changed(f"metric {printable(key)[:40]} is not in its records")
    metric = Metric(key=key, label=key)
    several = len({record.spec.checkpoint_sha256 for record in records}) > 1
    # A row of one pretraining run may be one of a suite's, whose values are means over downstream seeds.
    cells = [Cell("", "", metric, tuple(records), 0, (), pooled) for pooled in ((True,) if several else (False, True))]
    found = [_unlike(row, cell) for cell in cells]
    if not all(found):
        return OK
    values = ", ".join(f"seed {one.spec.seed}: {_number(one.metrics.get(key))}" for one in records[:5])
    return changed(f"{found[0]} from its records ({values}{' …' if len(records) > 5 else ''})")


def _unlike(row: Row, cell: Cell) -> str:
    """The first number of the row that is not the cell's, ``mean 1.2 in the table, 1.3``; "" if all are."""
    numbers = {
        "mean": cell.mean,
        "std": cell.std,
        "n": len(cell.values),
        "std_within": cell.within if cell.pooled else None,
    }
    for name, value in numbers.items():
        if (text := row.texts.get(name)) is not None and not _equal(text, value):
            return f"{name} {printable(text)[:20] or 'none'} in the table, {_number(value)}"
    return ""


def _equal(text: str, value: float | None) -> bool:
    if value is None or not text:
        return value is None and not text
    try:
        return math.isclose(float(text), value, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    except ValueError:
        return False


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _names(row: Row, records: Sequence[RunRecord], labels: dict[str, set[str]]) -> Finding:
    """The names of the row and of its column."""
    spec = records[0].spec
    task = TASKS.get(spec.task)
    if task and not row.texts["column"].startswith(for_spreadsheet(task.title)):
        return changed(f"column {printable(row.texts['column'])[:40]} shows runs of {spec.task} ({task.title})")
    label = row.texts["checkpoint"]
    for record in records:
        base, _, seed = record.label.rpartition(" #")
        own = {record.label, *([base] if seed.isdigit() else [])}
        own |= labels.get(record.spec.checkpoint_sha256, set()) if not record.imported else set()
        if any(_shows(label, name) for name in own):
            continue
        others = [sha for sha, names in labels.items() if sha != record.spec.checkpoint_sha256 and label in names]
        said = f"run {record.spec.spec_id} was recorded as {printable(record.label)[:60]}"
        return changed(f"{said}, and another checkpoint is {printable(label)[:60]}") if others else unknown(said)
    return OK


def _shows(label: str, name: str) -> bool:
    """Whether a table may show ``name`` as ``label``: escaped, cut, or with a checkpoint's digits in brackets."""
    shown = for_spreadsheet(name.strip())
    return label == shown or label.startswith(f"{shown} [") or ("…" in label and label.startswith(shown[:100]))


def _provenance(row: Row, records: Sequence[RunRecord]) -> Finding:
    """The row's other columns, as far as records say them."""
    if any(record.spec.task not in TASKS for record in records):
        return unknown(f"the task {records[0].spec.task} is not known here: give --plugin if it is yours")
    for name, value in source_of(records).items():
        text = row.texts.get(name)
        if text is not None and name not in _FROM_CODE and text != for_spreadsheet(value):
            return changed(
                f"{name} {printable(text)[:40] or 'none'} in the table, {value[:40] or 'none'} in its records"
            )
    return OK


class Predictions:
    """Metrics recomputed from kept predictions and matches; each attempt's are read once."""

    def __init__(self) -> None:
        self._found: dict[Path, dict[str, Finding]] = {}

    def check(self, row: Row, runs: Runs) -> Finding:
        """The row's metric of every run. Nothing where nothing kept gives this metric."""
        key = row.texts["metric"]
        each = [self._of(record, path) for record, path in runs.attempts]
        return worst([found.get(key, found.get("", NOTHING)) for found in each])

    def _of(self, record: RunRecord, path: Path) -> dict[str, Finding]:
        """A finding per metric that the files give; under "" where they cannot be read or are gone."""
        if path not in self._found:
            self._found[path] = self._recomputed(record, path)
        return self._found[path]

    @staticmethod
    def _recomputed(record: RunRecord, path: Path) -> dict[str, Finding]:
        import numpy as np

        place = within_results(str(files_of(path)))
        if lost := [name for name in record.files if is_kept(name) and not (files_of(path) / name).is_file()]:
            return {"": unknown(f"{place}/{lost[0]} is gone")}
        found: dict[str, Finding] = {}
        try:
            for one in scored(path, sizes=any(key.endswith("/APs") for key in record.metrics)):
                if record.test_images not in (None, one.images):
                    return {"": changed(f"{place} has predictions of {one.images} images, not {record.test_images}")}
                for key, value in one.of(np.ones(one.images, dtype=np.int64)).items():
                    noted = record.metrics.get(key)
                    if noted is not None and not abs(value - noted) < EQUAL:
                        found[key] = changed(f"{key} of {place} is {value:.6g}, its record says {noted:.6g}")
                    elif noted is not None:
                        found[key] = OK
        except (InputError, OSError, ValueError, IndexError) as error:
            return {"": changed(f"{place}: its predictions cannot be read ({within_results(str(error))[:150]})")}
        return found
