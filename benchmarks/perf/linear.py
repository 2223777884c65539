"""Published linear styles: each alone, all in one pass, and on cached crops; seconds and accuracy on the same data.

Run: ``python -m benchmarks.perf linear --checkpoint x.pth --data results/data/emoji-demo --epochs 0.1 --alone``.

Every style of a pass is timed to its own end, the longest to the end of the pass. Start-up and the features of the
test images are part of every time. Results go to a temporary folder.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.perf.timing import processor
from benchmarks.plan import spec_of
from benchmarks.profiles import ProfileName
from benchmarks.records import ResultsStore
from benchmarks.run import Context, resolve_tasks
from benchmarks.tasks import TASKS, Setup, linear_sgd
from benchmarks.tasks.base import Result
from benchmarks.tasks.compute.one_pass import train_heads
from benchmarks.tasks.linear_sgd import STYLES
from pretrain.common.device import best_device
from pretrain.common.errors import InputError
from transfer.checkpoints.store import import_checkpoint

LONGEST = "moco"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Linear styles online, together and alone, against the same on cached crops."""

    data: Path
    """A data root with an imagenet layout."""
    checkpoint: Path | None = None
    """A checkpoint; default a random ResNet-50."""
    profile: ProfileName = "demo"
    """Sizes of images."""
    epochs: float = 0.1
    """Share of each style's published epochs."""
    batch: int = 8
    """Divisor of each style's batch and rate."""
    alone: bool = False
    """Also train each style by itself, instead of adding up epochs."""
    timings: bool = True
    """Also time the longest style alone and all of its crops together."""
    views: int | None = None
    """Cached crops per image; default as the tasks take them."""
    workers: int = 0
    """Loader processes."""


def measure(arguments: Arguments) -> str:
    """The measured seconds, their ratios, and each style's accuracy online and cached."""
    root = DataRoot.load(arguments.data)
    root.section("imagenet")
    if not 0 < arguments.epochs <= 1 or arguments.batch < 1:
        raise InputError("--epochs is a share in (0, 1], --batch a divisor of 1 or more")
    small = {arguments.profile: (1 / arguments.epochs, arguments.batch)}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, RESULTS_DIR=folder),
        mock.patch.dict(linear_sgd.SMALL, small, clear=True),
    ):
        return _measure(arguments, root, _checkpoint(arguments.checkpoint, Path(folder)))


def _measure(arguments: Arguments, root: DataRoot, checkpoint: EvaluatedCheckpoint) -> str:
    images = root.section("imagenet")["counts"]
    lines = [
        f"{images['train']:,} training and {images['val']:,} test images of {root.name}, {arguments.profile} size, "
        f"{arguments.epochs:g} × the published epochs; {best_device()}, {processor()}, "
        f"{torch.get_num_threads()} threads"
    ]
    same_crops = [name for name in STYLES if STYLES[name][0].crop_scale == STYLES[LONGEST][0].crop_scale]
    seconds: dict[str, float] = {}
    # Other work on the machine moves the clock on the wall, and differently for each side.
    on_one_core = best_device().type == "cpu" and not arguments.workers and torch.get_num_threads() == 1

    def timed(side: str, names: Sequence[str], kind: str) -> dict[str, Result]:
        contexts = [_context(arguments, root, checkpoint, f"linear-{kind}-{name}") for name in names]
        cached_views = arguments.views or linear_sgd.views_for(images["train"])
        clock = time.process_time if on_one_core else time.perf_counter
        begun, found = clock(), {}
        for place, outcome in train_heads(contexts, cached_views if kind == "cached" else None):
            if isinstance(outcome, Exception):
                print(f"{names[place]}: {outcome}", file=sys.stderr)
            else:
                found[names[place]] = outcome
        seconds[side] = clock() - begun
        print(f"{side}: {seconds[side]:.1f} s", file=sys.stderr)
        return found

    if arguments.timings:
        timed("longest", [LONGEST], "sgd")
        timed("one crop", same_crops, "sgd")
    online = timed("all", list(STYLES), "sgd")
    cached_one = timed("cached longest", [LONGEST], "cached")[LONGEST] if arguments.timings else None
    cached = timed("cached all", list(STYLES), "cached")
    for name in STYLES if arguments.alone else ():
        timed(f"alone {name}", [name], "sgd")
    lines.append(f"seconds of {'the processor' if on_one_core else 'the wall clock'}:")
    lines += _ratios(seconds, len(same_crops), arguments.alone)
    if cached_one:
        assert cached_one.metrics == cached[LONGEST].metrics  # the same head beside others
    return "\n".join([*lines, *_accuracies(online, cached)])


def _ratios(seconds: dict[str, float], same_crops: int, alone: bool) -> list[str]:
    """Lines of seconds and of ratios to the longest online style."""
    lines = [f"{side:20}{value:9.1f} s" for side, value in seconds.items() if not side.startswith("alone ")]
    epochs = sum(style.epochs for style, _, _ in STYLES.values()) / STYLES[LONGEST][0].epochs
    lines.append(f"{len(STYLES)} styles have {epochs:.2f} × the epochs of {LONGEST}")
    if longest := seconds.get("longest"):
        lines.append(
            f"one online run: 1 ×; {same_crops} styles of its crops {seconds['one crop'] / longest:.2f} ×; all "
            f"{len(STYLES)} {seconds['all'] / longest:.2f} ×; cached, extraction included: one "
            f"1/{longest / seconds['cached longest']:.1f}, then all 1/{longest / seconds['cached all']:.1f}"
        )
        if alone:
            each = sum(value for side, value in seconds.items() if side.startswith("alone "))
            lines.append(f"each of the {len(STYLES)} by itself: {each / longest:.2f} ×")
    return lines


def _accuracies(online: dict[str, Result], cached: dict[str, Result]) -> list[str]:
    """Last-epoch top-1 of each style, online and cached: the best epoch's is a maximum over noise."""
    lines, differences = [], []
    for name in online:
        if name not in cached:
            continue
        pair = [float(one[name].metrics["top1_last"] or 0.0) for one in (online, cached)]
        differences.append(pair[1] - pair[0])
        lines.append(f"{name:20} online {pair[0]:6.2f}  cached {pair[1]:6.2f}  difference {differences[-1]:+6.2f}")
    mean, spread = np.mean(differences), np.std(differences, ddof=1)
    return [*lines, f"mean difference {mean:+.2f} points, standard deviation over styles {spread:.2f}"]


def _checkpoint(path: Path | None, folder: Path) -> EvaluatedCheckpoint:
    if path is None:
        torch.manual_seed(0)
        path = folder / "random.pth"
        torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    return EvaluatedCheckpoint(label="measured", stored=import_checkpoint(path))


def _context(arguments: Arguments, root: DataRoot, checkpoint: EvaluatedCheckpoint, task: str) -> Context:
    resolved = resolve_tasks([task], Setup(profile=arguments.profile))[task]
    spec = spec_of(TASKS[task], resolved, root, checkpoint, arguments.profile, 0)
    folder = Path(tempfile.mkdtemp(dir=ResultsStore().root.parent))
    return Context(
        spec=spec, root=root, checkpoint=checkpoint, folder=folder, num_gpus=0, loader_workers=arguments.workers
    )
