"""Suites: rows × columns under a profile, from TOML files in this folder or the user's, or registered by a plugin.

    python -m benchmarks suite smoke --workers 2 --checkpoint mine=/path/a.pth
    python -m benchmarks suite my_suite.toml

A row is a checkpoint file, or a pretraining preset with flags; with several ``seeds`` it is a group of pretraining
runs, whose numbers are their mean ± their standard deviation. A column is a task with downstream seeds. Imports no
torch.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from benchmarks.arguments import require_seeds
from benchmarks.profiles import PROFILES
from benchmarks.report.text import checked_label
from benchmarks.schema import checked
from benchmarks.tasks import named
from pretrain.common.errors import InputError

FOLDER = Path(__file__).parent
AFTER = "{after}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """``label`` with either a ``checkpoint`` file or a ``preset`` with the ``flags`` of ``python -m pretrain``.

    ``seeds`` of the pretraining; () is the preset's own. ``after``: the label of a row with a preset that is finished
    first; ``{after}`` in the flags is the folder of its run, of the same seed where it has several.
    """

    label: str
    checkpoint: str = ""
    preset: str = ""
    flags: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    after: str = ""

    def members(self) -> list[tuple[str, tuple[str, ...]]]:
        """(label, flags) of each pretraining run."""
        if not self.seeds:
            return [(self.label, self.flags)]
        return [(f"{self.label} #{seed}", (*self.flags, "--seed", str(seed))) for seed in self.seeds]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteColumn:
    """A task, or a group of tasks, with its downstream seeds, on the suite's data or on a prepared root of its own."""

    task: str
    seeds: tuple[int, ...] = (0,)
    data: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """``data`` is "emoji" (the embedded set of the profile), "standard" (ImageNet, VOC, COCO), "own" (prepared roots
    that the command names, on which the columns of their layouts run) or a prepared root.

    ``title`` is one line for ``suite --help``.
    """

    name: str
    title: str
    profile: str
    data: str = "emoji"
    rows: tuple[Row, ...] = ()
    columns: tuple[SuiteColumn, ...]


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
        if row.checkpoint and (row.flags or row.seeds):
            raise InputError(f"suite {suite.name}, row {row.label}: flags and seeds are for a preset")
        _check_after(suite, row)
    return suite


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
        return checked_suite(checked({"name": path.stem, **values}, Suite))
    except ValueError as error:
        raise InputError(str(error) if isinstance(error, InputError) else f"{path}: {error}") from None


def find_suite(name: str) -> Suite:
    """The suite ``name`` of SUITES, or of the TOML file at that path. InputError if there is none."""
    if name in SUITES:
        return SUITES[name]
    if name.endswith(".toml"):
        return read_suite(Path(name))
    raise InputError(f"unknown suite {name}: choose from {', '.join(SUITES)}, or give the path of a .toml file")


for _path in sorted(FOLDER.glob("*.toml")):
    register(read_suite(_path))
