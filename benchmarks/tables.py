"""Run records into a table: mean ± std (n) in every cell, as Markdown, CSV and LaTeX. Imports no torch.

    python -m benchmarks tables smoke

The CSV is the long form: one row per cell, with the protocol, data fingerprint, checkpoint, commit and records behind
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import chart, published
from benchmarks.cells import BOLD_ERRORS, BOLD_SEEDS, Cell, best_cells, collect
from benchmarks.records import RunRecord, RunSpec
from benchmarks.tasks import TASKS
from pretrain.errors import InputError
from pretrain.files import replacing, results_dir
from pretrain.provenance import short_commit

PUBLISHED_GPUS = 8  # of every published detection protocol
MEANING = {
    "smoke": "it proves that the pipeline works; its numbers mean nothing",
    "demo": "small and quick; not comparable with published numbers",
    "paper": "the protocols as published",
}


def _wide(cells: Sequence[Cell], rendered: dict[int, str]) -> pd.DataFrame:
    """Rows: checkpoints. Columns: (task and detector, metric)."""
    shown = [cell for cell in cells if cell.metric.shown]
    labels = list(dict.fromkeys(cell.label for cell in shown))
    columns = list(dict.fromkeys((cell.column, cell.metric.label) for cell in shown))
    frame = pd.DataFrame("", index=labels, columns=pd.MultiIndex.from_tuples(columns))
    for cell in shown:
        frame.loc[cell.label, (cell.column, cell.metric.label)] = rendered[id(cell)]
    return frame


def long_form(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row a cell with everything that says where it comes from."""
    rows = []
    for cell in cells:
        specs = [record.spec for record in cell.records]
        rows.append(
            {
                "checkpoint": cell.label,
                "architecture": _joined(record.architecture or "" for record in cell.records),
                "column": cell.column,
                "metric": cell.metric.key,
                "mean": cell.mean,
                "std": cell.std,
                "n": len(cell.values),
                "failed": cell.failed,
                "unit": cell.metric.unit,
                "reference": _joined(TASKS[spec.task].reference for spec in specs),
                "profile": _joined(spec.profile for spec in specs),
                "task": _joined(f"{spec.task} v{spec.task_version}" for spec in specs),
                "protocol": _joined(spec.protocol for spec in specs),
                "protocol_digest": _joined(spec.protocol_digest[:12] for spec in specs),
                "precision": _joined(spec.precision for spec in specs),
                "num_gpus": _joined(str(spec.num_gpus) for spec in specs if spec.num_gpus is not None),
                "overrides": _joined(" ".join(spec.overrides) for spec in specs),
                "data": _joined(spec.data_name for spec in specs),
                "data_fingerprint": _joined(spec.data_fingerprint[:12] for spec in specs),
                "checkpoint_sha256": _joined(spec.checkpoint_sha256[:12] for spec in specs),
                "seeds": _joined(str(spec.seed) for spec in specs),
                "commit": _joined(short_commit(record.git) for record in cell.records),
                "notes": "; ".join(dict.fromkeys(note for record in cell.records for note in record.notes)),
                "runs": _joined(spec.spec_id for spec in specs),
            }
        )
    return pd.DataFrame(rows)


def _joined(values: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(values))


def caption(cells: Sequence[Cell], profile: str) -> str:
    """Profile, data and fingerprints, protocols, n and commit, as one paragraph."""
    records = [record for cell in cells for record in cell.records]
    data: dict[str, dict[str, None]] = {}
    for record in records:
        spec = record.spec
        heading = f"{spec.data_name} ({record.data['description']})"
        data.setdefault(heading, {})[f"{TASKS[spec.task].needs} {spec.data_fingerprint[:8]}"] = None
    described = "; ".join(f"{heading}, fingerprints {', '.join(prints)}" for heading, prints in data.items())
    protocols = dict.fromkeys(f"{record.spec.task}/{record.spec.protocol}" for record in records)
    overrides = dict.fromkeys(" ".join(record.spec.overrides) for record in records if record.spec.overrides)
    commits = dict.fromkeys(short_commit(record.git) for record in records)
    return (
        f"Profile {profile} ({MEANING[profile]}). Percent; mean ± standard deviation (n) over seeds of the downstream "
        "run, without ± where n = 1. One pretraining run per row: these seeds leave out what another pretraining run "
        f"would change. Bold: n ≥ {BOLD_SEEDS}, and more than {BOLD_ERRORS:g} standard errors of the difference ahead "
        f"of every other row. {_detectors(records)}{_precisions(records)}{_networks(records)}"
        f"Data: {described}. Protocols: {', '.join(protocols)}. "
        + (f"Overrides: {'; '.join(overrides)}. " if overrides else "")
        + f"{_notes(cells)}Commit: {', '.join(commits)}."
    )


def _detectors(records: Sequence[RunRecord]) -> str:
    """``voc_fpn_24k: Faster R-CNN FPN, 300 iterations. `` of each detector that ran, from its own config."""
    found: dict[str, None] = {}
    for record in records:
        if model := record.config.get("MODEL"):
            kind = "Mask R-CNN" if model["MASK_ON"] else "Faster R-CNN"
            body = "FPN" if "fpn" in model["BACKBONE"]["NAME"] else "C4"
            iterations = f"{record.config['SOLVER']['MAX_ITER']:,} iterations"
            found[f"{record.spec.protocol}: {kind} {body}, {iterations}"] = None
    return "".join(f"{one}. " for one in found)


