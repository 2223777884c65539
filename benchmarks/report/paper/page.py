"""A laid-out table, before any format: panels of headings and lines, footnotes, a caption. Imports no torch."""

from __future__ import annotations

import dataclasses
import string

from benchmarks.report.paper.spec import TableSpec

MARK_STAR = "*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell as printed: a number with its spread and marks, or ``text`` where there is none.

    ``value``, ``spread`` and ``delta`` are rounded already, as text with a decimal point.
    """

    text: str = ""
    value: str = ""
    spread: str = ""
    delta: str = ""
    significant: bool = False
    bold: bool = False
    dagger: bool = False
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a panel; a rule stands above it where ``rule``. ``published`` lines are grey and italic."""

    title: str
    group: str
    published: bool
    rule: bool
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """A column's headings: its own and the group's that spans several."""

    heading: str
    group: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A table of its own under the same caption."""

    title: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]

    def spans(self) -> list[tuple[str, int]]:
        """(group, number of columns) of neighbours; one of "" where a column has none."""
        found: list[tuple[str, int]] = []
        for head in self.heads:
            if found and head.group and found[-1][0] == head.group:
                found[-1] = head.group, found[-1][1] + 1
            else:
                found.append((head.group, 1))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A table with its footnotes by mark, caption, provenance in one paragraph, and the sources that it cites."""

    name: str
    caption: str
    provenance: str
    panels: tuple[Panel, ...]
    notes: tuple[tuple[str, str], ...]
    cited: tuple[tuple[str, str], ...]  # mark of a note → source


class Notes:
    """Footnotes in the order of their first mark: a, b, …, z, aa, …."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """The mark of ``text``, a new one at its first time."""
        if text not in self.marks:
            number, letters = len(self.marks) + 1, ""
            while number:
                number, place = divmod(number - 1, 26)
                letters = string.ascii_lowercase[place] + letters
            self.marks[text] = letters
        return self.marks[text]


def panels_of(spec: TableSpec) -> list[tuple[str, list[int]]]:
    """(title, places of its columns) of each panel in order."""
    found: dict[str, list[int]] = {}
    for place, column in enumerate(spec.columns):
        found.setdefault(column.panel, []).append(place)
    return list(found.items())
