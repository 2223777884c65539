"""What methods remember between steps, all of it in parameters and buffers: momentum networks, a queue, a bank.

Every process holds the same: what is pushed or written has been gathered, draws come from the global RNG. N samples of
the global batch, d embedding dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from pretrain.methods.heads import l2_normalize
from pretrain.runtime.distributed import gather_no_grad, local_rows

M = TypeVar("M", bound=nn.Module)


def momentum_copy(network: M) -> M:
    """A copy that no gradient reaches; it follows ``network`` by ``update_momentum``."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_momentum(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Slow ← momentum · slow + (1 − momentum) · fast for all parameters; BatchNorm's statistics are slow's own."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)


@torch.no_grad()
def shuffle(images: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A random share of the images of all processes, and what brings rows computed from it (N, …) back into order.

    So a key's BatchNorm statistics are not its query's (MoCo, arXiv 1911.05722, section 3.3), where there are several
    processes: one alone normalises the same images whatever their order. The order comes from the global RNG, alike
    everywhere.
    """
    everyone = gather_no_grad(images)
    order = torch.randperm(len(everyone), device=images.device)
    back = order.argsort()
    return local_rows(everyone[order]), lambda rows: gather_no_grad(rows)[back]


class Queue(nn.Module):
    """The newest ``size`` keys, first in, first out; at the start random directions.

    ``keys`` (size, d); ``position`` is where the oldest lies, which the next push replaces.
    """

    keys: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", l2_normalize(torch.randn(size, dim)))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def snapshot(self) -> Tensor:
        """A copy, which a backward pass may need after the next push."""
        return self.keys.clone()

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest by ``keys`` (N, d), the last row being the newest; of more than ``size`` the last stay."""
        size = len(self.keys)
        kept = keys.detach()[-size:].to(self.keys.dtype)
        places = (self.position + torch.arange(len(keys), device=keys.device)[-size:]) % size
        self.keys.index_copy_(0, places, kept)
        self.position.copy_((self.position + len(keys)) % size)


class Bank(nn.Module):
    """A direction for every image of the data set, the running average of its embeddings; at the start random.

    ``rows`` (images, d). InstDis, arXiv 1805.01978; the update is PyContrast's (pycontrast/memory/mem_bank.py).
    """

    rows: Tensor

    def __init__(self, images: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", l2_normalize(torch.randn(images, dim)))

    def of(self, index: Tensor) -> Tensor:
        """A copy of the rows of ``index`` (…,): (…, d)."""
        return self.rows[index]

    def draw(self, count: int) -> Tensor:
        """(count,) images drawn with replacement, whose rows are candidates for the whole batch."""
        return torch.randint(len(self.rows), (count,), device=self.rows.device)

    @torch.no_grad()
    def update(self, index: Tensor, embedding: Tensor, momentum: float) -> None:
        """Row of image ``index`` (N,) ← unit vector along momentum · row + (1 − momentum) · ``embedding`` (N, d)."""
        new = l2_normalize(torch.lerp(embedding.detach().to(self.rows.dtype), self.rows[index], momentum))
        # An image that is twice in the batch: all its writes are the first one's, so the order does not matter.
        first = (index[:, None] == index).int().argmax(1)
        self.rows.index_copy_(0, index, new[first])
