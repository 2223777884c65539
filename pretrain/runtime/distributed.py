"""Several processes as one run: started by torchrun, each takes its slice of the global batch, rank 0 writes.

Run: ``torchrun --nproc-per-node=8 -m pretrain PRESET --data FOLDER``. One process needs none of it: every function here
is then the identity. Axis letters: n samples per process, world processes, world·n the global batch, in rank order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.common.errors import InputError

T = TypeVar("T")
# A process may wait this long for another: rank 0 probes, saves and exports while the others stand by.
TIMEOUT = timedelta(minutes=60)
_control: dist.ProcessGroup | None = None  # gloo beside nccl: small messages that must not make a GPU wait


def world_size() -> int:
    """Number of processes that train together; 1 unless ``process_group`` has formed a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process in [0, world_size()); 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    """All ranks' tensors, one below the other; backward sums over ranks the gradient of this rank's own rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gather_no_grad(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return local_rows(gradient)


def gather(tensor: Tensor) -> Tensor:
    """(n, …) of every rank to (world·n, …) in rank order, with gradient; the same n everywhere.

    When each rank computes the loss of the global batch from it, the mean of the ranks' gradients (what
    DistributedDataParallel takes) is the gradient of that one loss.
    """
    return _Gather.apply(tensor) if world_size() > 1 else tensor


def gather_no_grad(tensor: Tensor) -> Tensor:
    """``gather`` without gradient, for keys, indices and pixels of any dtype."""
    if world_size() == 1:
        return tensor.detach()
    with torch.no_grad():
        rows = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(rows, tensor.detach().contiguous())
        return torch.cat(rows)


def local_rows(tensor: Tensor) -> Tensor:
    """This rank's slice (n, …) of a global (world·n, …) tensor; what ``gather`` put together."""
    n = len(tensor) // world_size()
    return tensor[rank() * n : (rank() + 1) * n]


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of every rank's tensor, without gradient."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """Each flag, true on all ranks if true on any: for decisions that depend on local clocks, signals or files."""
    if world_size() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=_control)
    return tuple(bool(flag) for flag in raised)


def broadcast_object(value: T) -> T:
    """Rank 0's value on every rank (picklable)."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_control)
    return values[0]


def all_gather_object(value: T) -> list[T]:
    """Every rank's value (picklable), in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_control)
    return values


@contextmanager
def fail_together() -> Iterator[None]:
    """If the block raises on any rank, all ranks stop: the first that failed raises its error, the others exit.

    So one error is one line, and nobody waits for a rank that is gone.
    """
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    if any_rank(error is not None)[0]:
        first = all_gather_object(error is not None).index(True)
        if error is not None and rank() == first:
            raise error
        raise SystemExit(1)


def print_rank0(line: str) -> None:
    """Print ``line`` to stderr, once for all ranks."""
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)


def local_device() -> torch.device:
    """This process's GPU, by torchrun's LOCAL_RANK where it is set; the CPU without one.

    InputError where torchrun started more processes than there are GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= there:
        raise InputError(f"torchrun --nproc-per-node asks for {place + 1} GPUs or more, this machine has {there}")
    return torch.device("cuda", place)


@contextmanager
def process_group() -> Iterator[None]:
    """Form torchrun's process group (nccl on GPUs, gloo on the CPU) for the block; nothing outside torchrun."""
    global _control
    device = local_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    _control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
    try:
        yield
    finally:
        _control = None
        dist.destroy_process_group()
