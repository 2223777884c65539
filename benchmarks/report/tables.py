"""Run records into a table: mean ± std (n) in every cell, as Markdown, CSV and LaTeX. Imports no torch.

    python -m benchmarks tables smoke

The CSV is the long form: one row per cell, with the protocol, data fingerprint, checkpoint, commit and records behind
it. Text that a spreadsheet would take for a formula has an apostrophe before it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.profiles import PROFILES
from benchmarks.records import RunRecord, RunSpec
from benchmarks.report import searches
from benchmarks.report.cells import Cell, collect
from benchmarks.report.marks import DAGGER, Marks, marks_of
from benchmarks.report.text import for_markdown, for_spreadsheet, shortened
from benchmarks.statistics.best import ENOUGH
from benchmarks.tasks import TASKS, by_group
from pretrain.common.errors import InputError, printable
from pretrain.common.files import replacing, results_dir
from pretrain.common.provenance import short_commit
from transfer.detection.search import without_search

ERRORS = 5  # per caption


def _wide(cells: Sequence[Cell], rendered: Mapping[int, str]) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """The columns (task and detector, metric), and by row, the checkpoint, the text of each column's cell."""
    shown = [cell for cell in cells if cell.metric.shown]
    columns = {key: i for i, key in enumerate(dict.fromkeys((cell.column, cell.metric.label) for cell in shown))}
    rows = {cell.label: [""] * len(columns) for cell in shown}
    for cell in shown:
        rows[cell.label][columns[cell.column, cell.metric.label]] = rendered[id(cell)]
    return list(columns), rows


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


def caption(cells: Sequence[Cell], profile: str) -> str:
    """Profile, data and fingerprints, tasks, n and commit in one paragraph; the errors if no cell has a number."""
    records = [record for cell in cells for record in cell.records]
    if not records:
        return printable(f"Profile {profile} ({PROFILES[profile].meaning}). {_failures(cells)}")
    versions: dict[int, list[str]] = {}
    for record in records:
        versions.setdefault(record.spec.task_version, []).append(record.spec.task)
    tasks = [f"{name} v{version}" for version, names in versions.items() for name in by_group(names)]
    fixed = [without_search(record.spec.overrides) for record in records]
    overrides = dict.fromkeys(" ".join(words) for words in fixed if words)
    commits = dict.fromkeys(short_commit(record.git) for record in records)
    sentences = [
        f"Profile {profile} ({PROFILES[profile].meaning}). {_units(cells)}; mean ± standard deviation (n) over seeds",
        f"of the downstream run, without ± where n = 1. {_pretraining_runs(cells)}{_MARKS}",
        f"{_detectors(records)}{searches.sentences(records)}{_precisions(records)}{_networks(records)}"
        f"Data: {_data(records)}.",
        f"Tasks: {', '.join(tasks)}.",
        *([f"Overrides: {'; '.join(overrides)}."] if overrides else []),
        f"{_notes(cells)}{_imported(records)}Commit: {', '.join(commits)}.",
    ]
    return printable(" ".join(sentences))


_MARKS = (
    f" Bold: the best of a column (n ≥ {ENOUGH}); {DAGGER}: not told apart from it (5 % over all pairs of rows, over "
    f"test images where predictions were kept and over seeds or runs; n < {ENOUGH} is never told apart)."
)


def _data(records: Sequence[RunRecord]) -> str:
    """``toy (own data), fingerprints imagenet f099f178, imagenet bfcf06ac of semi-1-swav``; sets joined by ``; ``.

    Tasks are named where a task has a fingerprint of its own, as fine-tuning on some of the labels.
    """
    sets: dict[str, dict[str, list[str]]] = {}
    for record in records:
        spec, task = record.spec, TASKS[record.spec.task]
        prints = sets.setdefault(f"{spec.data_name} ({record.data['description']})", {})
        names = prints.setdefault(f"{task.layout} {spec.data_fingerprint[:8]}", [])
        names += [task.name] if task.fingerprint else []
    described = []
    for heading, prints in sets.items():
        named = [one + (f" of {' '.join(by_group(names))}" if names else "") for one, names in prints.items()]
        described.append(f"{heading}, fingerprints {', '.join(named)}")
    return "; ".join(described)


def _units(cells: Sequence[Cell]) -> str:
    """``Percent``, or ``Percent; nats (information)`` where columns have another unit."""
    others: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.metric.unit != "%":
            others.setdefault(cell.metric.unit, {})[cell.column] = None
    return "; ".join(["Percent", *(f"{unit} ({', '.join(columns)})" for unit, columns in others.items())])


def _pretraining_runs(cells: Sequence[Cell]) -> str:
    """Number of pretraining runs per row."""
    groups = dict.fromkeys(cell.label for cell in cells if cell.pooled)
    if not groups:
        return "One pretraining run per row: these seeds leave out the differences between pretraining runs."
    several = f"{', '.join(groups)}: over n pretraining runs, each the mean of its downstream seeds"
    if any(cell.pooled and cell.within is not None for cell in cells):
        several += " (n×m: m seeds each; ± between the runs / within one)"
    others = any(not cell.pooled for cell in cells)
    return f"{several}; other rows have one pretraining run." if others else f"{several}."


