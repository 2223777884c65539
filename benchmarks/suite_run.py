"""Run a suite: data, pretraining, conversion, every task, the table. Done work is skipped. Imports no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.budget import say_budget
from benchmarks.checkpoints import EvaluatedCheckpoint, evaluated, import_all, parse_checkpoints
from benchmarks.data.emoji import EMBEDDED
from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.root import DataRoot
from benchmarks.estimate import say_forecast
from benchmarks.executors.base import Executor, Job, check_jobs
from benchmarks.jobs.commands import noted
from benchmarks.plan import Column, Plan, check_data, check_detectors, resolve_columns
from benchmarks.report.summary import finish
from benchmarks.suites import AFTER, Row, Suite, SuiteColumn
from benchmarks.tasks import Task, named
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir, digest, results_dir
from pretrain.common.shell import command

LOG_NAME = 100  # characters of a log's name that tell its flags


def run_suite(
    suite: Suite,
    checkpoints: dict[str, Path],
    executor: Executor,
    workers: int,
    num_gpus: int,
    opts: tuple[str, ...],
    data: tuple[Path, ...] = (),
) -> int:
    """Run a suite with the user's ``checkpoints`` as further rows; prints the table. 0, or 1 when a run failed.

    ``data``: the user's roots, where the suite's data are "own".
    """
    begun = time.monotonic()
    given = _given(suite, checkpoints)
    fixed = _own_roots(suite, data) or (standard_roots() if suite.data == "standard" else None)
    if not given and not any(row.preset for row in suite.rows):
        raise InputError(f'suite {suite.name} evaluates checkpoints: give CHECKPOINTS="name=/path/to/checkpoint.pth …"')
    identities = _check_rows(suite, executor)
    ready = {one.label: one for one in import_all(given, executor)}
    preparing = time.monotonic()
    roots = fixed or dict.fromkeys(LAYOUTS, _root(suite.data, suite.profile, workers))
    pretrained = {
        row.label: _root(row.data, suite.profile, workers) if row.data else roots["imagenet"]
        for row in suite.rows
        if row.preset
    }
    prepared = time.monotonic() - preparing
    plan = Plan(
        profile=suite.profile,
        columns=tuple(
            Column(
                task=task.name,
                root=_root(column.data, suite.profile, workers) if column.data else _root_for(task, roots),
                seeds=column.seeds,
            )
            for column in suite.columns
            for task in named(column.task)
            if column.data or task.layout in roots
        ),
        num_gpus=num_gpus,
        opts=opts,
    )
    check_data(plan, "python -m benchmarks run --task coco-det-fpn-1x …")
    plan = resolve_columns(plan, executor)
    check_detectors(plan, list(ready.values()), executor)
    say_budget(plan, list(ready.values()), executor, workers)
    say_forecast(plan, list(ready.values()))
    saved: list[Path] = []
    jobs = []
    for row in suite.rows:
        if row.preset and not row.after:
            jobs += _pretraining_jobs(plan, suite, row, pretrained, ready, saved, identities)
    jobs += [job for label in given for job in plan.jobs(ready[label], saved)]
    with noted() as note:
        ran = executor.run(jobs)
        note.failed = len(ran.failed)
    ran = dataclasses.replace(ran, seconds={"data": [prepared], **ran.seconds})
    labels = [label for row in suite.rows for label, _ in row.members()]
    rows = [ready[label] for label in dict.fromkeys([*labels, *given]) if label in ready]
    expected = [(one.label, spec) for one in rows for spec in plan.specs(one)]
    groups = {label: row.label for row in suite.rows if row.seeds for label, _ in row.members()}
    return finish(expected, suite.profile, suite.name, saved, ran, begun, groups, suite)


def _given(suite: Suite, checkpoints: dict[str, Path]) -> dict[str, Path]:
    """The checkpoint files of the suite's rows and of the command, by label. InputError for a label in both."""
    labels = {label for row in suite.rows for label, _ in row.members()} | {row.label for row in suite.rows}
    if clash := set(checkpoints) & labels:
        raise InputError(
            f"{', '.join(sorted(clash))}: the suite has a row of that name; give your checkpoint another one"
        )
    items = tuple(f"{row.label}={row.checkpoint}" for row in suite.rows if row.checkpoint)
    return parse_checkpoints(items, f"suite {suite.name}, row") | checkpoints


def _check_rows(suite: Suite, executor: Executor) -> dict[str, str]:
    """A digest of the settings of each pretraining run, by its label.

    InputError for an unknown preset or for flags that it does not accept, before anything is started.
    """
    members = [(label, row.preset, flags) for row in suite.rows if row.preset for label, flags in row.members()]
    found: dict[str, str] = {}
    if members:

        def keep(value: dict[str, str]) -> list[Job]:
            found.update(value)
            return []

        job = Job(name="rows", target="benchmarks.suite_run:check_rows", arguments={"members": members}, then=keep)
        check_jobs([job], executor, say_done=False)
    return found


