"""The layout of a paper's table, from a TOML: columns, rows, published rows, deltas and figures. Imports no torch.

    caption = "Transfer to detection."
    delta_to = "supervised"

    [[columns]]
    task = "voc-c4-24k"
    metric = "bbox/AP"

    [[rows]]
    label = "simclr"

docs/tables.md has the reference. Built-in layouts are in benchmarks/report/specs/.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.profiles import PROFILES
from benchmarks.schema import checked
from benchmarks.tasks import TASKS, Metric, named
from pretrain.common.errors import InputError

SPECS = Path(__file__).parents[1] / "specs"
MOST_DECIMALS = 6
FIGURES = ("bars", "scatter", "series")
LISTED, SAME = "listed", "same"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A metric of a task. ``heading`` is the metric's label by default, below the task's title; ``AP_{50}`` and
    ``AP^{bb}`` set indices.

    ``group`` spans neighbouring columns; columns of one ``panel`` are a table of their own, above the next. ``data``,
    ``precision``, ``num_gpus``, ``overrides`` and ``protocol`` (the first digits of the settings' digest) choose among
    runs of one task. ``published`` false: its data are not those of the task's published numbers.
    """

    task: str
    metric: str
    heading: str = ""
    group: str = ""
    panel: str = ""
    decimals: int | None = None
    published: bool = True
    data: str = ""
    precision: str = ""
    num_gpus: int | None = None
    overrides: tuple[str, ...] | None = None
    protocol: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableRow:
    """One of our checkpoints by ``label``, or a published ``method``; a rule is drawn where ``group`` changes.

    A label is a checkpoint's, or that of a suite's row of several pretraining runs (``NAME #SEED``). ``checkpoint``:
    the first digits of its digest, where several have the label. A published row has ``epochs`` and ``source`` (a part
    of it) as in published.csv, and is printed below our row ``beside``, where that is given. ``title`` is printed in
    place of the label or method.
    """

    label: str = ""
    method: str = ""
    epochs: str | None = None
    source: str = ""
    beside: str = ""
    title: str = ""
    group: str = ""
    checkpoint: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFigure:
    """A picture of columns, named ``task/metric``; () is all of them.

    ``kind`` bars: a panel per column with 95 % intervals; scatter: every pair of columns, with Kendall's τ; series: the
    rows named ``NAME @EPOCH`` against their epoch.
    """

    name: str
    kind: str
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table. Without a row that has a label, every checkpoint of the records is one, below the published rows.

    ``published`` "listed" prints the published rows that are listed; "same" adds every one that is known to be of a
    column's protocol. ``delta_to`` and ``published_delta_to`` are the rows that differences are against. ``own_group``
    is the group of rows that are not listed. ``ranks`` are the columns that ranks count, by default the first of each
    task on each data set.
    """

    name: str
    title: str = ""
    caption: str = ""
    profile: str = "paper"
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...] = ()
    delta_to: str = ""
    published_delta_to: str = ""
    published: str = LISTED
    own_group: str = "own"
    decimals: int | None = None
    spread: bool = True
    ranks: tuple[str, ...] = ()
    figures: tuple[TableFigure, ...] = ()


def column_name(column: TableColumn) -> str:
    """``voc-c4-24k/bbox/AP``, as figures and ranks name it."""
    return f"{column.task}/{column.metric}"


def metric_of(task: str, key: str) -> Metric:
    """The metric of a task. InputError for one that it does not have."""
    declared = {metric.key: metric for metric in TASKS[task].metrics}
    if key in declared:
        return declared[key]
    if made := TASKS[task].open_metrics:
        return made(key)
    if TASKS[task].detects and key.split("/")[0] in {one.split("/")[0] for one in declared}:
        return Metric(key=key, label=key.split("/", 1)[-1])  # the evaluators' other numbers, as bbox/APs
    raise InputError(f"{task} has no metric {key}: it has {', '.join(declared)}")


def built_in() -> dict[str, TableSpec]:
    """The layouts that come with the project, by name."""
    return {path.stem: read_spec(path) for path in sorted(SPECS.glob("*.toml"))}


def find_spec(name: str) -> TableSpec:
    """A built-in layout, or that of the TOML file at the path ``name``. InputError that names the bad place."""
    path = SPECS / f"{name}.toml"
    if name.endswith(".toml"):
        return read_spec(Path(name))
    if "/" not in name and path.is_file():
        return read_spec(path)
    known = ", ".join([*PROFILES, *sorted(one.stem for one in SPECS.glob("*.toml"))])
    raise InputError(f"unknown table {name!r}: choose from {known}, or give the path of a .toml file")


def read_spec(path: Path) -> TableSpec:
    """The layout of a TOML file, named as the file. InputError that names the bad place."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as TOML ({error})") from None
    if "name" in values:
        raise InputError(f"{path}: name is the file's own: leave it out")
    try:
        return _checked(checked({"name": path.stem, **values}, TableSpec))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _checked(spec: TableSpec) -> TableSpec:
    """``spec``; InputError that names its first unusable place."""
    if spec.profile not in PROFILES:
        raise InputError(f"profile is {spec.profile!r}: choose from {', '.join(PROFILES)}")
    if not spec.columns:
        raise InputError("columns is empty: give [[columns]] with a task and a metric each")
    if spec.published not in (LISTED, SAME):
        raise InputError(f"published is {spec.published!r}: choose from {LISTED}, {SAME}")
    _check_decimals(spec.decimals, "decimals")
    for number, column in enumerate(spec.columns):
        _check_column(column, f"columns[{number}]")
    runs = [
        dataclasses.replace(one, heading="", group="", panel="", decimals=None, published=True) for one in spec.columns
    ]
    if twice := _repeated(runs):
        raise InputError(f"columns[{twice}] is there twice: leave one out, or give data")
    for number, row in enumerate(spec.rows):
        _check_row(row, f"rows[{number}]")
    labels = [row.label for row in spec.rows]
    if twice := _repeated([one or place for place, one in enumerate(labels)]):
        raise InputError(f"rows[{twice}]: two rows are of {labels[twice]}: leave one out")
    if spec.delta_to and any(labels) and spec.delta_to not in labels:
        raise InputError(f"delta_to is {spec.delta_to!r}, the label of no row")
    if spec.published_delta_to and spec.published_delta_to not in {row.method for row in spec.rows}:
        raise InputError(f"published_delta_to is {spec.published_delta_to!r}, the method of no row")
    known = {column_name(column) for column in spec.columns}
    for number, figure in enumerate(spec.figures):
        _check_figure(figure, f"figures[{number}]", known)
    if unknown := [one for one in spec.ranks if one not in known]:
        raise InputError(f"ranks has {unknown[0]!r}, which is no column: name task/metric")
    return spec


