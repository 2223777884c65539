"""Batches of random crops, in an order and with crops that depend on (seed, epoch, index) alone.

A run that starts again at any step, with any number of loader workers, sees exactly the images and crops an
undisturbed run sees. The next readable image takes the place of one that cannot be read; more than UNREADABLE_SHARE of
them end the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrain.augment.crops import Crop, CropBackend, crop_boxes, cut
from pretrain.common.errors import InputError
from pretrain.common.signals import leave_signals_to_parent
from pretrain.data import ImageList, decode
from pretrain.runtime.distributed import print_rank0

_ORDER, _CROPS = 0, 1  # separate random streams of one seed
UNREADABLE_SHARE = 0.01  # of the images
Failure = tuple[int, str]  # index of an image that could not be read, and why, in one line
Sample = tuple[list[Tensor], int, int, list[Failure]]  # crops, index, label, failures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """A batch off the loader: for each of the crops N×3×size×size uint8, ``index`` and ``label`` (N,), what failed."""

    crops: list[Tensor]
    index: Tensor  # of the images that were read, in the data set
    label: Tensor  # −1 in a flat folder
    failures: list[Failure]

    def pin_memory(self) -> Samples:
        """The batch in page-locked memory; DataLoader calls it."""
        return Samples(
            crops=[crop.pin_memory() for crop in self.crops],
            index=self.index.pin_memory(),
            label=self.label.pin_memory(),
            failures=self.failures,
        )


class CropDataset(Dataset[Sample]):
    """dataset[(epoch, index)]: crops of the image, decoded once; the next readable one replaces an unreadable image."""

    def __init__(self, images: ImageList, crops: Sequence[Crop], *, seed: int, crop_backend: CropBackend) -> None:
        self.images, self.crops, self.seed, self.crop_backend = images, crops, seed, crop_backend

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, wanted = key
        index, image, failures = self._readable(wanted)
        label = self.images.labels[index] if self.images.labels is not None else -1
        if image is None:
            return [], index, label, failures
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _CROPS, epoch, wanted]))
        boxes = crop_boxes(*image.size, self.crops, rng)
        return cut(image, boxes, [crop.size for crop in self.crops], self.crop_backend), index, label, failures

    def _readable(self, wanted: int) -> tuple[int, Image.Image | None, list[Failure]]:
        """The first readable image from ``wanted`` on; None after so many failures that they end the run."""
        failures: list[Failure] = []
        for index in ((wanted + offset) % len(self.images) for offset in range(len(self.images))):
            try:
                return index, decode(self.images.root / self.images.paths[index]), failures
            except InputError as error:
                # Counted, not raised: a loader worker would wrap it in a traceback of its own.
                failures.append((index, str(error)))
                if len(failures) > allowed_unreadable(len(self.images)):
                    break
        return wanted, None, failures


def allowed_unreadable(size: int) -> int:
    """How many of ``size`` images may be unreadable."""
    return int(UNREADABLE_SHARE * size)


class Unreadable:
    """The images that could not be read so far: each named once on stderr, counted, saved with the run."""

    def __init__(self, size: int) -> None:
        self.size, self.indices = size, set[int]()

    def add(self, failures: Iterable[Failure]) -> None:
        """Take in a step's failures, of all ranks. InputError when there are too many in all."""
        for index, reason in failures:
            if index not in self.indices:
                self.indices.add(index)
                if len(self.indices) > allowed_unreadable(self.size):
                    raise InputError(
                        f"{len(self.indices)} of {self.size} images could not be read, more than "
                        f"{UNREADABLE_SHARE:.0%}: {reason}"
                    )
                print_rank0(
                    f"warning: {reason}; the next image takes its place ({len(self.indices)} of {self.size} so far)"
                )

    def state_dict(self) -> dict[str, Any]:
        """The indices, sorted."""
        return {"indices": sorted(self.indices)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the indices in again."""
        self.indices = set(state_dict["indices"])


class StepSampler:
    """Lists of (epoch, index), one for each step in [start, stop): a permutation an epoch, whole batches only.

    Of each global batch, rank r of ``world`` takes the r-th of ``world`` equal slices.
    """

    def __init__(
        self, size: int, batch_size: int, *, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed, self.start, self.stop = size, batch_size, seed, start, stop
        self.own = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.size // self.batch_size
        current, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            epoch, batch = divmod(step, per_epoch)
            if epoch != current:
                current = epoch
                order = np.random.default_rng(np.random.SeedSequence([self.seed, _ORDER, epoch])).permutation(self.size)
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen[self.own]]


def collate(samples: list[Sample]) -> Samples:
    """Samples to a batch; without the crops of images that have none, for which the run ends."""
    crops, index, label, failures = zip(*samples, strict=True)
    return Samples(
        crops=[torch.stack(same) for same in zip(*(own for own in crops if own), strict=True)],
        index=torch.tensor(index),
        label=torch.tensor(label),
        failures=[failure for own in failures for failure in own],
    )


def load_batches(
    dataset: CropDataset, sampler: StepSampler, *, workers: int, pin: bool
) -> Generator[Samples, None, None]:
    """Batches in the sampler's order. 0 workers: inline. Close it (contextlib.closing), or its processes stay."""
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=leave_signals_to_parent,
        # The loader draws its workers' base seed; from the global RNG it would shift everything drawn after it.
        generator=torch.Generator().manual_seed(dataset.seed),
    )
    yield from loader
