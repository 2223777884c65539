"""A step over replicas against copies of the network, one per GPU, as DistributedDataParallel trains them."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import BatchSampler, DistributedSampler

from benchmarks.tasks.compute import replicas
from benchmarks.tasks.compute.replicas import ReplicaSampler, accumulate, batchnorms, flipped, steps_per_epoch

OFF = torch.autocast("cpu", torch.bfloat16, enabled=False)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6)
    ).double()


@pytest.mark.parametrize(("size", "batch", "count"), [(50, 12, 4), (48, 12, 4), (49, 12, 1), (5, 16, 8), (2, 16, 8)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_replicas_see_the_images_that_distributed_sampler_gives_them(monkeypatch, size, batch, count, drop_last):
    steps = steps_per_epoch(size, batch, count, drop_last)
    for world in range(1, min(count, 3) + 1):
        seen = {number: [] for number in range(count)}
        for rank in range(world):
            monkeypatch.setattr(replicas, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(replicas, "world_size", lambda world=world: world)
            own = replicas.own_replicas(count)
            sampler = ReplicaSampler(size, batch, count, drop_last=drop_last, seed=3, start=steps, stop=2 * steps)
            for keys in sampler:
                assert {epoch for epoch, _ in keys} <= {1}
                for place, part in enumerate(np.array_split([index for _, index in keys], len(own))):
                    seen[own[place]].append(part.tolist())
            assert len(list(sampler)) == len(sampler) == steps
        order = np.random.default_rng(np.random.SeedSequence([3, 0, 1])).permutation(size).tolist()
        assert sorted(order) == list(range(size))
        for number in range(count):
            theirs = DistributedSampler(order, count, number, shuffle=False)
            expected = list(BatchSampler([order[place] for place in theirs], batch // count, drop_last))
            whole = list(BatchSampler([order[place] for place in theirs], batch // count, False))
            assert seen[number] == (expected or whole)  # where no batch is full the only one stays


def test_a_start_in_the_middle_gives_the_steps_that_are_left():
    options = {"drop_last": False, "seed": 0}
    whole = list(ReplicaSampler(50, 12, 4, start=0, stop=10, **options))
    assert list(ReplicaSampler(50, 12, 4, start=7, stop=10, **options)) == whole[7:]
    assert whole[:5] != whole[5:]


def test_a_step_is_that_of_one_copy_per_gpu():
    x, y = torch.randn(24, 3, 6, 6, dtype=torch.float64), torch.randint(0, 6, (24,))
    x[6:] *= 3  # replicas of other statistics than the first
    ours, copies = network(), [network() for _ in range(4)]
    losses = []
    for one, images, labels in zip(copies, x.chunk(4), y.chunk(4), strict=True):
        losses.append(F.cross_entropy(one(images), labels))
        losses[-1].backward()
    loss = accumulate(ours, batchnorms(ours), x, y, 4, together=False, autocast=OFF)
    assert loss.item() == pytest.approx(np.mean([one.item() for one in losses]), rel=1e-6)
    for parameter, *theirs in zip(ours.parameters(), *(one.parameters() for one in copies), strict=True):
        average = torch.stack([one.grad for one in theirs]).mean(0)
        torch.testing.assert_close(parameter.grad, average, rtol=1e-6, atol=1e-9)
    for name, buffer in ours.named_buffers():
        assert torch.equal(buffer, copies[0].get_buffer(name)), name
        assert name.endswith("num_batches_tracked") or not torch.equal(buffer, copies[1].get_buffer(name))
    assert all(norm.track_running_stats for norm in batchnorms(ours))


def test_synchronised_replicas_are_one_batch():
    x, y = torch.randn(24, 3, 6, 6, dtype=torch.float64), torch.randint(0, 6, (24,))
    ours, plain = network(), network()
    expected = F.cross_entropy(plain(x), y)
    expected.backward()
    loss = accumulate(ours, batchnorms(ours), x, y, 4, together=True, autocast=OFF)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(one, other) for one, other in zip(ours.buffers(), plain.buffers(), strict=True))
    apart = copy.deepcopy(plain)
    apart.zero_grad()
    accumulate(apart, batchnorms(apart), x, y, 4, together=False, autocast=OFF)
    assert not torch.allclose(apart[0].weight.grad, plain[0].weight.grad, rtol=1e-3)


def test_flips_depend_on_seed_and_epoch_alone_and_half_are_flipped():
    first = flipped(0, 0, 2000, 0.5).copy()
    assert 900 < first.sum() < 1100
    assert not np.array_equal(flipped(0, 1, 2000, 0.5), first) and not np.array_equal(flipped(1, 0, 2000, 0.5), first)
    assert np.array_equal(flipped(0, 0, 2000, 0.5), first)
    assert not flipped(0, 0, 50, 0.0).any() and flipped(0, 0, 50, 1.0).all()