def _failures(cells: Sequence[Cell]) -> str:
    """``Every run failed, so there is no number: out of memory (VOC C4: a, b).`` with the first few errors."""
    places: dict[str, dict[str, dict[str, None]]] = {}
    for cell in cells:
        for error in cell.errors:
            columns = places.setdefault(shortened([error.rstrip(". ")], 200)[0], {})
            columns.setdefault(cell.column, {})[cell.label] = None
    if not places:
        return "No run has ended yet."
    found = []
    for error, columns in places.items():
        where = "; ".join(f"{column}: {', '.join(labels)}" for column, labels in columns.items())
        found.append(f"{error} ({where})")
    more = f"; and {len(found) - ERRORS} other errors" if len(found) > ERRORS else ""
    return f"Every run failed, so there is no number: {'; '.join(found[:ERRORS])}{more}."


def _detectors(records: Sequence[RunRecord]) -> str:
    """``voc-fpn-24k: Faster R-CNN FPN, 300 iterations. `` for each detector that ran, from its own config."""
    found = dict.fromkeys(f"{record.spec.task}: {record.detector}. " for record in records if record.detector)
    return "".join(found)


def _precisions(records: Sequence[RunRecord]) -> str:
    """``Computed in fp32 (linear, knn), bf16 (voc-fpn-24k). ``"""
    tasks: dict[str, dict[str, None]] = {}
    for record in records:
        tasks.setdefault(record.spec.precision, {})[record.spec.task] = None
    found = ", ".join(f"{precision} ({', '.join(by_group(names))})" for precision, names in tasks.items())
    return f"Computed in {found}. " if found else ""


def _notes(cells: Sequence[Cell]) -> str:
    """``Notes: linear: decay 0.1 is the largest of its grid (random). ``: the runs' own warnings."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        for record in cell.records:
            for note in record.notes:
                seed = f" seed {record.spec.seed}" if len(cell.records) > 1 else ""
                rows.setdefault((note, cell.column), {})[cell.label + seed] = None
    columns: dict[str, list[str]] = {}  # of the same note and rows
    for (note, column), labels in rows.items():
        columns.setdefault(f"{note} ({', '.join(labels)})", []).append(column)
    found = "; ".join(f"{', '.join(names)}: {note}" for note, names in columns.items())
    return f"Notes: {found}. " if found else ""


def _imported(records: Sequence[RunRecord]) -> str:
    """``Imported from lab: a [lab], b [lab]. ``: the rows that others have run."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        if record.imported:
            rows.setdefault(record.imported, {})[record.label] = None
    return "".join(f"Imported from {name}, run there: {', '.join(labels)}. " for name, labels in rows.items())


def _networks(records: Sequence[RunRecord]) -> str:
    """``resnet50. `` or, where rows differ, each network with its rows; empty if the records lack it."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        if record.architecture:
            rows.setdefault(record.architecture, {})[record.label] = None
    if len(rows) < 2:
        return "".join(f"{name}. " for name in rows)
    return ", ".join(f"{name} ({', '.join(labels)})" for name, labels in rows.items()) + ". "


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


_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "−": "$-$",
    "–": "--",
}


def escape(text: str) -> str:
    """``text`` for LaTeX; characters outside Latin-1 that have no entry are left to the document's encoding."""
    escaped = "".join(_TEX.get(character, character) for character in printable(text))
    # After the \\ of the preceding row, a bracket or a star would be read as its argument.
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


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
) -> tuple[str, list[Path]]:
    """Print the table on stderr, then write ``results/tables/<name>.{md,csv,tex,png}``; the Markdown and the paths.

    Returns only the paths written: one line on stderr names the files that could not be, and why. A chart
    without a number is not drawn, and an older one is deleted. ``with_published`` adds published numbers of
    the same protocols, comparable only on the standard data sets. ``newest`` and ``groups`` as in ``collect``.
    InputError if a spec has another profile: profiles never share a table.
    """
    if any(spec.profile != profile for _, spec in expected):
        raise InputError(f"a run of another profile among those of {profile}: tables hold one profile")
    cells = collect(expected, newest, groups)
    marks = marks_of(cells)
    markdown = to_markdown(cells, profile, marks)
    if with_published:
        markdown += f"\n{_published([spec for _, spec in expected], cells)}"
    print(f"\n{markdown}", file=sys.stderr)
    stem = results_dir() / "tables" / _file_name(name)
    texts = {"md": markdown, "csv": long_form(cells).to_csv(index=False), "tex": to_latex(cells, profile, marks)}
    written: list[Path] = []
    failed: dict[str, str] = {}
    for suffix, text in texts.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            written.append(path)
        except OSError as error:
            failed[path.name] = error.strerror or type(error).__name__
    picture = stem.with_name(f"{stem.name}.png")
    try:
        written += [picture] if _draw(cells, picture, name) else []
    except OSError as error:
        failed[picture.name] = error.strerror or type(error).__name__
    if failed:
        reasons = ", ".join(dict.fromkeys(failed.values()))
        place = printable(str(stem.parent))
        print(f"warning: not written to {place}: {', '.join(failed)} ({reasons})", file=sys.stderr)
    return markdown, written


def complete(paths: Iterable[Path]) -> bool:
    """Whether ``write_tables`` has written the table in all its forms; the chart may be missing."""
    return {".md", ".csv", ".tex"} <= {path.suffix for path in paths}


def _file_name(name: str) -> str:
    """``name`` (perhaps a data set's) as a file name without folders."""
    return shortened([re.sub(r"[/\\]", "_", printable(name))], 60)[0]


def _draw(cells: Sequence[Cell], path: Path, name: str) -> bool:
    """Whether a chart was drawn. An error in drawing only gives a warning; OSError if it cannot be written."""
    try:
        from benchmarks.report import chart

        title = f"{name}: {_units(cells).lower()}, mean ± standard deviation (n)"
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
