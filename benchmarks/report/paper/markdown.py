"""A page in Markdown and in HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable

from benchmarks.report.marks import DAGGER
from benchmarks.report.paper.markup import marked_up
from benchmarks.report.paper.page import MARK_STAR, Entry, Head, Line, Page, Panel
from benchmarks.report.text import for_markdown

PUBLISHED = "color:#767676;font-style:italic"  # 4.5 to 1 on white


def to_markdown(page: Page) -> str:
    """A table per panel, the caption, the footnotes, the provenance."""
    parts = [_panel(panel) for panel in page.panels]
    parts.append(for_markdown(page.caption))
    if page.notes:
        parts.append("\n".join(f"<sup>{mark}</sup> {for_markdown(text)}  " for mark, text in page.notes).rstrip())
    parts.append(for_markdown(page.provenance))
    return "\n\n".join(parts) + "\n"


def _panel(panel: Panel) -> str:
    heads = ["", *(_heading(head) for head in panel.heads)]
    rows = []
    for line in panel.lines:
        if line.rule:  # a rule between groups, which Markdown lacks
            rows.append([f"**{for_markdown(line.group)}**" if line.group else "", *[""] * len(panel.heads)])
        rows.append([_title(line), *(_cell(entry, line) for entry in line.entries)])
    lines = [_row(heads), _row(["---"] * len(heads)), *map(_row, rows)]
    title = f"**{marked_up(panel.title, for_markdown, *INDICES)}**\n\n" if panel.title else ""
    return title + "\n".join(lines)


INDICES = (("<sub>", "</sub>"), ("<sup>", "</sup>"))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(head: Head) -> str:
    own = marked_up(head.heading, for_markdown, *INDICES)
    group = marked_up(head.group, for_markdown, *INDICES)
    return f"{group} {own}".strip() + _marks(head.notes)


def _marks(notes: Iterable[str]) -> str:
    found = ",".join(notes)
    return f"<sup>{found}</sup>" if found else ""


def _title(line: Line) -> str:
    text = for_markdown(line.title)
    return (f"*{text}*" if line.published else text) + _marks(line.notes)


def _cell(entry: Entry, line: Line) -> str:
    if not entry.value:
        return entry.text + _marks(entry.notes)
    text = entry.value + (f" ± {entry.spread}" if entry.spread else "")
    if entry.bold:
        text = f"**{text}**"
    if entry.delta:
        star = rf"\{MARK_STAR}" if entry.significant else ""
        text += f" ({entry.delta}{star})"
    if line.published:
        text = f"*{text}*"
    return text + (f" {DAGGER}" if entry.dagger else "") + _marks(entry.notes)


def to_html(page: Page) -> str:
    """A fragment: a <figure> with a <table> per panel, the caption and the footnotes; no script, no style sheet."""
    tables = "\n".join(_html_panel(panel) for panel in page.panels)
    notes = "".join(f"<p><small><sup>{mark}</sup> {html.escape(text)}</small></p>\n" for mark, text in page.notes)
    return (
        f'<figure class="transfer-table" id="{html.escape(page.name, quote=True)}">\n{tables}\n'
        f"<figcaption>{html.escape(page.caption)}</figcaption>\n{notes}"
        f"<!-- {html.escape(page.provenance).replace('--', '- -')} -->\n</figure>\n"
    )


def _html_panel(panel: Panel) -> str:
    title = f"<caption>{_html(panel.title)}</caption>\n" if panel.title else ""
    spans = panel.spans()
    groups = "".join(
        f'<th colspan="{count}" scope="colgroup">{_html(group)}</th>' if group else "<td></td>" * count
        for group, count in spans
    )
    top = f"<tr><td></td>{groups}</tr>\n" if any(group for group, _ in spans) else ""
    heads = "".join(f'<th scope="col">{_html(head.heading)}{_marks(head.notes)}</th>' for head in panel.heads)
    bodies: list[list[str]] = [[]]
    for line in panel.lines:
        if line.rule:
            bodies.append([])
        bodies[-1].append(_html_line(line))
    body = "\n".join("\n".join(["<tbody>", *lines, "</tbody>"]) for lines in bodies)
    return f"<table>\n{title}<thead>\n{top}<tr><td></td>{heads}</tr>\n</thead>\n{body}\n</table>"


def _html(text: str) -> str:
    return marked_up(text, html.escape, *INDICES)


def _html_line(line: Line) -> str:
    style = f' class="published" style="{PUBLISHED}"' if line.published else ""
    cells = "".join(f"<td>{_html_cell(entry)}</td>" for entry in line.entries)
    return f'<tr{style}><th scope="row">{html.escape(line.title)}{_marks(line.notes)}</th>{cells}</tr>'


def _html_cell(entry: Entry) -> str:
    if not entry.value:
        return entry.text + _marks(entry.notes)
    text = html.escape(entry.value) + (f" ± {entry.spread}" if entry.spread else "")
    text = f"<strong>{text}</strong>" if entry.bold else text
    if entry.delta:
        text += f" <small>({entry.delta}{MARK_STAR if entry.significant else ''})</small>"
    return text + (f" {DAGGER}" if entry.dagger else "") + _marks(entry.notes)
