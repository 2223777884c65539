"""A table in its long form: a row per cell with the provenance, the difference and the reason where it is empty."""

from __future__ import annotations

import pandas as pd

from benchmarks.report.long_form import long_form
from benchmarks.report.paper.layout import Table, source_note, why_missing
from benchmarks.report.paper.markup import plain
from benchmarks.report.paper.own import heading_of
from benchmarks.report.text import for_spreadsheet

DIFFERENCE = ("delta", "delta_low", "delta_high", "delta_p", "delta_p_holm", "delta_levels")


def to_csv(table: Table) -> str:
    """Our cells in the order of rows and columns, then the published numbers; ``kind`` tells them apart."""
    frame = long_form(table.cells)
    places = [(row, place) for row, cells in table.own for place in range(len(cells))]
    frame.insert(0, "kind", "own")
    frame.insert(1, "row", [_text(row.row.title or row.row.label) for row, _ in places])
    frame.insert(2, "group", [_text(row.row.group) for row, _ in places])
    frame.insert(3, "heading", [_heading(table, place) for _, place in places])
    differences = [_difference(table, id(cell)) for cell in table.cells]
    for name in DIFFERENCE:
        frame[name] = pd.Series([one.get(name) for one in differences], dtype=object)
    frame["missing"] = [_text(why_missing(cell)) if cell.mean is None else "" for cell in table.cells]
    return pd.concat([frame, _published(table)], ignore_index=True).to_csv(index=False)


def _difference(table: Table, cell: int) -> dict[str, object]:
    if cell not in table.deltas:
        return {}
    delta = table.deltas[cell]
    low, high = delta.found.interval or (None, None)
    numbers = (delta.found.value, low, high, delta.found.p, delta.adjusted, " ".join(delta.found.levels))
    return dict(zip(DIFFERENCE, numbers, strict=True))


def _heading(table: Table, place: int) -> str:
    column = table.spec.columns[place]
    return _text(" ".join(filter(None, [plain(column.panel), plain(column.group), plain(column.heading)])))


def _published(table: Table) -> pd.DataFrame:
    rows = [
        {
            "kind": "published",
            "row": _text(one.row.title or one.row.method),
            "group": _text(one.row.group),
            "heading": _heading(table, place),
            "checkpoint": _text(one.row.method),
            "column": _text(heading_of(table.spec.columns[place])),
            "metric": table.spec.columns[place].metric,
            "mean": value.text,
            "unit": "%",
            "reference": _text(source_note(one)),
        }
        for one in table.outside
        for place, value in enumerate(one.values)
        if value is not None
    ]
    return pd.DataFrame(rows)


def _text(text: str) -> str:
    return for_spreadsheet(text)
