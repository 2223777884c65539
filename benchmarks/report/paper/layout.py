"""From records and a layout to a page: rows, deltas with their p-values, marks, footnotes, caption. No torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.captions import caption, pretraining_runs
from benchmarks.report.cells import Cell
from benchmarks.report.marks import DAGGER, Marks, Sides, marks_of
from benchmarks.report.paper import outside
from benchmarks.report.paper.outside import OutsideRow
from benchmarks.report.paper.own import OwnRow, own_cells, own_rows
from benchmarks.report.paper.page import MARK_STAR, Entry, Head, Line, Notes, Page, Panel, panels_of
from benchmarks.report.paper.spec import TableSpec
from benchmarks.report.text import shortened
from benchmarks.statistics.best import LEVEL
from benchmarks.statistics.paired import Difference, difference, holm
from benchmarks.tasks import TASKS

DASH = "–"
ERROR = 120  # characters of a failed run's reason


@dataclasses.dataclass(frozen=True)
class Delta:
    """A cell's difference to the row that ``delta_to`` names; ``adjusted`` is Holm's p over the column's rows."""

    found: Difference
    adjusted: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """All that a table's formats, its ranks and its figures are made of; rows in the order of the page.

    ``own`` has a cell per column, ``outside`` the published rows.
    """

    spec: TableSpec
    own: tuple[tuple[OwnRow, tuple[Cell, ...]], ...]
    outside: tuple[OutsideRow, ...]
    order: tuple[tuple[str, int], ...]  # ("own" | "outside", place)
    marks: Marks
    deltas: Mapping[int, Delta]  # by a cell's id
    sides: Sides

    @property
    def cells(self) -> list[Cell]:
        """Our cells in the order of rows and columns."""
        return [cell for _, cells in self.own for cell in cells]


def table_of(
    spec: TableSpec,
    pairs: Sequence[tuple[str, RunSpec]],
    newest: Mapping[RunSpec, RunRecord],
    chosen: Sequence[str] = (),
) -> Table:
    """The table of ``spec`` over the recorded ``pairs`` (label, spec); ``chosen``: labels of our rows, else the spec's.

    InputError for a row or a column that the records leave open.
    """
    rows = own_rows(spec, pairs, newest, chosen)
    cells = own_cells(spec, rows, newest)
    sides = Sides()
    published = outside.outside_rows(spec) if spec.profile == outside.PROFILE else []
    every = [cell for line in cells for cell in line]
    return Table(
        spec=spec,
        own=tuple((row, tuple(line)) for row, line in zip(rows, cells, strict=True)),
        outside=tuple(published),
        order=_order(spec, rows, published),
        marks=marks_of(every, sides),
        deltas=_deltas(spec, rows, cells, sides),
        sides=sides,
    )


def _order(spec: TableSpec, rows: Sequence[OwnRow], published: Sequence[OutsideRow]) -> tuple[tuple[str, int], ...]:
    """The listed order, then the rows that are not listed; published ones below the row that they are beside."""
    own = {one.row.label: place for place, one in enumerate(rows)}
    places = {id(one.row): place for place, one in enumerate(published)}
    beside: dict[str, list[int]] = {}
    for place, one in enumerate(published):
        if one.row.beside in own:
            beside.setdefault(one.row.beside, []).append(place)
    attached = {place for several in beside.values() for place in several}
    found: list[tuple[str, int]] = []
    for row in [*spec.rows, *(one.row for one in published), *(one.row for one in rows)]:
        if row.method and id(row) in places and places[id(row)] not in attached:
            found.append(("outside", places[id(row)]))
        elif row.label in own:
            found += [("own", own[row.label]), *(("outside", place) for place in beside.get(row.label, []))]
    return tuple(dict.fromkeys(found))


