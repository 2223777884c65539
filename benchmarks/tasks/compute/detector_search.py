"""Choose a detector's options on held-out training images: the search of a run, before its training on all of them.

A run's folder keeps ``search/<number>.json`` of each candidate that is done, so that a killed run goes on with the one
it was in, and its log and losses in ``search/<number>/``. The test images play no part.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tasks import TASKS, Result
from pretrain.common.errors import RunError
from pretrain.common.files import write_json
from transfer.detection.search import search_of
from transfer.detection.trainer import Diverged

if TYPE_CHECKING:
    from benchmarks.run import Context
    from benchmarks.tasks.compute.detector import Training

FOLDER = "search"
KEPT = ("log.txt", "metrics.json", "held_out.json", "subset.json")  # of a finished candidate


def choose(context: Context, train: Callable[[Context, Training], Result]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """((KEY, VALUE, …) of the best candidate, {"search": …} for the record); ((), {}) without a search.

    The best has the highest primary metric of its task on the held-out images, of equal ones the first; a candidate
    that diverged is worse than all others. RunError if none is left.
    """
    search = search_of(context.spec.overrides)
    if search is None:
        return (), {}
    metric = TASKS[context.spec.task].metrics[0]
    tried: list[dict[str, Any]] = []
    candidates = search.candidates()
    for number, opts in enumerate(candidates):
        tried.append(_tried(context, train, number, opts, metric.key))
        value = "diverged" if tried[-1]["diverged"] else tried[-1]["value"]
        shown = f"{value:.{metric.decimals}f}" if isinstance(value, float) else value or "undefined"
        line = f"search {number + 1} of {len(candidates)}: {' '.join(opts)}: held-out {metric.label} {shown}"
        print(line, file=sys.stderr, flush=True)
    sign = 1 if metric.higher_is_better else -1
    scores = [-math.inf if one["value"] is None else sign * one["value"] for one in tried]
    if max(scores) == -math.inf:
        why = "diverged" if all(one["diverged"] for one in tried) else "diverged or has no defined metric"
        raise RunError(f"every candidate of --search {search.text} {why}: search other values")
    best = candidates[scores.index(max(scores))]
    about = {"chosen": list(best), "metric": metric.key, "held_out": tried[0]["held_out"], "tried": tried}
    return best, {"search": about}


def _tried(
    context: Context, train: Callable[[Context, Training], Result], number: int, opts: tuple[str, ...], key: str
) -> dict[str, Any]:
    """One candidate's outcome, from its file if it is done."""
    from benchmarks.tasks.compute.detector import Training

    folder = context.folder / FOLDER / str(number)
    done = folder.with_name(f"{number}.json")
    if (before := _read(done)) and before.get("opts") == list(opts):
        _clean(folder)  # a kill may have come before that
        return before
    outcome: dict[str, Any] = {"opts": list(opts), "value": None, "diverged": None, "held_out": None}
    try:
        result = train(context, Training(opts=opts, folder=folder, held_out=True))
        outcome |= {"value": result.metrics[key], "held_out": result.config["facts"]["held_out"]}
    except Diverged as error:
        outcome["diverged"] = str(error)
    if outcome["held_out"] is None and (listed := _read(folder / "held_out.json")):
        outcome["held_out"] = {name: listed[name] for name in ("images", "sha256")}
    write_json(done, outcome)
    _clean(folder)
    return outcome


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _clean(folder: Path) -> None:
    """Remove checkpoints and detections: a candidate's have no use, and some are large."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
