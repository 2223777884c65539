"""A detector's search in a table: the values tried, the held-out images, each run's choice. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import RunRecord
from pretrain.common.errors import InputError
from transfer.detection.search import search_of


def chosen(record: RunRecord) -> str:
    """``SOLVER.BASE_LR 0.02``, the choice of a run with a search; empty for others."""
    words = _searched(record).get("chosen")
    return " ".join(map(str, words)) if isinstance(words, list) else ""


def sentences(records: Sequence[RunRecord]) -> str:
    """``voc-fpn-24k: each run chose SOLVER.BASE_LR of 0.01, 0.02 on 80 held-out …. `` per task and search."""
    sizes: dict[tuple[str, str], set[int]] = {}
    for record in records:
        try:
            search = search_of(record.spec.overrides)
        except InputError:  # another's record
            continue
        if search is None:
            continue
        values = " and ".join(f"{key} of {', '.join(search.values[key])}" for key in sorted(search.values))
        held = _searched(record).get("held_out")
        found = sizes.setdefault((record.spec.task, values), set())
        if isinstance(held, dict) and isinstance(held.get("images"), int):
            found.add(held["images"])
    return "".join(
        f"{task}: each run chose {values} on {_range(found)} held-out training images, then trained on all. "
        for (task, values), found in sizes.items()
    )


def _range(sizes: set[int]) -> str:
    return "some" if not sizes else str(min(sizes)) if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"


def _searched(record: RunRecord) -> dict[str, object]:
    found = record.config.get("search")
    return found if isinstance(found, dict) else {}