def _deltas(spec: TableSpec, rows: Sequence[OwnRow], cells: Sequence[Sequence[Cell]], sides: Sides) -> dict[int, Delta]:
    """Differences to the row ``delta_to``, column by column; none where it is not in the table."""
    places = [place for place, one in enumerate(rows) if one.row.label == spec.delta_to]
    if not spec.delta_to or not places:
        return {}
    found: dict[int, Delta] = {}
    for column in range(len(spec.columns)):
        base = cells[places[0]][column]
        of = [line[column] for place, line in enumerate(cells) if place != places[0]]
        known = [cell for cell in of if cell.mean is not None] if base.mean is not None else []
        differences = [difference(sides.of(cell), sides.of(base)) for cell in known]
        tested = [one.p for one in differences if one.p is not None]
        adjusted = iter(holm(tested))
        for cell, one in zip(known, differences, strict=True):
            found[id(cell)] = Delta(one, next(adjusted) if one.p is not None else None)
    return found


def page_of(table: Table) -> Page:
    """The page: what every format prints."""
    notes, spec = Notes(), table.spec
    usual = _usual([cell.count for cell in table.cells if cell.mean is not None])
    panels, (shown, empty) = [], _shown_panels(table)
    for title, places in shown:
        own = [[cells[place] for place in places] for _, cells in table.own]
        counts = [
            _usual([line[column].count for line in own if line[column].mean is not None])
            for column in range(len(places))
        ]
        heads = tuple(
            _head(table, place, notes, "" if count in ("", usual) else f"n = {count}")
            for place, count in zip(places, counts, strict=True)
        )
        lines: list[Line] = []
        for kind, number in table.order:
            line = (
                _own_line(table, number, places, counts, notes)
                if kind == "own"
                else _outside_line(table, number, places, notes)
            )
            rule = bool(lines) and lines[-1].group != line.group
            lines.append(dataclasses.replace(line, rule=rule))
        panels.append(Panel(title=title, heads=heads, lines=tuple(lines)))
    marked = tuple((mark, text) for text, mark in notes.marks.items())
    sources = {source_note(one): one.source for one in table.outside}
    return Page(
        name=spec.name,
        caption=" ".join([_caption(table, usual), *empty]),
        provenance=caption(table.cells, spec.profile),
        panels=tuple(panels),
        notes=marked,
        cited=tuple((mark, sources[text]) for mark, text in marked if text in sources),
    )


def _shown_panels(table: Table) -> tuple[list[tuple[str, list[int]]], list[str]]:
    """The panels that something is known of, all where that is none; and a sentence that names the others."""
    panels = panels_of(table.spec)

    def known(places: Sequence[int]) -> bool:
        ran = any(cells[place].records or cells[place].failed for _, cells in table.own for place in places)
        return ran or any(row.values[place] for row in table.outside for place in places)

    shown = [one for one in panels if known(one[1])]
    if not shown or len(shown) == len(panels):
        return panels, []
    titles = ", ".join(title for title, places in panels if not known(places))
    return shown, [f"Panels without any run are left out: {titles}."]


def _usual(counts: Sequence[str]) -> str:
    """The most frequent n, of several the first."""
    return Counter(counts).most_common(1)[0][0] if counts else ""


def _head(table: Table, place: int, notes: Notes, count: str) -> Head:
    """A column's heading; its footnotes are an n of its own and a departure from the published protocol."""
    column = table.spec.columns[place]
    texts = [count] if count else []
    cells = [cells[place] for _, cells in table.own]
    if any(row.values[place] for row in table.outside):
        records = [record for cell in cells for record in cell.records]
        if differs := outside.own_differences(column, records):
            texts.append(f"our runs depart from the published protocol: {differs}")
    label = cells[0].metric.label if cells else column.metric
    group = column.group or ("" if column.heading else TASKS[column.task].title)
    return Head(heading=column.heading or label, group=group, notes=tuple(map(notes.mark, texts)))


def _own_line(table: Table, number: int, places: Sequence[int], counts: Sequence[str], notes: Notes) -> Line:
    row, cells = table.own[number]
    entries = [_entry(table, cells[place], usual, notes) for place, usual in zip(places, counts, strict=True)]
    title = row.row.title or (cells[0].label if cells else row.row.label)
    return Line(title=title, group=row.row.group, published=False, rule=False, notes=(), entries=tuple(entries))


