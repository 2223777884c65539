"""`python -m benchmarks rehearsal`: every task of profile paper from end to end in minutes, and a summary.

1. This machine: versions, GPUs, disk, shared memory, open files, cores (machine.py).
2. Miniatures of the standard data sets, prepared as the real ones are (miniatures.py).
3. Every task on them by `python -m benchmarks run --profile paper`, on one GPU and on all (without GPUs in one process
   and in two), shrunk as shrink.py says; detectors' batch and rate as REFERENCE_WORLD_SIZE gives them.
4. One detector killed by SIGKILL after a checkpoint and started again: it has to continue, and to end where it should.
5. `tables`: one row per checkpoint.
6. The user's data roots (user_data.py).

Everything goes to results/rehearsal, whose runs appear in no other table. Imports no torch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.arguments import RehearsalArguments
from benchmarks.checkpoints import parse_checkpoints
from benchmarks.data.root import DataRoot
from benchmarks.executors.progress import minutes, say
from benchmarks.rehearsal import miniatures, shrink, steps
from benchmarks.rehearsal.machine import findings
from benchmarks.rehearsal.report import Line, summary
from benchmarks.rehearsal.steps import Outcome, Stage, Variant
from benchmarks.rehearsal.user_data import check_roots
from benchmarks.tasks import TASKS, Task, named
from pretrain.common.errors import InputError
from pretrain.common.files import results_dir

FEW = ("many-shot", "factors-image")  # on few classes: a thousand fits per decay, and features of its own, take minutes


def rehearse(arguments: RehearsalArguments) -> int:
    """All steps; 0, or 1 if one of them failed. InputError for unknown tasks and missing files, before anything."""
    begun = time.monotonic()
    tasks = _tasks(arguments.task)
    given = parse_checkpoints(arguments.checkpoint)
    roots = [DataRoot.load(path) for path in arguments.data]
    folder = _fresh(results_dir() / "rehearsal")
    found = findings(tasks)
    say("this machine", *(f"  {one}" for one in found))
    if [one for one in found if one.level == "failed"]:
        say("the rehearsal ends here: correct the failed points first")
        return 1
    ways = steps.own_variants()
    say("smaller than a run of profile paper", *(f"  {line}" for line in shrink.described(_on_cpu(ways[0]))))
    checkpoints = [f"{name}={path}" for name, path in given.items()] or _random_checkpoints(folder)
    stages = [_stage(folder, way) for way in ways]
    places, lines = prepare(stages[0], tasks)
    outcomes = {
        way.name: _all_tasks(stage, tasks, places, checkpoints) for way, stage in zip(ways, stages, strict=True)
    }
    for way, stage in zip(ways, stages, strict=True):
        lines += _after(stage, way, tasks, places, checkpoints)
    checked = check_roots(roots, tasks)
    text, failed = summary(tasks, outcomes, lines, [*found, *checked])
    say("", text, f"{minutes(time.monotonic() - begun)} in all; logs are under {folder}")
    return 1 if failed else 0


def _tasks(words: Sequence[str]) -> list[Task]:
    """The tasks that the command names; all but those for our own pretraining runs alone, which are not rehearsed."""
    given = dict.fromkeys(task.name for name in words for task in named(name))
    return [TASKS[name] for name in given] or [task for task in TASKS.values() if not task.own_runs]


def _fresh(folder: Path) -> Path:
    """``folder``, empty: an earlier rehearsal's runs would count as done."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _on_cpu(way: Variant) -> bool:
    return way.environment[shrink.VARIABLE] == "cpu"


def _stage(folder: Path, way: Variant, part: str = "") -> Stage:
    name = "-".join(f"{way.name} {part}".split())
    return Stage(results=folder / name, data=folder / "data", logs=folder / "logs", variant=way)


def _random_checkpoints(folder: Path) -> list[str]:
    """NAME=PATH of two random ResNet-50s; the first is used for everything."""
    import torch
    import torchvision

    items = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = folder / f"random-{seed}.pth"
        torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
        items.append(f"{path.stem}={path}")
    return items