def check_rows(members: list[tuple[str, str, tuple[str, ...]]]) -> dict[str, str]:
    """Worker of _check_rows, on (label, preset, flags) of each: importing presets imports torch."""
    from pretrain.command import parse

    found = {}
    for label, preset, flags in members:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                found[label] = digest([preset, repr(parse(preset, [*flags, "--data", "."]).config), flags])
        except InputError as error:
            raise InputError(f"row {label}: {error}") from None
        except SystemExit:
            words = " ".join(said.getvalue().replace("│", " ").split())
            raise InputError(f"row {label}: {preset} {' '.join(flags)}: {words[:300]}") from None
    return found


def _pretraining_jobs(
    plan: Plan,
    suite: Suite,
    row: Row,
    data: Mapping[str, DataRoot],
    ready: dict[str, EvaluatedCheckpoint],
    saved: list[Path],
    identities: Mapping[str, str] | None = None,
) -> list[Job]:
    """Pretrain and import each run of a row (at once if done), then evaluate it and begin the runs that wait for it.

    ``data``: where each row with a preset is pretrained, by label.
    """

    def job(row: Row, label: str, flags: tuple[str, ...]) -> Job:
        def following(folder: Path) -> list[Job]:
            return [
                job(one, name, tuple(flag.replace(AFTER, str(folder)) for flag in given))
                for one in suite.rows
                if one.after == row.label
                for name, given in one.members()
                if not row.seeds or name.removeprefix(one.label) == label.removeprefix(row.label)
            ]

        identity = (identities or {}).get(label, "")
        return _pretraining_job(plan, row, label, flags, data[row.label], ready, saved, following, identity)

    return [job(row, *member) for member in row.members()]


def _pretraining_job(
    plan: Plan,
    row: Row,
    label: str,
    flags: tuple[str, ...],
    data: DataRoot,
    ready: dict[str, EvaluatedCheckpoint],
    saved: list[Path],
    following: Callable[[Path], list[Job]],
    identity: str = "",
) -> Job:
    def then(value: tuple[Path, str]) -> list[Job]:
        found = evaluated(label, value[0])
        assert found is not None
        ready[label] = found
        return [*following(value[0].parent), *plan.jobs(found, saved)]

    waiting = len(following(Path()))
    own = [data.name] if row.data else []
    name = "-".join([row.preset, *own, *(word.strip("-") for word in flags)]).replace("/", "_")
    if len(name) > LOG_NAME:  # a path among the flags; the seed, which is the last, would be cut off
        name = f"{name[:LOG_NAME]}-{digest(flags)[:8]}"
    return Job(
        name=f"{label} pretrain",
        stage="pretrain and import",
        target="benchmarks.suite_run:pretrain_and_import",
        arguments={"preset": row.preset, "flags": flags, "data": data.folder("imagenet") / "train"},
        log=results_dir() / "logs" / f"pretrain-{name}.log",
        then=then,
        report=lambda value: f"{value[0].parent.name}; imported, {value[1]}",
        follows=plan.jobs_per_row() + waiting * (1 + plan.jobs_per_row()),
        gpus=1,
        kind="pretrain",
        work=(f"pretrain-{digest([identity, flags, data.section('imagenet')['fingerprint']])[:12]}",)
        if identity
        else (),
        still=lambda value: value[0].with_name("meta.json").is_file() and evaluated(label, value[0]) is not None,
    )


def pretrain_and_import(preset: str, flags: tuple[str, ...], data: Path) -> tuple[Path, str]:
    """Finish a preset's pretraining run and import it (in a worker); the checkpoint and its proof in words."""
    from benchmarks.checkpoints import import_first
    from benchmarks.executors.nodes import call, torchrun
    from benchmarks.executors.slurm_task import allotted
    from pretrain.command import parse
    from pretrain.train import run

    nodes, each = allotted()
    if nodes * each > 1:
        words = [*torchrun(nodes, each), "-m", "pretrain", preset, *flags, "--data", str(data)]
        path = Path(call(words, output=True).splitlines()[-1])
    else:
        arguments = parse(preset, [*flags, "--data", str(data)])
        path = run(preset, arguments.config, arguments.data, arguments.resume)
    return path, import_first(path)


