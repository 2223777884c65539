"""The command `tables`: the runs of a profile, or a paper's layout, into files. Imports no torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.arguments import TablesArguments
from benchmarks.profiles import PROFILES
from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.report.cells import recorded
from benchmarks.report.files import say_failed, stale, write_files
from benchmarks.report.paper.layout import Table, page_of, table_of
from benchmarks.report.paper.spec import find_spec
from benchmarks.report.tables import complete, file_name, profile_table, write_tables
from benchmarks.sharing.imported import with_imports
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import results_dir

Newest = Mapping[RunSpec, RunRecord]


def collate(arguments: TablesArguments) -> int:
    """0; 1 when a file could not be written or, with ``check``, differs. Paths on stdout. InputError."""
    folder = arguments.output or results_dir() / "tables"
    name = arguments.name
    if name is not None and (not name or Path(name).name != name or not name.isprintable()):
        raise InputError(f"--name {name!r}: give a file name without folders; --output names the folder")
    if arguments.table in PROFILES:
        return _profile(arguments, folder)
    spec = find_spec(arguments.table)
    spec = dataclasses.replace(
        spec,
        name=name or spec.name,
        profile=arguments.profile or spec.profile,
        delta_to=spec.delta_to if arguments.delta_to is None else arguments.delta_to,
    )
    newest = _newest(spec.profile, arguments.theirs)
    pairs = _recorded(spec.profile, arguments.data, newest)
    table = table_of(dataclasses.replace(spec, name=file_name(spec.name)), pairs, newest, arguments.row)
    texts = paper_texts(table, ranks=arguments.ranks)
    if arguments.check:
        return _check(folder, texts) or _check(folder, paper_figures(table))
    for text in (texts[one].decode() for one in texts if one.endswith(".md")):
        print(f"\n{text}", file=sys.stderr)
    written, failed = write_files(folder, texts | paper_figures(table))
    say_failed(folder, failed)
    print(*written, sep="\n", end="\n" if written else "")
    return 1 if failed else 0


def _profile(arguments: TablesArguments, folder: Path) -> int:
    given = {
        "profile": arguments.profile,
        "row": arguments.row,
        "delta-to": arguments.delta_to,
        "ranks": arguments.ranks,
    }
    if idle := [flag for flag, value in given.items() if value]:
        raise InputError(f"--{idle[0]} is for a layout, and {arguments.table} is a profile: leave it out")
    profile = arguments.table
    name = arguments.name or f"{profile}-{arguments.data or 'all'}"
    newest = _newest(profile, arguments.theirs)
    pairs = _recorded(profile, arguments.data, newest)
    if arguments.check:
        return _check(folder, profile_table(pairs, profile, name, newest=newest)[1])
    _, paths = write_tables(pairs, profile, name, newest=newest, folder=folder)
    print(*paths, sep="\n", end="\n" if paths else "")
    return 0 if complete(paths) else 1


def paper_texts(table: Table, *, ranks: bool = False) -> dict[str, bytes]:
    """The files of a layout but its figures, by name; equal byte for byte for equal records."""
    from benchmarks.report.paper.bibliography import bibtex
    from benchmarks.report.paper.markdown import to_html, to_markdown
    from benchmarks.report.paper.ranking import ranking_files
    from benchmarks.report.paper.table_csv import to_csv
    from benchmarks.report.paper.tex import alone, to_latex

    name, page = table.spec.name, page_of(table)
    texts = {
        f"{name}.md": to_markdown(page),
        f"{name}.csv": to_csv(table),
        f"{name}.tex": to_latex(page),
        f"{name}-alone.tex": alone(page),
        f"{name}.html": to_html(page),
    }
    if page.cited:
        texts[f"{name}.bib"] = bibtex(source for _, source in page.cited)
    if ranks:
        texts |= ranking_files(table)
    return {one: text.encode() for one, text in texts.items()}


def paper_figures(table: Table) -> dict[str, bytes]:
    """The files of a layout's figures, by name; {} without any."""
    if not table.spec.figures:
        return {}
    from benchmarks.report.paper.pictures import pictures

    return pictures(table)


def _newest(profile: str, theirs: tuple[str, ...]) -> Newest:
    """The newest record of each spec, of imports too; says which tasks are unknown and which runs are hidden."""
    newest, hidden = with_imports(ResultsStore().all_newest(), theirs)
    for origin, count in hidden.items():
        print(f"note: {count} runs of {origin} are of others too, which are shown: --theirs {origin}", file=sys.stderr)
    strange = sorted({spec.task for spec in newest if spec.profile == profile and spec.task not in TASKS})
    if strange:
        names = printable(", ".join(strange))
        print(f"warning: runs of unknown tasks are left out ({names}): give --plugin if it is yours", file=sys.stderr)
    return newest


def _recorded(profile: str, data: str | None, newest: Newest) -> list[tuple[str, RunSpec]]:
    pairs = recorded(profile, data, newest)
    if not pairs:
        on = f" on {data}" if data else ""
        raise InputError(f"no recorded run of profile {profile}{on} under {results_dir() / 'runs'}")
    return pairs


def _check(folder: Path, files: Mapping[str, bytes]) -> int:
    if reason := stale(folder, files):
        print(f"stale: {printable(reason)}", file=sys.stderr)
        return 1
    return 0
