"""Features of random crops of a training split, chunk by chunk in an order drawn by (seed, epoch): new crops or cached.

A chunk is the unit of the backbone's forward pass: its images, and therefore the bits of its features, do not depend
on how many processes share the work, nor on which heads are trained. A crop depends on (seed, epoch, image, its range
of areas) alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from benchmarks.tasks.compute.features import mapped
from benchmarks.tasks.compute.frozen import Frozen, require_finite
from pretrain.augment.crops import cut, random_crop_box
from pretrain.common.errors import InputError
from pretrain.common.files import locked, replacing
from pretrain.common.signals import leave_signals_to_parent
from pretrain.data import decode
from pretrain.runtime.distributed import any_rank, rank, world_size

Scale = tuple[float, float]
Key = tuple[int, int, tuple[Scale, ...]]  # epoch, image, ranges of areas
SHARD = 65_536  # images per file of cached features
ORDER, CROPS = 2, 3  # random streams of a seed
HALF = 6e4  # features beyond it are kept in float32,
LEAST_HALF = 0.06  # and a chunk whose largest is below: float16 keeps its 11 bits down to a thousandth of this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """``rows`` (n,) image numbers, their labels (n,) and, for each range of areas, features n×D on the device."""

    rows: np.ndarray
    labels: Tensor
    features: Mapping[Scale, Tensor]


class Source(Protocol):
    """Feature chunks of an epoch."""

    def epoch(self, epoch: int, first: int, scales: Sequence[Scale]) -> Iterator[Chunk]:
        """The chunks of ``epoch`` from the ``first`` on; every process gets all of them."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A training split: image files, labels (N,); crops of ``size`` px drawn by ``seed``, ``chunk`` of them at once."""

    paths: Sequence[Path]
    labels: np.ndarray
    size: int
    seed: int
    chunk: int
    workers: int

    def chunks(self) -> int:
        """How many chunks an epoch has; the last may be shorter."""
        return -(-len(self.paths) // self.chunk)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """Image numbers of each chunk of ``epoch``."""
        order = np.random.default_rng(np.random.SeedSequence([self.seed, ORDER, epoch])).permutation(len(self.paths))
        return [order[begun : begun + self.chunk] for begun in range(0, len(order), self.chunk)]


class Crops(Dataset[list[Tensor] | str]):
    """dataset[(epoch, image, ranges)]: a crop for each range of areas, flipped half of the time, or why there is none.

    A reason instead of an error: a loader's process would wrap it in a traceback of its own.
    """

    def __init__(self, training: Training) -> None:
        self.training = training

    def __getitem__(self, key: Key) -> list[Tensor] | str:
        epoch, index, scales = key
        try:
            image = decode(self.training.paths[index])
        except InputError as error:
            return str(error)
        return [self._crop(image, epoch, index, scale) for scale in scales]

    def _crop(self, image: Image, epoch: int, index: int, scale: Scale) -> Tensor:
        stream = [self.training.seed, CROPS, epoch, index, *(round(1e6 * one) for one in scale)]
        rng = np.random.default_rng(np.random.SeedSequence(stream))
        box = random_crop_box(*image.size, scale, rng)
        (crop,) = cut(image, [box], [self.training.size], "torch")
        return crop.flip(2) if rng.random() < 0.5 else crop


def _stack(samples: list[list[Tensor] | str]) -> list[Tensor] | str:
    """For each range n×3×size×size uint8, or the first reason why there is none."""
    failed = [one for one in samples if isinstance(one, str)]
    return failed[0] if failed else [torch.stack(same) for same in zip(*samples, strict=True)]


def _forward(frozen: Frozen, training: Training, keys: Sequence[list[Key]]) -> Iterator[list[Tensor]]:
    """For each list of keys the features of its crops, n×D per range. InputError for an image that cannot be read."""
    loader = DataLoader(
        Crops(training),
        batch_sampler=keys,
        num_workers=training.workers,
        collate_fn=_stack,
        pin_memory=frozen.device.type == "cuda",
        prefetch_factor=4 if training.workers else None,
        worker_init_fn=leave_signals_to_parent,
        generator=torch.Generator(),
    )
    for crops in loader:
        if isinstance(crops, str):
            raise InputError(crops)
        yield [frozen.features(one) for one in crops]


class OnlineCrops:
    """New crops in every epoch; the processes share the chunks and hand their features to each other."""

    def __init__(self, frozen: Frozen, training: Training) -> None:
        self.frozen, self.training = frozen, training

    def epoch(self, epoch: int, first: int, scales: Sequence[Scale]) -> Iterator[Chunk]:
        """See Source. RunError after the last chunk if a feature was not finite: to ask earlier, a GPU would wait."""
        training, world = self.training, world_size()
        rows = training.rows(epoch)[first:]
        keys = [[(epoch, int(one), tuple(scales)) for one in some] for some in rows[rank() :: world]]
        own, finite = _forward(self.frozen, training, keys), torch.ones((), dtype=torch.bool, device=self.frozen.device)
        for begun in range(0, len(rows), world):
            some = rows[begun : begun + world]
            mine = next(own) if rank() < len(some) else []
            for numbers, features in zip(some, self._of_all(mine, some, len(scales)), strict=True):
                finite &= torch.stack([torch.isfinite(one).all() for one in features]).all()
                yield _chunk(training, numbers, dict(zip(scales, features, strict=True)))
        require_finite(finite, self.frozen.precision)

    def _of_all(self, mine: list[Tensor], rows: list[np.ndarray], ranges: int) -> list[list[Tensor]]:
        """The features of each process's chunk of ``rows``, on every process."""
        counts, size = [len(some) for some in rows], self.training.chunk
        found = [self.frozen.of_all(mine[place] if mine else None, counts, size) for place in range(ranges)]
        return [list(same) for same in zip(*found, strict=True)]


def _chunk(training: Training, rows: np.ndarray, features: Mapping[Scale, Tensor]) -> Chunk:
    device = next(iter(features.values())).device
    labels = torch.from_numpy(training.labels[rows])
    return Chunk(rows=rows, labels=labels.to(device, non_blocking=True), features=features)


class CachedCrops:
    """The features of ``views`` crops of each image, computed once and memory-mapped; epoch e reads view e mod views.

    Its views are the crops of the first epochs of OnlineCrops.
    """

    def __init__(self, folders: Mapping[Scale, Path], training: Training, views: int, device: torch.device) -> None:
        self.folders, self.training, self.views, self.device = folders, training, views, device
        self.shards = {
            (scale, view): [mapped(path) for path in shard_files(folder, view, len(training.paths))]
            for scale, folder in folders.items()
            for view in range(views)
        }
        self.dim = next(iter(self.shards.values()))[0].shape[1]

    def epoch(self, epoch: int, first: int, scales: Sequence[Scale]) -> Iterator[Chunk]:
        """See Source."""
        for rows in self.training.rows(epoch)[first:]:
            found = {scale: self._read(self.shards[scale, epoch % self.views], rows) for scale in scales}
            yield _chunk(self.training, rows, found)

    def _read(self, shards: list[np.ndarray], rows: np.ndarray) -> Tensor:
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        places = rows // SHARD
        for place in np.unique(places):
            here = np.flatnonzero(places == place)
            found[here] = shards[place][rows[here] % SHARD]
        return torch.from_numpy(found).to(self.device, non_blocking=True)


def shard_files(folder: Path, view: int, images: int) -> list[Path]:
    """The files of a view, SHARD images each."""
    return [folder / f"view{view}-{shard:04d}.npy" for shard in range(-(-images // SHARD))]


def extract_views(frozen: Frozen, training: Training, folders: Mapping[Scale, Path], views: int) -> None:
    """Compute the cached features that are missing; the processes share the files, each of which is whole or absent."""
    with ExitStack() as locks:
        for folder in sorted(folders.values()) if rank() == 0 else ():
            locks.enter_context(locked(folder))
        any_rank(False)  # the others wait for the lock
        shards = [(view, shard) for view in range(views) for shard in range(-(-len(training.paths) // SHARD))]
        for view, shard in shards[rank() :: world_size()]:
            targets = {
                scale: path
                for scale, folder in folders.items()
                if not (path := shard_files(folder, view, len(training.paths))[shard]).exists()
            }
            if targets:
                _extract_shard(frozen, training, targets, view, shard)
        any_rank(False)


def _extract_shard(frozen: Frozen, training: Training, targets: Mapping[Scale, Path], view: int, shard: int) -> None:
    """Write the features of a shard's crops, in float16 if they fit."""
    images = range(shard * SHARD, min((shard + 1) * SHARD, len(training.paths)))
    begins = range(images.start, images.stop, training.chunk)
    scales = tuple(targets)
    keys = [[(view, one, scales) for one in images[begun - images.start :][: training.chunk]] for begun in begins]
    found: list[list[np.ndarray]] = [[] for _ in scales]
    with tqdm(total=len(images), desc=f"crops {view} shard {shard}", mininterval=5) as bar:
        for features in _forward(frozen, training, keys):
            for kept, one in zip(found, features, strict=True):
                require_finite(torch.isfinite(one).all(), frozen.precision)
                kept.append((one.half() if LEAST_HALF < float(one.abs().max()) < HALF else one).cpu().numpy())
            bar.update(len(features[0]))
    for kept, target in zip(found, targets.values(), strict=True):
        with replacing(target) as partial, partial.open("wb") as stream:
            np.save(stream, np.concatenate(kept))
