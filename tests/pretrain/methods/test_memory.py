"""Queue, bank and momentum copies against plain Python."""

from collections import deque

import pytest
import torch
from torch import nn

from pretrain.methods import memory
from pretrain.methods.memory import Bank, Queue, momentum_copy, shuffle, update_momentum


def numbered(first, count, dim=3):
    return torch.arange(first, first + count).float()[:, None].expand(-1, dim)


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (3, 3, 3, 3), (5, 5, 1), (7, 12, 2)])
def test_a_queue_is_first_in_first_out_and_wraps(sizes):
    """The rows from the oldest on are those of a deque of the same length, also when a push is longer than that."""
    queue, plain, count = Queue(5, 3), deque(range(-5, 0), maxlen=5), 0
    queue.keys.copy_(numbered(-5, 5))
    for size in sizes:
        queue.push(numbered(count, size))
        plain.extend(range(count, count + size))
        count += size
        oldest_first = queue.keys.roll(-int(queue.position), 0)[:, 0]
        assert oldest_first.tolist() == list(plain)


def test_a_queue_starts_with_unit_vectors_and_its_snapshot_stays():
    queue = Queue(64, 8)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(64))
    before = queue.snapshot()
    queue.push(torch.zeros(3, 8))
    assert before.norm(dim=1).min() > 0.9 and (queue.keys.norm(dim=1) == 0).sum() == 3


def test_a_bank_averages_and_stays_on_the_sphere():
    torch.manual_seed(0)
    bank, index, z = Bank(6, 4), torch.tensor([4, 0, 2]), nn.functional.normalize(torch.randn(3, 4), dim=1)
    before = bank.rows.clone()
    bank.update(index, z, 0.75)
    for i in range(6):
        row = before[i]
        if i in index.tolist():
            row = 0.75 * row + 0.25 * z[index.tolist().index(i)]
            row = row / row.norm()
        torch.testing.assert_close(bank.rows[i], row)


def test_an_image_that_is_twice_in_the_batch_is_written_once():
    bank, index = Bank(3, 2), torch.tensor([1, 1, 0])
    z, before = torch.eye(2)[[0, 1, 1]], bank.rows.clone()
    bank.update(index, z, 0.5)
    once = nn.functional.normalize(0.5 * before[1] + 0.5 * z[0], dim=0)
    torch.testing.assert_close(bank.rows[1], once)


def test_draws_from_a_bank_are_uniform():
    torch.manual_seed(0)
    counts = Bank(10, 2).draw(20000).bincount(minlength=10)
    assert counts.min() > 1800 and counts.max() < 2200


def test_a_momentum_copy_follows_and_gets_no_gradient():
    torch.manual_seed(0)
    fast = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    slow = momentum_copy(fast)
    assert not any(p.requires_grad for p in slow.parameters()) and all(p.requires_grad for p in fast.parameters())
    before = [p.clone() for p in slow.parameters()]
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1.0)
    fast(torch.randn(8, 3))
    update_momentum(slow, fast, 0.9)
    for now, old, target in zip(slow.parameters(), before, fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * target)
    assert torch.equal(slow[1].running_mean, torch.zeros(4))  # its own statistics


def test_shuffled_rows_come_back_in_order():
    torch.manual_seed(0)
    images = torch.arange(32.0)[:, None]
    mine, restore = shuffle(images)
    assert not torch.equal(mine, images) and torch.equal(restore(mine), images)


def test_two_processes_shuffle_over_both(monkeypatch):
    """Each takes half of one order of both halves, and gets every key back in its place."""
    halves = torch.arange(8.0)[:, None].chunk(2)
    taken = []
    for rank in (0, 1):
        torch.manual_seed(0)
        monkeypatch.setattr(memory, "gather_no_grad", lambda tensor: torch.cat(halves))
        monkeypatch.setattr(memory, "local_rows", lambda tensor, rank=rank: tensor.chunk(2)[rank])
        taken.append(shuffle(halves[rank]))
    shares = [share for share, _ in taken]
    assert sorted(torch.cat(shares).flatten().tolist()) == list(range(8))
    others = [set(halves[1 - rank].flatten().tolist()) for rank in (0, 1)]
    assert set(shares[0].flatten().tolist()) & others[0] and set(shares[1].flatten().tolist()) & others[1]
    monkeypatch.setattr(memory, "gather_no_grad", lambda tensor: torch.cat(shares))
    for share, restore in taken:
        assert torch.equal(restore(share), torch.cat(halves))
