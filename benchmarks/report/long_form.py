"""The long form of a table: a row per cell, with the provenance of its number. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmarks.records import RunRecord
from benchmarks.report import searches
from benchmarks.report.cells import Cell
from benchmarks.report.text import for_spreadsheet
from benchmarks.tasks import TASKS
from pretrain.common.provenance import short_commit


def long_form(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell, with the columns of ``source_of``."""
    sources: dict[int, dict[str, str]] = {}  # the metrics of a run share their records
    rows = []
    for cell in cells:
        source = sources.get(id(cell.records)) or sources.setdefault(id(cell.records), source_of(cell.records))
        numbers = {"mean": cell.mean, "std": cell.std, "n": len(cell.values), "failed": cell.failed}
        numbers["std_within"] = cell.within if cell.pooled else None
        row: dict[str, Any] = {"checkpoint": cell.label, "architecture": source["architecture"], "column": cell.column}
        row |= {"metric": cell.metric.key, **numbers, "unit": cell.metric.unit, **source}
        rows.append({key: for_spreadsheet(one) if isinstance(one, str) else one for key, one in row.items()})
    return pd.DataFrame(rows)


def source_of(records: Sequence[RunRecord]) -> dict[str, str]:
    """The provenance of a cell, in the order of the CSV's columns."""
    specs = [record.spec for record in records]
    return {
        "architecture": _joined(record.architecture or "" for record in records),
        "reference": _joined(TASKS[spec.task].reference for spec in specs),
        "profile": _joined(spec.profile for spec in specs),
        "task": _joined(f"{spec.task} v{spec.task_version}" for spec in specs),
        "protocol_digest": _joined(spec.protocol_digest[:12] for spec in specs),
        "precision": _joined(spec.precision for spec in specs),
        "num_gpus": _joined(str(spec.num_gpus) for spec in specs if spec.num_gpus is not None),
        "overrides": _joined(" ".join(spec.overrides) for spec in specs),
        "chosen": "; ".join(f"seed {one.spec.seed}: {words}" for one in records if (words := searches.chosen(one))),
        "data": _joined(spec.data_name for spec in specs),
        "data_fingerprint": _joined(spec.data_fingerprint[:12] for spec in specs),
        "test_images": _joined(str(record.test_images) for record in records if record.test_images is not None),
        "checkpoint_sha256": _joined(spec.checkpoint_sha256[:12] for spec in specs),
        "seeds": _joined(str(spec.seed) for spec in specs),
        "commit": _joined(short_commit(record.git) for record in records),
        "notes": "; ".join(dict.fromkeys(note for record in records for note in record.notes)),
        "imported": _joined(record.imported or "" for record in records),
        "runs": _joined(spec.spec_id for spec in specs),
    }


def _joined(values: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(values))
