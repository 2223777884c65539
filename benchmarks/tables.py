"""Run records into a table: mean ± std (n) in every cell, as Markdown, CSV and LaTeX. Imports no torch.

    python -m benchmarks tables smoke

Std is the sample standard deviation over the seeds of the downstream run. The CSV is the long form: one row a cell,
with the protocol, data fingerprint, checkpoint, commit and records behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import chart, published
from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.tasks import TASKS, Metric
from pretrain.errors import InputError
from pretrain.files import replacing, results_dir

MEANING = {
    "smoke": "it proves that the pipeline works; its numbers mean nothing",
    "demo": "small and quick; not comparable with published numbers",
    "paper": "the protocols as published",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row × column of the table: the values over seeds, and the records they come from."""

    label: str
    column: str
    metric: Metric
    records: tuple[RunRecord, ...]
    failed: int

    @property
    def values(self) -> list[float]:
        """Defined values, percent."""
        found = (record.metrics.get(self.metric.key) for record in self.records)
        return [value for value in found if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None without a value."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation, None for fewer than two values."""
        if self.mean is None or len(self.values) < 2:
            return None
        return (sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)) ** 0.5

    def text(self, plus_minus: str, dash: str) -> str:
        """``12.3 ± 0.4 (3)``; without ± for n = 1; ``failed``, ``undefined`` or a dash where there is no number."""
        if self.mean is None:
            return "failed" if self.failed and not self.records else "undefined" if self.records else dash
        number = f"{self.mean:.{self.metric.decimals}f}"
        if self.std is not None:
            number += f"{plus_minus}{self.std:.{self.metric.decimals}f}"
        return f"{number} ({len(self.values)})"


def collect(expected: Sequence[tuple[str, RunSpec]]) -> list[Cell]:
    """Cells of the (label, spec) pairs, in their order, for every metric; only the seed varies within a cell."""
    store = ResultsStore()
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    headings = _headings([spec for _, spec in expected])
    shas: dict[str, set[str]] = {}
    for label, spec in expected:
        shas.setdefault(label, set()).add(spec.checkpoint_sha256)
    for label, spec in expected:
        row = label if len(shas[label]) == 1 else f"{label} [{spec.checkpoint_sha256[:6]}]"
        groups.setdefault(
            (row, spec.task, headings[dataclasses.replace(spec, seed=0, checkpoint_sha256="")]), []
        ).append(spec)
    cells = []
    for (row, task, heading), specs in groups.items():
        newest = [store.newest(spec) for spec in dict.fromkeys(specs)]
        done = tuple(record for record in newest if record and record.status == "ok")
        failed = sum(1 for record in newest if record and record.status != "ok")
        cells += [Cell(row, heading, metric, done, failed) for metric in TASKS[task].metrics]
    return cells


def _headings(specs: Iterable[RunSpec]) -> dict[RunSpec, str]:
    """Column heading of each protocol × data × overrides: task and detector, and whatever else tells them apart."""
    variants = list(dict.fromkeys(dataclasses.replace(spec, seed=0, checkpoint_sha256="") for spec in specs))
    names = {(spec.data_name, TASKS[spec.task].needs, spec.data_fingerprint) for spec in variants}
    several = len({name for name, _, _ in names}) > 1
    twins = {
        name for name, needs, print_ in names for other in names if (name, needs) == other[:2] and print_ != other[2]
    }
    headings = {}
    for spec in variants:
        same = [other for other in variants if (other.task, other.protocol) == (spec.task, spec.protocol)]
        parts = [
            TASKS[spec.task].protocol_title(spec.protocol),
            spec.data_name if several else "",
            f"[{spec.data_fingerprint[:6]}]" if spec.data_name in twins else "",
            " ".join(spec.overrides) if len({other.overrides for other in same}) > 1 else "",
            f"{spec.num_gpus} GPUs" if len({other.num_gpus for other in same}) > 1 else "",
        ]
        headings[spec] = " ".join(part for part in parts if part)
    return headings


def best_cells(cells: Iterable[Cell]) -> set[int]:
    """Ids of the cells to set in bold: best of its column, n ≥ 2, and no runner-up within one std of it."""
    columns: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.mean is not None:
            columns.setdefault((cell.column, cell.metric.key), []).append(cell)
    bold = set()
    for column in columns.values():
        sign = 1 if column[0].metric.higher_is_better else -1
        first, *rest = sorted(column, key=lambda cell: -sign * (cell.mean or 0.0))
        if first.std is None or not rest:
            continue
        gap = sign * ((first.mean or 0.0) - (rest[0].mean or 0.0))
        if gap > max(first.std, rest[0].std or 0.0):
            bold.add(id(first))
    return bold


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
                "num_gpus": _joined(str(spec.num_gpus) for spec in specs if spec.num_gpus is not None),
                "overrides": _joined(" ".join(spec.overrides) for spec in specs),
                "data": _joined(spec.data_name for spec in specs),
                "data_fingerprint": _joined(spec.data_fingerprint[:12] for spec in specs),
                "checkpoint_sha256": _joined(spec.checkpoint_sha256[:12] for spec in specs),
                "seeds": _joined(str(spec.seed) for spec in specs),
                "commit": _joined(_commit(record) for record in cell.records),
                "runs": _joined(spec.spec_id for spec in specs),
            }
        )
    return pd.DataFrame(rows)


def _joined(values: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(values))


def _commit(record: RunRecord) -> str:
    if record.git is None:
        return "outside-git"
    return record.git["commit"][:12] + ("+changes" if record.git["dirty"] else "")


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
    commits = dict.fromkeys(_commit(record) for record in records)
    return (
        f"Profile {profile} ({MEANING[profile]}). Percent; mean ± standard deviation (n) over seeds of the downstream "
        "run, one pretraining run a row; without ± where n = 1. "
        "Bold: n ≥ 2 and the runner-up more than one standard deviation away. "
        f"VOC: Faster R-CNN; COCO: Mask R-CNN; ResNet-50. Data: {described}. Protocols: {', '.join(protocols)}. "
        + (f"Overrides: {'; '.join(overrides)}. " if overrides else "")
        + f"Commit: {', '.join(commits)}."
    )


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
        markdown += "\n" + published.to_markdown(spec.protocol for _, spec in expected)
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


def recorded(profile: str, data: str | None = None) -> list[tuple[str, RunSpec]]:
    """(label, spec) of every recorded run, failed ones too, of a profile and a current task version and protocol.

    ``data``: on the data set of that name only.
    """
    found = {record.spec: record.label for record in ResultsStore().load_all() if record.spec.profile == profile}
    pairs = [
        (label, spec)
        for spec, label in found.items()
        if data in (None, spec.data_name)
        and spec.task in TASKS
        and spec.task_version == TASKS[spec.task].version
        and spec.protocol in TASKS[spec.task].protocols
    ]
    order = list(TASKS)
    return sorted(pairs, key=lambda pair: (pair[0], order.index(pair[1].task), pair[1].protocol, pair[1].seed))