def _entry(table: Table, cell: Cell, usual: str, notes: Notes) -> Entry:
    if cell.mean is None:
        return Entry(text=DASH, notes=(notes.mark(why_missing(cell)),))
    decimals, delta = cell.metric.decimals, table.deltas.get(id(cell))
    own = (notes.mark(f"n = {cell.count}"),) if cell.count != usual else ()
    return Entry(
        value=f"{cell.mean:.{decimals}f}",
        spread=f"{cell.std:.{decimals}f}" if cell.std is not None and table.spec.spread else "",
        delta=f"{delta.found.value:+.{decimals}f}" if delta else "",
        significant=bool(delta and delta.adjusted is not None and delta.adjusted < LEVEL),
        bold=id(cell) in table.marks.bold,
        dagger=id(cell) in table.marks.dagger,
        notes=own,
    )


def why_missing(cell: Cell) -> str:
    """The reason for a dash."""
    if cell.records:
        return "undefined on these data"
    if cell.failed:
        return f"failed: {shortened([cell.errors[0].rstrip('. ')], ERROR)[0]}"
    return "not run"


def source_note(row: OutsideRow) -> str:
    """The footnote of a published row: its source, and in what it differs from the columns' protocols or may."""
    differs = f"; differs or may differ in {', '.join(row.differs)}" if row.differs else "; same protocol"
    return f"published, not run here: {row.source}{differs}"


def _outside_line(table: Table, number: int, places: Sequence[int], notes: Notes) -> Line:
    row, base = table.outside[number], table.spec.published_delta_to
    entries = []
    mark = notes.mark(source_note(row))
    for place in places:
        value = row.values[place]
        if value is None:
            why = "not in the source" if table.spec.columns[place].published else "no published number of these data"
            entries.append(Entry(text=DASH, notes=(notes.mark(why),)))
            continue
        others = [one.values[place] for one in table.outside if one.row.method == base and one is not row]
        alike = [one for one in others if one is not None and one.source == value.source]
        entries.append(Entry(value=value.text, delta=_published_delta(value, alike[0]) if alike else ""))
    epochs = f" ({row.row.epochs} ep)" if row.row.epochs and not row.row.title else ""
    title = row.row.title or f"{row.row.method}{epochs}"
    return Line(title=title, group=row.row.group, published=True, rule=False, notes=(mark,), entries=tuple(entries))


def _published_delta(value: outside.Published, other: outside.Published) -> str:
    if value.value is None or other.value is None:
        return ""
    decimals = max(len(one.text.partition(".")[2]) for one in (value, other))
    return f"{value.value - other.value:+.{decimals}f}"


def _caption(table: Table, usual: str) -> str:
    """The layout's own words, then all that a reader needs to read the numbers."""
    spec, cells = table.spec, table.cells
    parts = [spec.caption.strip()] if spec.caption.strip() else []
    several = any(cell.std is not None for cell in cells) and spec.spread
    number = (
        f"n = {usual}{' unless noted' if any(cell.count != usual for cell in cells if cell.mean is not None) else ''}"
    )
    parts.append(f"{'Mean ± standard deviation' if several else 'Mean'} over seeds of the downstream run, {number}.")
    parts.append(pretraining_runs(cells))
    if table.marks.bold:
        parts.append(
            f"Bold: best of our rows in a column; {DAGGER}: not told apart from it ({LEVEL:.0%} over all pairs)."
        )
    if table.deltas:
        tested = any(delta.adjusted is not None for delta in table.deltas.values())
        star = f"; {MARK_STAR}: p < {LEVEL:g}, Holm over the rows of the column" if tested else ""
        parts.append(f"In brackets: the difference to {_title(spec, spec.delta_to)}{star}.")
    elif spec.delta_to:
        parts.append(f"No differences: no run of {spec.delta_to}.")
    if table.outside:
        parts.append("Grey and italic: published numbers, which nobody ran here.")
        if spec.published_delta_to:
            parts.append(f"Theirs are to {_title(spec, spec.published_delta_to)} of the same source.")
    elif spec.profile != outside.PROFILE and any(row.method for row in spec.rows):
        parts.append(f"Profile {spec.profile}: its runs are not comparable with published ones, which are left out.")
    return " ".join(parts)


def _title(spec: TableSpec, name: str) -> str:
    return next((row.title for row in spec.rows if name in (row.label, row.method) and row.title), name)
