"""A step of training as several GPUs make it, on however many there are.

A published batch of 8 GPUs × 32 images is 8 replicas: each normalises its 32 images by their own statistics, the
gradients are averaged, and the running statistics are the first replica's, as DistributedDataParallel's broadcast of
its first process's buffers has it. Several processes share the replicas; a replica's images and the result, up to
rounding, do not depend on how many there are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.runtime.distributed import rank, world_size

_ORDER, _FLIPS = 0, 2  # random streams of one seed, beside the crops' (pretrain/loader.py)


def steps_per_epoch(images: int, batch: int, replicas: int, drop_last: bool) -> int:
    """Steps until every replica has seen its share, of images / replicas rounded up; at least one."""
    share, micro = -(-images // replicas), batch // replicas
    return max(1, share // micro) if drop_last else -(-share // micro)


class ReplicaSampler:
    """Lists of (epoch, index) of this process's replicas, one replica after the other, for the steps in [start, stop).

    As torch's DistributedSampler: a permutation an epoch, of which replica r of R takes every R-th index from r on,
    the first indices once more where they do not divide. All replicas of a step have the same number of images.
    """

    def __init__(
        self, size: int, batch: int, replicas: int, *, drop_last: bool, seed: int, start: int, stop: int
    ) -> None:
        self.size, self.replicas, self.micro = size, replicas, batch // replicas
        self.per_epoch = steps_per_epoch(size, batch, replicas, drop_last)
        self.seed, self.start, self.stop = seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        current, shares = -1, np.empty((0, 0), dtype=np.int64)
        for step in range(self.start, self.stop):
            epoch, place = divmod(step, self.per_epoch)
            if epoch != current:
                current = epoch
                order = np.random.default_rng(np.random.SeedSequence([self.seed, _ORDER, epoch])).permutation(self.size)
                shares = np.resize(order, (-(-self.size // self.replicas), self.replicas)).T
            chosen = shares[own_replicas(self.replicas), place * self.micro : (place + 1) * self.micro]
            yield [(epoch, int(index)) for index in chosen.ravel()]


def own_replicas(replicas: int) -> list[int]:
    """Numbers of the replicas that this process computes."""
    return list(range(rank(), replicas, world_size()))


@functools.lru_cache(maxsize=1)
def flipped(seed: int, epoch: int, size: int, probability: float) -> np.ndarray:
    """(size,) booleans: which of the images are flipped in this epoch."""
    return np.random.default_rng(np.random.SeedSequence([seed, _FLIPS, epoch])).random(size) < probability


def batchnorms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The layers with running statistics."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def accumulate(
    network: nn.Module,
    norms: Sequence[nn.modules.batchnorm._BatchNorm],
    images: Tensor,
    labels: Tensor,
    replicas: int,
    *,
    together: bool,
    autocast: torch.autocast,
) -> Tensor:
    """Add the gradient of the mean cross-entropy over the step's images of all processes; that mean.

    ``images`` N×3×H×W and ``labels`` (N,) are of this process's replicas, one after the other. ``together``: they are
    normalised as one batch (with those of other processes if the layers are SyncBatchNorm).
    """
    own = own_replicas(replicas)
    total = torch.zeros((), device=images.device)
    groups = [own] if together else [[number] for number in own]
    for group, x, y in zip(groups, images.chunk(len(groups)), labels.chunk(len(groups)), strict=True):
        for norm in norms:
            norm.track_running_stats = together or group == [0]  # in training without it: batch statistics, none kept
        with autocast:
            scores = network(x)
        scores = scores.float() if scores.dtype == torch.bfloat16 else scores
        loss = F.cross_entropy(scores, y) * (len(group) / replicas)
        loss.backward()
        total += loss.detach()
    for norm in norms:
        norm.track_running_stats = True
    return _summed(network, total)


def _summed(network: nn.Module, loss: Tensor) -> Tensor:
    """Replace each gradient by its sum over the processes; the sum of their losses."""
    if world_size() == 1:
        return loss
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([loss.view(1), *(gradient.reshape(-1) for gradient in gradients)])
    dist.all_reduce(flat)
    parts = flat[1:].split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
    return flat[0]


def share_statistics(network: nn.Module) -> None:
    """Give every process the running statistics of the first, whose replica keeps them."""
    if world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)
