"""Checks of the user's own data roots before a paper run: unchanged, fit for the tasks, the pace of reading images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.data.root import DataRoot
from benchmarks.rehearsal.machine import Finding
from benchmarks.tasks import Task
from pretrain.common.errors import InputError
from pretrain.common.files import walk
from pretrain.data import decode, is_image

READ = 64  # images


def check_roots(roots: Sequence[DataRoot], tasks: Sequence[Task]) -> list[Finding]:
    """Lines for each root; a task that cannot run on it is a warning, changed or unreadable data are failures."""
    return [finding for root in roots for finding in _check(root, tasks)]


def _check(root: DataRoot, tasks: Sequence[Task]) -> Iterator[Finding]:
    try:
        root.check_unchanged()
    except InputError as error:
        yield Finding("failed", str(error))
        return
    yield Finding("ok", f"{root.name}: {', '.join(root.sections)}, unchanged since it was prepared")
    for kind in root.sections:
        yield _read(root.name, root.folder(kind))
    for task in tasks:
        if task.layout in root.sections and task.check:
            try:
                task.check(root, "paper")
            except InputError as error:
                yield Finding("warning", f"{root.name}: {task.name} cannot run on it: {error}")


def _read(name: str, folder: Path) -> Finding:
    """The pace of one process on the first READ images of the folder."""
    begun, count = time.monotonic(), 0
    try:
        for path in islice(_images(folder), READ):
            decode(path)
            count += 1
    except (InputError, OSError) as error:
        return Finding("failed", f"{name}: {error}")
    if not count:
        return Finding("failed", f"{name}: {folder} has no image")
    pace = count / max(1e-9, time.monotonic() - begun)
    return Finding("ok", f"{name}: one process reads {pace:.0f} images/s of {folder}")


def _images(folder: Path) -> Iterator[Path]:
    for place, _, names in walk(folder):
        yield from (Path(place, one) for one in sorted(names) if is_image(one))
