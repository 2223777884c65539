"""The board as one HTML file: the template, its style and script read in, the runs' facts as a JSON island.

The page makes no request: its content security policy forbids all of them, and allows no script or style but the page's
own, by their hashes. Imports no torch.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.report.captions import caption
from benchmarks.report.web.board import Board, Column
from benchmarks.report.web.charts import as_json
from benchmarks.report.web.gallery import charts_of
from benchmarks.report.web.outside import PublishedRows
from benchmarks.report.web.pairs import pairs_of
from benchmarks.report.web.runs import Facts, used
from benchmarks.report.web.vega import engine, packed
from benchmarks.suites import Suite

HERE = Path(__file__).parent
UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


SCRIPTS = ("page.js", "pairs.js", "charts.js")


@dataclasses.dataclass(frozen=True)
class Live:
    """Of a page that `watch` serves: the version of its records, and how often it asks for a newer one."""

    version: str
    poll: float  # seconds


def page(
    board: Board,
    facts: Facts,
    published: PublishedRows,
    *,
    name: str,
    profile: str,
    live: Live | None = None,
    pictures: bool = True,
    suite: Suite | None = None,
) -> str:
    """The HTML of the report ``name``; equal for equal records. ``pictures``: with thumbnails of test images."""
    pairs = pairs_of(board, profile, pictures=pictures)
    sections = charts_of(board, facts, suite)
    synthetic = sorted(
        {
            f"{record.spec.data_name}: {record.data['description']}"
            for cell in board.cells
            for record in cell.records
            if record.data.get("synthetic")
        }
    )
    return _rendered(
        "page.html",
        SCRIPTS,
        live,
        name=name,
        profile=profile,
        board=board,
        spans=spans(board.columns),
        published=published,
        synthetic=synthetic,
        caption=caption(board.cells, profile),
        missing=missing(board),
        island=Markup(island(content(board, facts))),  # escaped there
        pairs=pairs,
        pairs_island=Markup(island(pairs)),
        sections=sections,
        charts_island=Markup(island(as_json(sections))),
        engines=[(packed(), engine())] if sections else [],
    )


def waiting_page(name: str, reason: str, live: Live) -> str:
    """The page of `watch` while there is no report: it says why, and loads the report once there is one."""
    return _rendered("waiting.html", (), live, name=name, reason=reason)


def _rendered(template: str, scripts: Sequence[str], live: Live | None, **values: Any) -> str:
    """The template with its style, its scripts, and the policy that allows no others and no request; with ``live`` the
    requests of watch.js to its own server."""
    style, *texts = (
        (HERE / file).read_text(encoding="utf-8") for file in ("page.css", *scripts, *(["watch.js"] if live else []))
    )
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    run = [*texts, *(text for _, text in values.get("engines", ()))]  # charts.js unpacks the engine and runs it
    allowed, requests = " ".join(map(_hash, run)), "connect-src 'self'; " if live else ""
    return environment.get_template(template).render(
        **values,
        live=live,
        style=Markup(style),  # the project's own files
        scripts=list(map(Markup, texts)),
        policy=f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        f"{requests}base-uri 'none'; form-action 'none'",
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def island(values: Any) -> str:
    """JSON that ends no element and opens no comment, whatever text is in it; numbers that are not finite are null."""
    try:
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # somebody's record
        text = json.dumps(_finite(values), ensure_ascii=False, separators=(",", ":"))
    return text.translate(UNSAFE)


def _finite(values: Any) -> Any:
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {key: _finite(one) for key, one in values.items()}
    return [_finite(one) for one in values] if isinstance(values, list | tuple) else values


def spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """(heading, number of its metrics) of neighbouring columns."""
    found: list[tuple[str, int]] = []
    for column in columns:
        if found and found[-1][0] == column.heading:
            found[-1] = column.heading, found[-1][1] + 1
        else:
            found.append((column.heading, 1))
    return found


def missing(board: Board) -> dict[str, list[str]]:
    """Reason → the cells that it is of, as ``row, column``: each run that is missing, failed or was refused."""
    found: dict[str, dict[str, None]] = {}
    for row in board.rows:
        for column, entry in zip(board.columns, row.entries, strict=True):
            if entry.reason:
                found.setdefault(entry.reason, {})[f"{row.label}, {column.heading}"] = None
    return {reason: list(cells) for reason, cells in found.items()}


def content(board: Board, facts: Facts) -> Mapping[str, Any]:
    """What the script reads: columns, rows, and the facts of the runs behind the cells, shared ones by their place."""
    numbers: dict[tuple[str, Any], int] = {}
    kept: list[Mapping[str, Any]] = []
    cells = []
    for row in board.rows:
        line = []
        for entry in row.entries:
            places = []
            for _, spec in entry.runs:
                record = facts.newest[spec]
                key = (record.imported or "", spec)
                if key not in numbers:
                    numbers[key] = len(kept)
                    kept.append(facts.details[key])
                places.append(numbers[key])
            mean = None if entry.mean is None else round(entry.mean, 4)
            line.append([mean, places, entry.reason])
        cells.append(line)
    named = sorted(used(kept))
    place = {old: new for new, old in enumerate(named)}
    shared_keys = ("spec", "checkpoint", "settings", "where")
    runs = [{**one, **{key: place[one[key]] for key in shared_keys}} for one in kept]
    columns = [
        [one.heading, one.metric.label, one.metric.unit, one.metric.higher_is_better, one.metric.decimals]
        for one in board.columns
    ]
    return {
        "columns": columns,
        "rows": [row.label for row in board.rows],
        "cells": cells,
        "runs": runs,
        "shared": [facts.shared.values[old] for old in named],
    }
