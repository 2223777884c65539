"""Train linear heads of several published styles in one pass over the training images.

    for place, outcome in train_heads(contexts, views=None): ...

Each context is a run of its own, with its own head, record and saved state. Several processes share the forward passes
and the heads: the features are those of one process, and each head trains in one process, so the result is the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.profiles import PROFILES
from benchmarks.run import Context
from benchmarks.tasks.base import Result
from benchmarks.tasks.compute.crops import CachedCrops, OnlineCrops, Scale, Source, Training, extract_views
from benchmarks.tasks.compute.features import byte_batches, labelled_images, profile_view
from benchmarks.tasks.compute.frozen import Frozen, require_finite
from benchmarks.tasks.compute.linear_run import Outcome, Run, Tested
from benchmarks.tasks.compute.processes import launch, loaders
from pretrain.common.files import digest, results_dir
from pretrain.runtime.distributed import (
    all_gather_object,
    any_rank,
    broadcast_object,
    local_device,
    rank,
    world_size,
)

SAVE_SECONDS = 60.0


def train_heads(contexts: Sequence[Context], views: int | None) -> Iterator[tuple[int, Outcome]]:
    """(place in ``contexts``, outcome) of each run, on one data root and seed.

    ``views``: cached crops per image, at most one per epoch; None: new ones in every epoch.

    Runs that were interrupted at the same place go on together, others by themselves.
    """
    yield from launch(max(1, contexts[0].num_gpus), _work, (list(contexts), views))


def _work(contexts: list[Context], views: int | None) -> Iterator[tuple[int, Outcome]]:
    first, device = contexts[0], local_device()
    profile = PROFILES[first.spec.profile]
    paths, labels = labelled_images(first.root, "train")
    frozen = Frozen(first.backbone(), device, first.spec.precision)
    training = Training(
        paths=paths,
        labels=labels,
        size=profile.view.crop,
        seed=first.spec.seed,
        chunk=profile.chunk,
        workers=loaders(first.loader_workers),
    )
    test = _tested(frozen, first, "val", training, None)
    dim = test.x.shape[1]
    runs = [Run(place, one, labels, dim=dim, seed=first.spec.seed, device=device) for place, one in enumerate(contexts)]
    kept_out = next((~run.kept for run in runs if run.kept is not None and run.choosers), None)
    chosen_on = _tested(frozen, first, "train", training, kept_out) if kept_out is not None else None
    source: Source
    if views:
        folders = {scale: _cache(first, training, scale) for scale in {run.style.crop_scale for run in runs}}
        views = min(views, max(run.style.epochs for run in runs))
        extract_views(frozen, training, folders, views)
        source = CachedCrops(folders, training, views, device)
    else:
        source = OnlineCrops(frozen, training)
    for group, start in _groups(runs):
        for place, outcome in _pass(group, start, source, training, test, chosen_on, frozen):
            if views and isinstance(outcome, Result):
                used = {"views": min(views, runs[place].style.epochs)}
                outcome = dataclasses.replace(outcome, config=outcome.config | used)
            yield place, outcome


def _cache(context: Context, training: Training, scale: Scale) -> Path:
    """Folder of the cached features of crops of ``scale``."""
    spec = context.spec
    data = context.root.section("imagenet")["fingerprint"]
    pixels = digest(context.backbone().input.identity())[:6]
    area = "-".join(f"{one:g}" for one in scale)
    name = f"{spec.checkpoint_sha256[:12]}-{pixels}-{data[:12]}-crops-{training.size}-{area}-{training.seed}"
    return results_dir() / "features" / f"{name}-{spec.precision}"


def _groups(runs: list[Run]) -> Iterator[tuple[list[Run], int]]:
    """Runs that can go on from the same number of chunks, and that number: what was saved last before a kill.

    A save writes one run after the other, so that a kill may leave some at the save before: all of a pass have that.
    """
    positions = broadcast_object([run.usable_saves() for run in runs] if rank() == 0 else [])
    left = dict(enumerate(positions))
    while left:
        start = min((saved[-1] for saved in left.values() if saved), default=0)
        group = [place for place, saved in left.items() if start in saved or not start]
        for place in group:
            left.pop(place)
        yield [runs[place] for place in group], start


def _pass(
    runs: list[Run],
    start: int,
    source: Source,
    training: Training,
    test: Tested,
    chosen_on: Tested | None,
    frozen: Frozen,
) -> Iterator[tuple[int, Outcome]]:
    """Train ``runs`` from ``start`` chunks on; each process has every world-th of them."""
    own, per_epoch = runs[rank() :: world_size()], training.chunks()
    for run in own:
        if start:
            run.load(start)
        run.forget(start)
    ends = {run.place: (run.style.epochs, run.style.crop_scale) for run in runs}  # of the runs that go on
    epoch, first = divmod(start, per_epoch)
    last = max(end for end, _ in ends.values())
    total, done = last * len(training.paths), min(start * training.chunk, last * len(training.paths))
    saved = time.monotonic()
    with tqdm(total=total, initial=done, desc=f"{len(runs)} linear heads", mininterval=5, disable=rank() > 0) as bar:
        while ends:
            scales = sorted({scale for _, scale in ends.values()})
            for number, chunk in enumerate(source.epoch(epoch, first, scales), first + 1):
                for run in own:
                    run.take(chunk)
                bar.update(len(chunk.rows))
                if number < per_epoch and any_rank(rank() == 0 and time.monotonic() - saved > SAVE_SECONDS)[0]:
                    for run in own:
                        run.save(epoch * per_epoch + number)
                    saved = time.monotonic()
            outcomes = [(run.place, outcome) for run in own if (outcome := run.end_epoch(test, chosen_on))]
            found = [pair for some in all_gather_object(outcomes) for pair in some]
            epoch, first = epoch + 1, 0
            own = [run for run in own if run.place not in dict(found)]
            if any_rank(rank() == 0 and time.monotonic() - saved > SAVE_SECONDS)[0]:
                for run in own:
                    run.save(epoch * per_epoch)
                saved = time.monotonic()
            yield from _proved(found, runs, frozen, start)
            for place, _ in found:
                ends.pop(place)


def _proved(
    found: list[tuple[int, Outcome]], runs: list[Run], frozen: Frozen, start: int
) -> Iterator[tuple[int, Outcome]]:
    """``found`` with the proof that the backbone is the checkpoint's still, and where the pass was resumed.

    A run's saves are there until its turn.
    """
    proof, by_place = frozen.require_unchanged() if found else "", {run.place: run for run in runs}
    for place, outcome in found:
        if isinstance(outcome, Result):
            if rank() == 0:
                by_place[place].finish(outcome)
            config = outcome.config | {"backbone": proof}
            outcome = dataclasses.replace(outcome, config=config, resumed_at=start or None)
        yield place, outcome


def _tested(frozen: Frozen, context: Context, split: str, training: Training, mask: np.ndarray | None) -> Tested:
    """Features of the evaluation crops of a split's images, those in ``mask``; the processes share the work."""
    paths, labels = labelled_images(context.root, split)
    rows = np.arange(len(paths)) if mask is None else np.flatnonzero(mask)
    size, world = training.chunk, world_size()
    chunks = [rows[begun : begun + size] for begun in range(0, len(rows), size)]
    own = [paths[row] for some in chunks[rank() :: world] for row in some]
    batches = byte_batches(own, profile_view(context.spec.profile), training.workers, size)
    found: list[Tensor] = []
    for begun in tqdm(range(0, len(chunks), world), desc=f"{split} images", mininterval=5, disable=rank() > 0):
        some = chunks[begun : begun + world]
        mine = frozen.features(next(batches)) if rank() < len(some) else None
        found += frozen.of_all(mine, [len(numbers) for numbers in some], size)
    x = torch.cat(found)
    require_finite(torch.isfinite(x).all(), frozen.precision)
    return Tested(x=x, y=torch.from_numpy(labels[rows]).to(frozen.device))
