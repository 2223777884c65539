"""The downstream tasks: every module of this folder with a TASK, and every detection protocol. Imports no torch."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.tasks.base import Metric, Published, Result, Settings, Setup, Task
from benchmarks.tasks.detection import detection_task
from pretrain.common.errors import InputError
from transfer.detection.protocol_files import PROTOCOLS, protocol_names

__all__ = ["TASKS", "Metric", "Published", "Result", "Settings", "Setup", "Task", "detection_task", "register"]

TASKS: dict[str, Task] = {}
"""By name, in the order of a table's columns."""
_FIRST = ("linear", "low-shot", "knn")


def register(task: Task) -> Task:
    """Add ``task`` to TASKS. InputError if another task has its name."""
    if TASKS.setdefault(task.name, task) is not task:
        raise InputError(f"two tasks are named {task.name}: rename one of them")
    return task


def _own() -> list[Task]:
    """The tasks that come with the project: those on frozen features, then the detectors by layout and file."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    tasks = {task.name: task for module in modules if (task := getattr(module, "TASK", None))}
    names = sorted(tasks, key=lambda name: (name not in _FIRST, _FIRST.index(name) if name in _FIRST else 0, name))
    detectors = [detection_task(PROTOCOLS / f"{name}.yaml") for name in protocol_names()]
    return [*map(tasks.__getitem__, names), *sorted(detectors, key=lambda one: (one.layout != "voc", one.name))]


for _task in _own():
    register(_task)
