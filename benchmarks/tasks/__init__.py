"""The downstream tasks: every module of this folder with a TASK or TASKS, and every detection protocol.

Imports no torch.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable

from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task
from benchmarks.tasks.detection import detection_task
from pretrain.common.errors import InputError
from transfer.detection.protocol_files import PROTOCOLS, protocol_names

__all__ = [
    "TASKS",
    "Cost",
    "Metric",
    "Published",
    "Result",
    "Settings",
    "Setup",
    "Task",
    "by_group",
    "detection_task",
    "named",
    "register",
]

TASKS: dict[str, Task] = {}
"""By name, in the order of a table's columns."""
_FIRST = (  # names and groups; others follow
    *("linear", "linear-sgd", "linear-cached", "low-shot", "knn", "knn-dino", "knn-mmselfsup"),
    *("voc07-svm", "voc07-low-shot", "many-shot", "many-shot-voc07", "few-shot", "semi", "finetune"),
)


def register(task: Task) -> Task:
    """Add ``task`` to TASKS. InputError if another task has its name."""
    if TASKS.setdefault(task.name, task) is not task:
        raise InputError(f"two tasks are named {task.name}: rename one of them")
    return task


def named(name: str) -> list[Task]:
    """The task ``name``, or all tasks of the group ``name``. InputError for an unknown name, with the nearest known."""
    if name in TASKS:
        return [TASKS[name]]
    groups = {task.group for task in TASKS.values() if task.group}
    if name not in groups:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), [*TASKS, *sorted(groups)], n=3)
        advice = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"unknown task {name or repr(name)}: {advice}`python -m benchmarks list` has all of them")
    return [task for task in TASKS.values() if task.group == name]


def by_group(names: Iterable[str]) -> list[str]:
    """``names`` once each, the name of a group in place of its tasks where all of them are there."""
    unique = dict.fromkeys(names)
    groups: dict[str, set[str]] = {}
    for task in TASKS.values():
        groups.setdefault(task.group, set()).add(task.name)
    whole = {name: group for group, tasks in groups.items() if group and tasks <= unique.keys() for name in tasks}
    return list(dict.fromkeys(whole.get(name, name) for name in unique))


def _own() -> list[Task]:
    """The tasks that come with the project: those on frozen features, then the detectors by layout and file."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    tasks: list[Task] = []
    for one in modules:
        tasks += getattr(one, "TASKS", None) or ([one.TASK] if hasattr(one, "TASK") else [])
    places = {name: place for place, name in enumerate(_FIRST)}
    tasks.sort(key=lambda task: places.get(task.group or task.name, len(places)))
    detectors = [detection_task(PROTOCOLS / f"{name}.yaml") for name in protocol_names()]
    return [*tasks, *sorted(detectors, key=lambda one: (one.layout != "voc", one.name))]


for _task in _own():
    register(_task)
