"""Suites: rows × columns under a profile, from TOML files in this folder or the user's, or registered by a plugin.

    python -m benchmarks suite smoke --workers 2 --checkpoint mine=/path/a.pth
    python -m benchmarks suite my_suite.toml

A row is a checkpoint file, or a pretraining preset with flags; with several ``seeds`` it is a group of pretraining
runs, whose numbers are their mean ± their standard deviation. A column is a task with downstream seeds. In a file a row
may be a template of several: benchmarks/suites/templates.py. Figures draw the numbers against settings or one another.
Imports no torch.
"""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import require_seeds
from benchmarks.profiles import PROFILES
from benchmarks.report.text import checked_label
from benchmarks.schema import checked
from benchmarks.suites.templates import expanded
from benchmarks.tasks import TASKS, named
from pretrain.common.errors import InputError
from pretrain.common.files import digest

FOLDER = Path(__file__).parent
AFTER = "{after}"
RUNS = 1000  # pretraining runs of a row at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """``label`` with either a ``checkpoint`` file or a ``preset`` with the ``flags`` of ``python -m pretrain``.

    ``data``: where it is pretrained, if not on the suite's images: an embedded set, one of EMBEDDED, or a prepared
    root. ``seeds`` of the pretraining; () is the preset's own. ``after``: the label of a row with a preset that is
    finished first; ``{after}`` in the flags is the folder of its run, of the same seed where it has several. ``group``
    and ``at`` place the row in the suite's figures: the line or panel it belongs to, and the values of its settings.
    """

    label: str
    checkpoint: str = ""
    preset: str = ""
    flags: tuple[str, ...] = ()
    data: str = ""
    seeds: tuple[int, ...] = ()
    after: str = ""
    group: str = ""
    at: dict[str, float] = dataclasses.field(default_factory=dict)

    def members(self) -> list[tuple[str, tuple[str, ...]]]:
        """(label, flags) of each pretraining run."""
        if not self.seeds:
            return [(self.label, self.flags)]
        return [(f"{self.label} #{seed}", (*self.flags, "--seed", str(seed))) for seed in self.seeds]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteColumn:
    """A task, or a group of tasks, with its downstream seeds, on the suite's data or on ``data`` of its own."""

    task: str
    seeds: tuple[int, ...] = (0,)
    data: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of the suite's numbers, ``results/tables/<suite>-<name>.png``.

    ``kind`` curve: each of ``y`` against ``x``, in a panel for each of ``panels`` (groups of rows; none: one panel with
    a line per group); the rows of the group ``marks`` are labelled points in every panel. ``kind`` plane: a panel for
    each group and ``y``, coloured squares at the settings ``x`` and ``across``. A quantity is a setting, a name in
    the rows' ``at``, or ``task/metric``, such as ``linear/top1``.
    """

    name: str
    kind: str
    x: str
    y: tuple[str, ...]
    across: str = ""
    panels: tuple[str, ...] = ()
    marks: str = ""
    title: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """``data`` is "emoji" or another of EMBEDDED (the embedded set of the profile), "standard" (ImageNet, VOC, COCO),
    "own" (prepared roots that the command names, on which the columns of their layouts run) or a prepared root.

    ``title`` is one line for ``suite --help``.
    """

    name: str
    title: str
    profile: str
    data: str = "emoji"
    rows: tuple[Row, ...] = ()
    columns: tuple[SuiteColumn, ...]
    figures: tuple[Figure, ...] = ()


SUITES: dict[str, Suite] = {}


def register(suite: Suite) -> Suite:
    """Add ``suite`` to SUITES. InputError if it is unusable or its name is taken."""
    checked_suite(suite)
    if SUITES.setdefault(suite.name, suite) is not suite:
        raise InputError(f"two suites are named {suite.name}: rename one of them")
    return suite


def checked_suite(suite: Suite) -> Suite:
    """``suite``; InputError that names its first unusable row or column."""
    if suite.profile not in PROFILES:
        raise InputError(f"suite {suite.name}: unknown profile {suite.profile}: choose from {', '.join(PROFILES)}")
    if not suite.columns:
        raise InputError(f"suite {suite.name} has no column: give [[columns]] with a task each")
    for column in suite.columns:
        try:
            named(column.task)
        except InputError as error:
            raise InputError(f"suite {suite.name}: {error}") from None
        require_seeds(column.seeds, f"suite {suite.name}, column {column.task}: seed")
    labels = [row.label for row in suite.rows]
    labels += [label for row in suite.rows if row.seeds for label, _ in row.members()]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise InputError(f"suite {suite.name}: two rows are named {twice[0]}")
    for row in suite.rows:
        try:
            checked_label(row.label)
        except InputError as error:
            raise InputError(f"suite {suite.name}: {error}") from None
        if bool(row.checkpoint) == bool(row.preset):
            raise InputError(f"suite {suite.name}, row {row.label}: give either a checkpoint or a preset")
        if row.checkpoint and (row.flags or row.seeds or row.data):
            raise InputError(f"suite {suite.name}, row {row.label}: flags and seeds are for a preset, and so is data")
        _check_after(suite, row)
    for figure in suite.figures:
        _check_figure(suite, figure)
    return suite


def _check_figure(suite: Suite, figure: Figure) -> None:
    """InputError for another kind, a group without rows, a setting of no row, or a metric of no column."""
    where = f"suite {suite.name}, figure {figure.name}"
    if figure.kind not in ("curve", "plane") or (figure.kind == "plane") != bool(figure.across):
        raise InputError(f"{where}: kind is curve, or plane, which alone has `across`")
    groups = {row.group for row in suite.rows}
    if absent := [one for one in (*figure.panels, figure.marks) if one and one not in groups]:
        raise InputError(f"{where}: no row has the group {absent[0]!r}")
    settings = {name for row in suite.rows for name in row.at}
    tasks = {task.name for column in suite.columns for task in named(column.task)}
    for quantity in (figure.x, *figure.y, *filter(None, [figure.across])):
        task, _, metric = quantity.partition("/")
        known = metric and task in tasks and _has_metric(task, metric)
        if not known and quantity not in settings:
            raise InputError(f"{where}: {quantity} is no setting of a row and no metric of a column")


def _has_metric(task: str, key: str) -> bool:
    return TASKS[task].open_metrics is not None or any(metric.key == key for metric in TASKS[task].metrics)


def _check_after(suite: Suite, row: Row) -> None:
    """InputError where the row's run waits for none, for itself, or for one of other seeds."""
    uses = any(AFTER in flag for flag in row.flags)
    earlier = {one.label: one for one in suite.rows[: suite.rows.index(row)] if one.preset}
    where = f"suite {suite.name}, row {row.label}"
    if uses != bool(row.after):
        raise InputError(f"{where}: give after, a row's label, together with {AFTER} in the flags")
    if row.after and row.after not in earlier:
        raise InputError(f"{where}: after {row.after!r} is no earlier row with a preset")
    if row.after and earlier[row.after].seeds not in ((), row.seeds):
        raise InputError(f"{where}: row {row.after} has other seeds: give both the same, or {row.after} none")


