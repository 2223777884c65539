"""The sources of published numbers as BibTeX: papers from results/reference/sources.bib, repositories from their names.

A source of published.csv is a repository's file (``owner/name:path``), a paper with its arXiv id, an issue's address,
or several of these.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from benchmarks.report.published import REFERENCE

SOURCES = REFERENCE.with_name("sources.bib")
ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")
REPOSITORY = re.compile(r"(?:https://github\.com/|^|; )([A-Za-z0-9][\w-]*/[\w.-]+?)(?:@\w+)?(?=:|/issues)")
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", re.M)


@functools.cache
def _papers() -> dict[str, str]:
    """arXiv id → entry."""
    entries = re.split(r"\n(?=@)", SOURCES.read_text(encoding="utf-8"))
    found = {}
    for entry in entries:
        if number := re.search(r"eprint\s*=\s*\{(\d{4}\.\d{5})\}", entry):
            found[number[1]] = entry.strip()
    return found


def references(source: str) -> dict[str, str]:
    """A source's entries as lines of LaTeX by key: ``arxiv-2011.10566``, ``github-facebookresearch-moco``."""
    found = {}
    for number in _known(source):
        fields = dict(_FIELD.findall(_papers()[number]))
        authors = fields["author"].replace(" and ", ", ")
        found[f"arxiv-{number}"] = rf"{authors}. \emph{{{fields['title']}}}. arXiv:{number}, {fields['year']}."
    return found | {_key(name): rf"\url{{https://github.com/{name}}}" for name in _repositories(source)}


def bibtex(sources: Iterable[str]) -> str:
    """The file of these sources' entries, in the order of their keys."""
    found: dict[str, str] = {}
    for source in sources:
        found |= {f"arxiv-{number}": _papers()[number] for number in _known(source)}
        for name in _repositories(source):
            address = rf"\url{{https://github.com/{name}}}"
            found[_key(name)] = (
                f"@misc{{{_key(name)},\n  key = {{{name}}},\n  title = {{{name}}},\n  howpublished = {{{address}}},\n}}"
            )
    return "\n\n".join(found[key] for key in sorted(found)) + ("\n" if found else "")


def _known(source: str) -> list[str]:
    return [number for number in dict.fromkeys(ARXIV.findall(source)) if number in _papers()]


def _repositories(source: str) -> list[str]:
    return list(dict.fromkeys(REPOSITORY.findall(source)))


def _key(name: str) -> str:
    return f"github-{re.sub(r'[^A-Za-z0-9]+', '-', name)}"