def _root(data: str, profile: str, workers: int) -> DataRoot:
    """An embedded set of the profile, generated if absent, or the prepared root at ``data``."""
    from benchmarks.data.emoji.generate import EMOJI_SETS, embedded_set

    if data not in EMBEDDED:
        return _prepared(data)
    if profile not in EMOJI_SETS:
        raise InputError(f"the embedded set has no size for profile {profile}: name a prepared root as data")
    return DataRoot.load(embedded_set(profile, EMBEDDED[data], workers))


def _root_for(task: Task, roots: dict[str, DataRoot]) -> DataRoot:
    """The root of the task's layout, or one of the same source, which says so if it lacks the layout. InputError."""
    root = roots.get(task.layout) or roots.get(LAYOUTS[task.layout].prepare)
    if root is None:
        advice = f"give its column `data`, the path of a root that `prepare {LAYOUTS[task.layout].prepare}` wrote"
        raise InputError(f"{task.name}: the standard data have no {task.layout} layout: {advice}")
    return root


def _own_roots(suite: Suite, data: tuple[Path, ...]) -> dict[str, DataRoot] | None:
    """The user's roots by layout where the suite's data are "own", else None.

    InputError for none, for two of a layout, for a layout that no column reads, and for a suite that has data.
    """
    if suite.data != "own":
        if data:
            raise InputError(f"--data {data[0]}: suite {suite.name} has data of its own; leave it out")
        return None
    if not data:
        raise InputError(f"suite {suite.name} reads your data: give --data, roots of `python -m benchmarks prepare`")
    layouts = {task.layout for column in suite.columns for task in named(column.task) if not column.data}
    pretrains = any(row.preset and not row.data for row in suite.rows)
    layouts |= {"imagenet"} if pretrains else set()
    found: dict[str, DataRoot] = {}
    for root in map(_prepared, data):
        read = [layout for layout in root.sections if layout in layouts]
        if not read:
            raise InputError(f"suite {suite.name} has no task that reads data set {root.name}: leave it out")
        if twice := [layout for layout in read if layout in found]:
            raise InputError(f"{found[twice[0]].name} and {root.name} both have layout {twice[0]}: give one of them")
        found |= dict.fromkeys(read, root)
    if idle := [column.task for column in suite.columns if _lacks_data(column, found)]:
        print(f"left out, no data with their layout: {', '.join(idle)}", file=sys.stderr)
    if "imagenet" not in found and pretrains:
        raise InputError(f"suite {suite.name} pretrains on an imagenet layout: give a root that has one with --data")
    return found


def _lacks_data(column: SuiteColumn, roots: Mapping[str, DataRoot]) -> bool:
    return not column.data and not any(task.layout in roots for task in named(column.task))


def _prepared(path: str | Path) -> DataRoot:
    """The user's prepared root. InputError if it is missing, or its source has changed since."""
    root = DataRoot.load(path)
    root.check_unchanged()
    return root


STANDARD = {
    "imagenet": ("ImageNet-1k (train/ and val/ of 1000 class folders)", "IMAGENET_DIR", "", 1000),
    "voc": ("PASCAL VOC 2007 and 2012 (VOC2007/, VOC2012/)", "DETECTRON2_DATASETS", "", 20),
    "coco": ("COCO 2017 (train2017/, val2017/, annotations/)", "DETECTRON2_DATASETS", "coco", 80),
}


def standard_roots() -> dict[str, DataRoot]:
    """The prepared ImageNet, VOC 2007+2012 and COCO 2017. InputError after a list of the missing ones and places."""
    found, missing = {}, []
    for kind, (title, variable, inside, classes) in STANDARD.items():
        place = data_dir() / kind
        if (place / "data.json").exists():
            root = DataRoot.load(place)
            section = root.section(kind)
            whole = kind != "voc" or [year for year, _ in section["train"]] == ["VOC2007", "VOC2012"]
            if len(section["classes"]) == classes and whole:
                root.check_unchanged()
                print(f"{title}: {place}", file=sys.stderr)
                found[kind] = root
                continue
            print(f"NOT THE STANDARD SET {title}: {place} has {len(section['classes'])} classes", file=sys.stderr)
        else:
            print(f"MISSING {title}: {_where(kind, variable, inside)}", file=sys.stderr)
        missing.append(kind)
    if missing:
        raise InputError(f"the standard data lack {', '.join(missing)}: nothing was started")
    return found


def _where(kind: str, variable: str, inside: str) -> str:
    """Where a standard set was looked for, and the command that prepares it."""
    given = os.environ.get(variable)
    source = Path(given, inside).expanduser() if given else None
    there = f"{variable} is not set" if source is None else f"{source} is {'there' if source.is_dir() else 'not there'}"
    prepare = command("benchmarks", "prepare", kind, source or "FOLDER", "--name", kind)
    return f"not prepared in {data_dir() / kind}; {there}; prepare it with: {prepare}"