def read_suite(path: Path) -> Suite:
    """The suite of a TOML file, named as the file. InputError that names the bad place."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as TOML ({error})") from None
    try:
        return checked_suite(checked({"name": path.stem, **values, **expanded(values)}, Suite))
    except ValueError as error:
        raise InputError(str(error) if isinstance(error, InputError) else f"{path}: {error}") from None


def changed(
    suite: Suite,
    profile: str | None = None,
    presets: Sequence[str] = (),
    flags: str = "",
    pretrain_seeds: int | None = None,
    own: bool = False,
) -> Suite:
    """``suite`` at another size: another profile, presets OLD=NEW, further ``flags`` for every row with a preset.

    ``pretrain_seeds``: each such row is a group of that many pretraining runs, of seeds 0, 1, …. ``own``: on the user's
    data in place of the embedded set. InputError for a replacement that replaces nothing.
    """
    try:
        rows, words = list(suite.rows), tuple(shlex.split(flags))
    except ValueError as error:
        raise InputError(f"--flags {flags}: {error}") from None
    if (words or pretrain_seeds is not None) and not any(row.preset for row in rows):
        given = f"--flags {flags}" if words else f"--pretrain-seeds {pretrain_seeds}"
        raise InputError(f"{given}: suite {suite.name} has no row with a preset")
    for entry in presets:
        old, _, new = entry.partition("=")
        if not new or not any(row.preset == old for row in suite.rows):
            used = ", ".join(dict.fromkeys(row.preset for row in suite.rows if row.preset)) or "no preset"
            raise InputError(f"--preset {entry}: give OLD=NEW; suite {suite.name} has {used}")
        rows = [
            dataclasses.replace(row, preset=new) if one.preset == old else row
            for row, one in zip(rows, suite.rows, strict=True)
        ]
    rows = [dataclasses.replace(row, flags=(*row.flags, *words)) if row.preset else row for row in rows]
    if pretrain_seeds is not None:
        if not 1 <= pretrain_seeds <= RUNS:
            raise InputError(f"--pretrain-seeds {pretrain_seeds}: give 1 to {RUNS}")
        rows = [dataclasses.replace(row, seeds=tuple(range(pretrain_seeds))) if row.preset else row for row in rows]
    if rows != list(suite.rows):
        suite = dataclasses.replace(
            suite, rows=tuple(rows), name=f"{suite.name}-{_words(pretrain_seeds, presets, words)}"
        )
    if own and (fixed := [row for row in rows if row.data]):
        raise InputError(
            f"--data: row {fixed[0].label} of suite {suite.name} is pretrained on {fixed[0].data}: for your data, "
            "write a suite that names them in its rows"
        )
    if own and suite.data not in ("own", "standard"):
        suite = dataclasses.replace(suite, data="own", name=f"{suite.name}-own")
    return dataclasses.replace(suite, profile=profile or suite.profile)


def _words(pretrain_seeds: int | None, presets: Sequence[str], flags: Sequence[str]) -> str:
    """``3-seeds`` and, of other presets or flags, six digits: the part of a changed suite's name."""
    parts = [f"{pretrain_seeds}-seeds" if pretrain_seeds else ""]
    parts += [digest([list(presets), list(flags)])[:6] if presets or flags else ""]
    return "-".join(filter(None, parts))


def find_suite(name: str) -> Suite:
    """The suite ``name`` of SUITES, or of the TOML file at that path. InputError if there is none."""
    if name in SUITES:
        return SUITES[name]
    if name.endswith(".toml"):
        return read_suite(Path(name))
    raise InputError(f"unknown suite {name}: choose from {', '.join(SUITES)}, or give the path of a .toml file")


for _path in sorted(FOLDER.glob("*.toml")):
    register(read_suite(_path))
