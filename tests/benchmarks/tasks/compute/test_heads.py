"""A head against torch's own schedulers and a plain training loop."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks.tasks.compute.heads import Head, new_layer, rate_at
from benchmarks.tasks.linear_sgd import STYLES, LinearStyle

CPU = torch.device("cpu")


def scheduled(scheduler_of, epochs):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=30.0)
    scheduler, rates = scheduler_of(optimiser), []
    for _ in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def test_rates_are_those_of_torch_s_schedulers():
    step, cosine = STYLES["pycontrast"][0], STYLES["swav"][0]
    expected = scheduled(lambda one: torch.optim.lr_scheduler.MultiStepLR(one, [30, 40, 50], 0.2), 60)
    assert [rate_at(step, 30.0, epoch, 3, 10) for epoch in range(60)] == pytest.approx(expected)
    expected = scheduled(lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, 100, eta_min=0), 100)
    assert [rate_at(cosine, 30.0, epoch, 3, 10) for epoch in range(100)] == pytest.approx(expected)


def test_lightly_s_cosine_falls_in_every_step_to_a_thousandth():
    style = STYLES["lightly"][0]
    rates = [rate_at(style, 0.1, epoch, step, 7) for epoch in range(90) for step in range(7)]
    last = 90 * 7 - 1
    expected = [0.1 * (0.001 + 0.999 * (math.cos(math.pi * one / last) + 1) / 2) for one in range(last + 1)]
    assert rates == pytest.approx(expected) and rates[0] == 0.1 and rates[-1] == pytest.approx(1e-4)


STYLE = LinearStyle(
    epochs=3, batch=8, learning_rates=(0.5,), weight_decay=1e-2, schedule="step", milestones=(2,), gamma=0.1
)


def data(rows=21, dim=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, dim, generator=generator), torch.randint(0, 4, (rows,), generator=generator)


def plain(style, x, y, seed=0):
    """Mini-batches and torch's SGD, nothing else."""
    layer = new_layer(style, x.shape[1], 4, seed, CPU)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0, momentum=0.9, weight_decay=style.weight_decay)
    for epoch in range(style.epochs):
        for rows in torch.arange(len(x)).split(style.batch):
            if style.drop_last and len(rows) < style.batch:
                continue
            optimiser.param_groups[0]["lr"] = style.learning_rates[0] * (0.1 if epoch >= 2 else 1)
            optimiser.zero_grad()
            F.cross_entropy(layer(x[rows]), y[rows]).backward()
            optimiser.step()
    return layer


def trained(style, x, y, portion):
    head = Head(style, style.learning_rates[0], rows=len(x), dim=x.shape[1], classes=4, seed=0, device=CPU)
    for _ in range(style.epochs):
        for some, labels in zip(x.split(portion), y.split(portion), strict=True):
            head.take(some, labels)
        head.end_epoch()
    return head


@pytest.mark.parametrize("portion", [1, 3, 8, 16, 21])
@pytest.mark.parametrize("drop_last", [False, True])
def test_any_portions_give_the_batches_of_a_plain_loop(portion, drop_last):
    style, (x, y) = dataclasses.replace(STYLE, drop_last=drop_last), data()
    expected = plain(style, x, y)
    found = trained(style, x, y, portion).layer
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.bias, expected.bias, rtol=1e-5, atol=1e-6)


def test_a_batch_larger_than_the_data_is_all_of_them():
    x, y = data()
    style = dataclasses.replace(STYLE, batch=64)
    torch.testing.assert_close(trained(style, x, y, 4).layer.weight, plain(style, x, y).weight, rtol=1e-5, atol=1e-6)


def test_initialisations_are_the_sources():
    normal = new_layer(STYLE, 400, 50, 0, CPU)
    assert normal.weight.std().item() == pytest.approx(0.01, rel=0.05) and not normal.bias.any()
    default = new_layer(dataclasses.replace(STYLE, head_init="torch default"), 400, 50, 0, CPU)
    reference = torch.nn.Linear(400, 50)
    for name in ("weight", "bias"):
        found, expected = getattr(default, name), getattr(reference, name)
        assert found.abs().max() <= 1 / 20 and found.std().item() == pytest.approx(expected.std().item(), rel=0.25)
    assert torch.equal(new_layer(STYLE, 400, 50, 0, CPU).weight, normal.weight)
    assert not torch.equal(new_layer(STYLE, 400, 50, 1, CPU).weight, normal.weight)


def test_a_state_saved_in_the_middle_of_a_batch_goes_on_bit_for_bit():
    x, y = data()
    whole = trained(STYLE, x, y, 5)
    first = Head(STYLE, 0.5, rows=21, dim=5, classes=4, seed=0, device=CPU)
    for some, labels in list(zip(x.split(5), y.split(5), strict=True))[:3]:
        first.take(some, labels)
    assert first.filled  # 15 rows are one batch and seven rows of the next
    second = Head(STYLE, 0.5, rows=21, dim=5, classes=4, seed=7, device=CPU)
    second.load_state_dict(first.state_dict())
    for epoch in range(3):
        for some, labels in list(zip(x.split(5), y.split(5), strict=True))[0 if epoch else 3 :]:
            second.take(some, labels)
        second.end_epoch()
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_a_rate_far_too_high_is_seen():
    x, y = data()
    assert not trained(STYLE, x, y, 8).diverged
    head = trained(dataclasses.replace(STYLE, learning_rates=(1e30,)), x, y, 8)
    assert head.diverged
