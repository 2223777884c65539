"""All runs of a profile in a table: mean ± std (n) in every cell, as Markdown, CSV and LaTeX. Imports no torch.

    python -m benchmarks tables smoke

The CSV is the long form: one row per cell, with the protocol, data fingerprint, checkpoint, commit and records behind
it. Text that a spreadsheet would take for a formula has an apostrophe before it. Tables laid out for a paper are in
benchmarks/report/paper/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.captions import caption, units
from benchmarks.report.cells import Cell, collect
from benchmarks.report.files import say_failed, write_files
from benchmarks.report.latex import escape
from benchmarks.report.long_form import long_form
from benchmarks.report.marks import DAGGER, Marks, marks_of
from benchmarks.report.text import for_markdown, shortened
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import results_dir


def _wide(cells: Sequence[Cell], rendered: Mapping[int, str]) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """The columns (task and detector, metric), and by row, the checkpoint, the text of each column's cell."""
    shown = [cell for cell in cells if cell.metric.shown]
    columns = {key: i for i, key in enumerate(dict.fromkeys((cell.column, cell.metric.label) for cell in shown))}
    rows = {cell.label: [""] * len(columns) for cell in shown}
    for cell in shown:
        rows[cell.label][columns[cell.column, cell.metric.label]] = rendered[id(cell)]
    return list(columns), rows


def _marked(cell: Cell, marks: Marks) -> str:
    """``**12.3 ± 0.4 (3)**``, or with a dagger."""
    text = cell.text(" ± ", "-")
    return f"**{text}**" if id(cell) in marks.bold else text + f" {DAGGER}" * (id(cell) in marks.dagger)


def to_markdown(cells: Sequence[Cell], profile: str, marks: Marks | None = None) -> str:
    """The table in Markdown with its caption; ``marks`` if already known."""
    marks = marks or marks_of(cells)
    rendered = {id(cell): _marked(cell, marks) for cell in cells}
    columns, rows = _wide(cells, rendered)
    frame = pd.DataFrame(
        list(rows.values()),
        index=pd.Index([for_markdown(label) for label in rows], name="checkpoint"),
        columns=[for_markdown(" ".join(heading)) for heading in columns],
    )
    table = frame.to_markdown(stralign="left", disable_numparse=True)
    return f"{table}\n\n{for_markdown(caption(cells, profile))}\n"


def _tex_cell(cell: Cell, marks: Marks) -> str:
    text = cell.text(r" \pm ", "--")
    if cell.mean is None:
        return text
    number, count = text.rsplit(" ", 1)
    count = escape(count)
    if id(cell) in marks.bold:
        return rf"$\mathbf{{{number}}}$ {count}"
    return f"${number}$ {count}" + r"$^\dagger$" * (id(cell) in marks.dagger)


def to_latex(cells: Sequence[Cell], profile: str, marks: Marks | None = None) -> str:
    """A table* environment for booktabs (and graphicx, to fit the page's width); ``marks`` if already known."""
    marks = marks or marks_of(cells)
    columns, rows = _wide(cells, {id(cell): _tex_cell(cell, marks) for cell in cells})
    spans: dict[str, int] = {}
    for column, _ in columns:
        spans[column] = spans.get(column, 0) + 1
    heads = [
        [
            "",
            *(
                escape(column) if n == 1 else rf"\multicolumn{{{n}}}{{c}}{{{escape(column)}}}"
                for column, n in spans.items()
            ),
        ],
        ["", *(escape(metric) for _, metric in columns)],
    ]
    lines = [
        " & ".join(line) + r" \\" for line in [*heads, *([escape(label), *texts] for label, texts in rows.items())]
    ]
    lines = [r"\toprule", *lines[:2], r"\midrule", *lines[2:], r"\bottomrule"]
    body = "\n".join([rf"\begin{{tabular}}{{l{'c' * len(columns)}}}", *lines, r"\end{tabular}"])
    return (
        "% needs \\usepackage{booktabs,graphicx}\n\\begin{table*}\n\\centering\n"
        f"\\caption{{{escape(caption(cells, profile))}}}\n"
        f"\\label{{tab:transfer-{profile}}}\n\\resizebox{{\\textwidth}}{{!}}{{%\n{body}}}\n\\end{{table*}}\n"
    )