def _check_column(column: TableColumn, where: str) -> None:
    try:
        several = [task.name for task in named(column.task)]
        if several != [column.task]:
            raise InputError(f"{column.task} is a group of tasks: give one of {', '.join(several[:3])} …")
        metric_of(column.task, column.metric)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _check_decimals(column.decimals, f"{where}.decimals")


def _check_decimals(value: int | None, where: str) -> None:
    if value is not None and not 0 <= value <= MOST_DECIMALS:
        raise InputError(f"{where} is {value}: give 0 to {MOST_DECIMALS}")


def _check_row(row: TableRow, where: str) -> None:
    if bool(row.label) == bool(row.method):
        raise InputError(f"{where}: give either a label (of yours) or a method (published)")
    if row.label and (row.epochs is not None or row.source or row.beside):
        raise InputError(f"{where}: epochs, source and beside are for a published method")
    if row.method and row.checkpoint:
        raise InputError(f"{where}: checkpoint is for a row with a label")


def _check_figure(figure: TableFigure, where: str, known: set[str]) -> None:
    if figure.kind not in FIGURES:
        raise InputError(f"{where}: kind is {figure.kind!r}: choose from {', '.join(FIGURES)}")
    if not figure.name.replace("-", "").isalnum():
        raise InputError(f"{where}: name is {figure.name!r}: give letters, digits and dashes")
    if unknown := [one for one in figure.columns if one not in known]:
        raise InputError(f"{where}: {unknown[0]!r} is no column: name task/metric")


def _repeated(values: Sequence[object]) -> int:
    """The place of the first value that an earlier one equals, else 0."""
    return next((place for place, value in enumerate(values) if value in values[:place]), 0)
