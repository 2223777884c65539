r"""A page in LaTeX: booktabs, and siunitx's S columns, which align numbers at the point and at ±.

The file has a floating ``table*`` for ``\input``; another of the same name with ``-alone`` compiles by itself.
"""

from __future__ import annotations

import re

from benchmarks.report.latex import escape
from benchmarks.report.marks import DAGGER
from benchmarks.report.paper.bibliography import references
from benchmarks.report.paper.markup import marked_up
from benchmarks.report.paper.page import MARK_STAR, Entry, Line, Page, Panel

PACKAGES = "booktabs,graphicx,siunitx,xcolor"
SETUP = (
    r"\sisetup{separate-uncertainty=true,mode=text,detect-weight=true,detect-shape=true,detect-family=true,"
    r"table-align-uncertainty=true,retain-zero-uncertainty=true}"
    "\n"
    r"\protected\def\best{\fontseries{b}\selectfont}"  # as wide as normal type, unlike \bfseries: \pm stays in line
)
GREY = r"\color{black!55}\itshape "
NUMBER = re.compile(r"(-?)(\d+)\.?(\d*)")


def to_latex(page: Page) -> str:
    """The table as a float over both columns of a two-column page, no wider than the page."""
    body = "\n\\par\\medskip\n".join(_panel(panel) for panel in page.panels)
    cited = dict(page.cited)
    notes = [rf"\textsuperscript{{{mark}}}\,{escape(text)}{_cite(cited.get(mark, ''))}" for mark, text in page.notes]
    below = "\\par\\smallskip\n{\\footnotesize\\raggedright " + "; ".join(notes) + ".\\par}\n" if notes else ""
    return (
        f"% needs \\usepackage{{{PACKAGES}}} (siunitx 3); sources in {page.name}.bib\n"
        f"% {escape(page.provenance)}\n"
        f"\\begin{{table*}}[t]\n\\centering\n{SETUP}\n"
        f"\\caption{{{_text(page.caption)}}}\n\\label{{tab:{page.name}}}\n\\smallskip\n{body}\n{below}\\end{{table*}}\n"
    )


def _cite(source: str) -> str:
    keys = ",".join(references(source))
    return rf"~\cite{{{keys}}}" if keys else ""


def alone(page: Page) -> str:
    """A document of the table and its references: ``pdflatex`` compiles it without BibTeX."""
    cited = {key: text for _, source in page.cited for key, text in references(source).items()}
    items = "\n".join(rf"\bibitem{{{key}}} {text}" for key, text in cited.items())
    listed = f"\\begin{{thebibliography}}{{9}}\n{items}\n\\end{{thebibliography}}\n" if cited else ""
    return (
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n"
        "\\IfFileExists{lmodern.sty}{\\usepackage[T1]{fontenc}\\usepackage{lmodern}}{}\n"
        f"\\usepackage[a4paper,margin=15mm]{{geometry}}\n\\usepackage{{{PACKAGES},url}}\n\\pagestyle{{empty}}\n"
        f"\\begin{{document}}\n\\input{{{page.name}}}\n{listed}\\end{{document}}\n"
    )


def _text(text: str) -> str:
    """Escaped, with indices in mathematics; two of one letter stand above one another."""
    return marked_up(text, escape, (r"$_{\mathrm{", "}}$"), (r"$^{\mathrm{", "}}$")).replace("}}$$", "}}")


def _panel(panel: Panel) -> str:
    columns = list(zip(*(line.entries for line in panel.lines), strict=True)) or [()] * len(panel.heads)
    beside = [any(_beside(entry) for entry in column) for column in columns]
    widths = [2 if wide else 1 for wide in beside]
    formats = "".join(
        f" {_format(column)}" + (r"@{\,}l" if wide else "") for column, wide in zip(columns, beside, strict=True)
    )
    rows = [
        *_groups(panel, widths),
        " & ".join(
            [
                "",
                *(
                    _spanned(f"{_text(head.heading)}{_marks(head.notes, space=True)}", wide)
                    for head, wide in zip(panel.heads, widths, strict=True)
                ),
            ]
        )
        + r" \\",
        r"\midrule",
    ]
    for line in panel.lines:
        rows += [r"\midrule"] if line.rule else []
        rows.append(_line(line, beside))
    lines = [r"\toprule", *rows, r"\bottomrule"]
    tabular = "\n".join([rf"\begin{{tabular}}{{@{{}}l{formats}@{{}}}}", *lines, r"\end{tabular}"])
    title = f"{{\\small {_text(panel.title)}}}\\par\\smallskip\n" if panel.title else ""
    fitted = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%\n"
    return f"{title}{fitted}{tabular}}}"


def _spanned(text: str, columns: int) -> str:
    return rf"\multicolumn{{{columns}}}{{c}}{{{text}}}"


def _groups(panel: Panel, widths: list[int]) -> list[str]:
    """The line of spanning headings and the rules below them."""
    if not any(head.group for head in panel.heads):
        return []
    cells, rules, column, place = [""], [], 2, 0
    for group, count in panel.spans():
        width = sum(widths[place : place + count])
        cells.append(_spanned(_text(group), width))
        if group:
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column, place = column + width, place + count
    return [" & ".join(cells) + r" \\", "".join(rules)]


def _format(entries: tuple[Entry, ...]) -> str:
    """``S[table-format=2.1(2)]``: digits before and after the point and of the spread, over a column."""
    before = after = spread = 0
    sign = ""
    for entry in entries:
        if found := NUMBER.fullmatch(entry.value):
            sign, before, after = sign or found[1], max(before, len(found[2])), max(after, len(found[3]))
        if entry.spread:
            spread = max(spread, len(entry.spread.replace(".", "").lstrip("0")) or 1)
    if not before:
        return "c"
    uncertainty = f"({spread})" if spread else ""
    return f"S[table-format={sign}{before}.{after}{uncertainty}]"


def _beside(entry: Entry) -> str:
    """Difference, dagger and footnotes, in a narrow column after the number."""
    star = rf"\textsuperscript{{{MARK_STAR}}}" if entry.significant else ""
    delta = rf"{{\scriptsize(${entry.delta}${star})}}" if entry.delta else ""
    return delta + (escape(DAGGER) if entry.dagger else "") + _marks(entry.notes)


def _marks(notes: tuple[str, ...], *, space: bool = False) -> str:
    thin = r"\," if space else ""  # apart from a heading's index
    return rf"{thin}\textsuperscript{{\upshape {','.join(notes)}}}" if notes else ""


def _line(line: Line, beside: list[bool]) -> str:
    grey = GREY if line.published else ""
    cells = [f"{grey}{escape(line.title)}{_marks(line.notes)}"]
    for entry, wide in zip(line.entries, beside, strict=True):
        if NUMBER.fullmatch(entry.value):
            number = entry.value + (f" +- {entry.spread}" if entry.spread else "")
            bold = r"\best " if entry.bold else ""
            cells.append(f"{grey}{bold}{number}")
        else:
            cells.append(f"{{{grey}{escape(entry.value or entry.text)}}}")
        if wide:
            cells.append(f"{grey}{_beside(entry)}" if _beside(entry) else "")
    return " & ".join(cells) + r" \\"