def write_tables(
    expected: Sequence[tuple[str, RunSpec]],
    profile: str,
    name: str,
    *,
    with_published: bool = False,
    newest: Mapping[RunSpec, RunRecord] | None = None,
    groups: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[list[Cell], list[Path]]:
    """Print the table on stderr, then write ``<name>.{md,csv,tex,png}`` in ``folder``; its cells and the paths.

    Returns only the paths written: one line on stderr names the files that could not be, and why. A chart
    without a number is not drawn, and an older one is deleted. ``with_published`` adds published numbers of
    the same protocols, comparable only on the standard data sets. ``newest`` and ``groups`` as in ``collect``;
    ``folder`` is results/tables by default. InputError if a spec has another profile: profiles never share a table.
    """
    cells, texts = profile_table(expected, profile, name, with_published, newest, groups)
    print(f"\n{texts[f'{file_name(name)}.md'].decode()}", file=sys.stderr)
    folder = folder or results_dir() / "tables"
    written, failed = write_files(folder, texts)
    picture = folder / f"{file_name(name)}.png"
    try:
        written += [picture] if _draw(cells, picture, name) else []
    except OSError as error:
        failed[picture.name] = error.strerror or type(error).__name__
    say_failed(folder, failed)
    return cells, written


def profile_table(
    expected: Sequence[tuple[str, RunSpec]],
    profile: str,
    name: str,
    with_published: bool = False,
    newest: Mapping[RunSpec, RunRecord] | None = None,
    groups: Mapping[str, str] | None = None,
) -> tuple[list[Cell], dict[str, bytes]]:
    """The cells, and the texts by file name; arguments as of ``write_tables``."""
    if any(spec.profile != profile for _, spec in expected):
        raise InputError(f"a run of another profile among those of {profile}: tables hold one profile")
    cells = collect(expected, newest, groups)
    marks = marks_of(cells)
    markdown = to_markdown(cells, profile, marks)
    if with_published:
        markdown += f"\n{_published([spec for _, spec in expected], cells)}"
    texts = {"md": markdown, "csv": long_form(cells).to_csv(index=False), "tex": to_latex(cells, profile, marks)}
    return cells, {f"{file_name(name)}.{suffix}": text.encode() for suffix, text in texts.items()}


def complete(paths: Iterable[Path]) -> bool:
    """Whether ``write_tables`` has written the table in all its forms; the chart may be missing."""
    return {".md", ".csv", ".tex"} <= {path.suffix for path in paths}


def file_name(name: str) -> str:
    """``name`` (perhaps a data set's) as a file name without folders."""
    return shortened([re.sub(r"[/\\]", "_", printable(name))], 60)[0]


def _draw(cells: Sequence[Cell], path: Path, name: str) -> bool:
    """Whether a chart was drawn. An error in drawing only gives a warning; OSError if it cannot be written."""
    try:
        from benchmarks.report import chart

        unit = units(cells).replace("Percent", "percent", 1)
        title = f"{name}: {unit}, mean ± standard deviation (n)"
        if chart.draw(cells, path, title):
            return True
    except OSError:
        raise
    except Exception as error:
        print(f"warning: no chart: {printable(f'{type(error).__name__}: {error}')[:200]}", file=sys.stderr)
    path.unlink(missing_ok=True)  # an older chart would be mistaken for this table's
    return False


def _published(specs: Sequence[RunSpec], cells: Sequence[Cell]) -> str:
    from benchmarks.report import published

    networks = {(one.spec.task, one.architecture) for cell in cells for one in cell.records if one.architecture}
    others = {task for task, network in networks if TASKS[task].detects and network != published.NETWORK}

    gpus = {task: (None, published.gpus(TASKS[task])) for task in dict.fromkeys(spec.task for spec in specs)}
    as_published = {
        task: task not in others
        and all(spec.num_gpus in known and not spec.overrides for spec in specs if spec.task == task)
        for task, known in gpus.items()
    }
    return published.to_markdown(as_published)