def _precisions(records: Sequence[RunRecord]) -> str:
    """``Computed in fp32 (linear, knn), bf16 (voc-det). ``"""
    tasks: dict[str, dict[str, None]] = {}
    for record in records:
        tasks.setdefault(record.spec.precision, {})[record.spec.task] = None
    found = ", ".join(f"{precision} ({', '.join(names)})" for precision, names in tasks.items())
    return f"Computed in {found}. " if found else ""


def _notes(cells: Sequence[Cell]) -> str:
    """``Notes: linear: decay 0.1 is the largest of its grid (random). ``: what the runs say of themselves."""
    rows: dict[str, dict[str, None]] = {}
    for cell in cells:
        for record in cell.records:
            for note in record.notes:
                seed = f" seed {record.spec.seed}" if len(cell.records) > 1 else ""
                rows.setdefault(f"{cell.column}: {note}", {})[cell.label + seed] = None
    found = "; ".join(f"{note} ({', '.join(labels)})" for note, labels in rows.items())
    return f"Notes: {found}. " if found else ""


def _networks(records: Sequence[RunRecord]) -> str:
    """``resnet50. `` or, where rows differ, each network with its rows; empty for records that do not say."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        if record.architecture:
            rows.setdefault(record.architecture, {})[record.label] = None
    if len(rows) < 2:
        return "".join(f"{name}. " for name in rows)
    return ", ".join(f"{name} ({', '.join(labels)})" for name, labels in rows.items()) + ". "


def to_markdown(cells: Sequence[Cell], profile: str) -> str:
    """The table in Markdown with its caption."""
    bold = best_cells(cells)
    rendered = {id(c): f"**{c.text(' ± ', '-')}**" if id(c) in bold else c.text(" ± ", "-") for c in cells}
    frame = _wide(cells, rendered)
    frame.columns = pd.Index([" ".join(heading) for heading in frame.columns.to_list()])
    frame.index = pd.Index([label.replace("|", "\\|") for label in frame.index], name="checkpoint")
    return f"{frame.to_markdown(stralign='left', disable_numparse=True)}\n\n{caption(cells, profile)}\n"


_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "−": "$-$",
    "–": "--",
}


def escape(text: str) -> str:
    """``text`` for LaTeX; characters outside Latin-1 that have no entry are left to the document's encoding."""
    return "".join(_TEX.get(character, character) for character in text)


def _tex_cell(cell: Cell, bold: bool) -> str:
    text = cell.text(r" \pm ", "--")
    if cell.mean is None:
        return text
    number, count = text.rsplit(" ", 1)
    return rf"$\mathbf{{{number}}}$ {count}" if bold else f"${number}$ {count}"


def to_latex(cells: Sequence[Cell], profile: str) -> str:
    """A table* environment for booktabs (and graphicx, to fit the page's width)."""
    bold = best_cells(cells)
    frame = _wide(cells, {id(cell): _tex_cell(cell, id(cell) in bold) for cell in cells})
    frame.columns = pd.MultiIndex.from_tuples([tuple(map(escape, heading)) for heading in frame.columns.to_list()])
    frame.index = pd.Index([escape(label) for label in frame.index])
    body = frame.style.to_latex(hrules=True, column_format="l" + "c" * frame.shape[1], multicol_align="c")
    return (
        "% needs \\usepackage{booktabs,graphicx}\n\\begin{table*}\n\\centering\n"
        f"\\caption{{{escape(caption(cells, profile))}}}\n"
        f"\\label{{tab:transfer-{profile}}}\n\\resizebox{{\\textwidth}}{{!}}{{%\n{body.strip()}}}\n\\end{{table*}}\n"
    )


def write_tables(
    expected: Sequence[tuple[str, RunSpec]], profile: str, name: str, *, with_published: bool = False
) -> tuple[str, list[Path]]:
    """Write ``results/tables/<name>.{md,csv,tex,png}``; return the Markdown and the paths.

    ``with_published`` adds the published numbers of the same protocols, which only the standard data sets may stand
    beside. InputError where a spec is of another profile: profiles never share a table.
    """
    if any(spec.profile != profile for _, spec in expected):
        raise InputError(f"a run of another profile among those of {profile}: tables hold one profile")
    cells = collect(expected)
    markdown = to_markdown(cells, profile)
    if with_published:
        specs = [spec for _, spec in expected]
        as_published = {
            protocol: all(
                spec.num_gpus in (None, PUBLISHED_GPUS) and not spec.overrides
                for spec in specs
                if spec.protocol == protocol
            )
            for protocol in dict.fromkeys(spec.protocol for spec in specs)
        }
        markdown += "\n" + published.to_markdown(as_published)
    texts = {"md": markdown, "csv": long_form(cells).to_csv(index=False), "tex": to_latex(cells, profile)}
    paths = []
    for suffix, text in texts.items():
        path = results_dir() / "tables" / f"{name}.{suffix}"
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    picture = results_dir() / "tables" / f"{name}.png"
    chart.draw(cells, picture, f"{name}: percent, mean ± standard deviation over downstream seeds (n)")
    return markdown, [*paths, picture]