def prepare(stage: Stage, tasks: Sequence[Task]) -> tuple[dict[str, Path], list[Line]]:
    """The data root of each task, and a line for each miniature and for each task without one."""
    lines, roots = [], []
    layouts = {task.layout for task in tasks}
    for one in miniatures.MINIATURES.values():
        if not layouts & set(one.layouts):
            continue
        begun, raw = time.monotonic(), stage.data.parent / "raw" / one.name
        one.write(raw)
        status, log, last = stage.command(f"prepare {one.name}", "prepare", *one.words(raw))
        reason = f"prepare ended with status {status}: {last}" if status else ""
        seconds = time.monotonic() - begun
        lines.append(Line(f"prepare {one.title}", Outcome(seconds=seconds, reason=reason, log=log)))
        if not status:
            roots.append(DataRoot.load(stage.data / one.name))
    places = {}
    for task in tasks:
        try:
            places[task.name] = place_of(task, roots).path
        except InputError as error:
            lines.append(Line(f"data for {task.name}", Outcome(reason=str(error))))
    return places, lines


def place_of(task: Task, roots: Sequence[DataRoot]) -> DataRoot:
    """The first root that has the task's layout and that its check accepts; of a group only the first task is given
    the many classes, since the others take the same path. InputError with the last reason if there is none."""
    fitting = [root for root in roots if task.layout in root.sections]
    leader = next((one for one in TASKS.values() if task.group and one.group == task.group), task)
    if task.name in FEW or (leader is not task and not task.together):
        fitting.reverse()
    reason = f"no miniature has the layout {task.layout}: add one to benchmarks/rehearsal/miniatures.py"
    for root in fitting:
        try:
            if task.check:
                task.check(root, "paper")
            return root
        except InputError as error:
            reason = str(error)
    raise InputError(reason)


def _all_tasks(
    stage: Stage, tasks: Sequence[Task], places: Mapping[str, Path], checkpoints: Sequence[str]
) -> dict[str, Outcome | None]:
    """Outcome by task with the first checkpoint, a command for each data root; None where the variant has no part.

    Tasks that use one GPU at most run in the first variant alone.
    """
    say(f"{stage.variant.name}: every task of profile paper")
    several = stage.variant.processes > 1
    mine = [task for task in tasks if task.name in places and (task.every_gpu or not several)]
    outcomes: dict[str, Outcome | None] = dict.fromkeys(task.name for task in tasks)
    for root in dict.fromkeys(places[task.name] for task in mine):
        names = [task.name for task in mine if places[task.name] == root]
        outcomes |= steps.run_tasks(stage, root.name, names, checkpoints[0], root)
    return outcomes


def _after(
    stage: Stage, way: Variant, tasks: Sequence[Task], places: Mapping[str, Path], checkpoints: Sequence[str]
) -> list[Line]:
    """The other checkpoints, one task per layout; a killed detector; the table."""
    lines = []
    ready = [task for task in tasks if task.name in places and (task.every_gpu or way.processes == 1)]
    first = {task.layout: task for task in reversed(ready)}
    short = list(first.values()) if len(checkpoints) > 1 and way.processes == 1 else []
    if short and checkpoints[0].startswith("random-0="):
        short = [next((task for task in ready if task.name == "knn"), short[-1])]  # only for a second row
    for one in checkpoints[1:]:
        label = one.partition("=")[0]
        for task in short:
            done = steps.run_tasks(stage, f"{label} {task.name}", [task.name], one, places[task.name])
            lines.append(Line(f"{label}: {task.name} ({way.name})", done[task.name]))
    if detector := next((task for task in ready if task.detects), None):
        say(f"{way.name}: {detector.name} is killed and started again")
        killed = _stage(stage.results.parent, way, "killed")
        outcome = steps.killed_and_resumed(killed, detector.name, checkpoints[0], places[detector.name])
        lines.append(Line(f"{detector.name} resumes after kill -9 ({way.name})", outcome))
    expected = {one.partition("=")[0] for one in (checkpoints if short else checkpoints[:1])}
    try:
        rows = steps.labels_in_table(stage)
        wrong = "" if sorted(rows) == sorted(expected) else f"its rows are {rows}, not {sorted(expected)}"
        lines.append(Line(f"table with one row per checkpoint ({way.name})", Outcome(reason=wrong)))
    except InputError as error:
        lines.append(Line(f"table ({way.name})", Outcome(reason=str(error))))
    return lines
