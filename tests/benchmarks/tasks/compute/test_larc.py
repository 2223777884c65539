"""The two layer-wise rates against their formulas, written out step by step."""

import pytest
import torch

from benchmarks.tasks.compute.larc import EPSILON, LARC, LARS, TRUST

RATES, DECAY, MOMENTUM = (1.6, 1.6, 0.4), 0.01, 0.9


def gradients(step):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)]


def by_formula(kind, weights):
    buffers = [torch.zeros_like(one) for one in weights]
    for step, rate in enumerate(RATES):
        for place, gradient in enumerate(gradients(step)):
            weight, decay = weights[place], DECAY
            if weight.norm() == 0:
                ratio, decay = 1.0, 0.0 if kind is LARC else DECAY
            else:
                ratio = TRUST * weight.norm() / (gradient.norm() + DECAY * weight.norm() + EPSILON)
            scaled = (gradient + decay * weight) * ratio
            if kind is LARC:
                buffers[place] = MOMENTUM * buffers[place] + scaled
                weights[place] = weight - rate * buffers[place]
            else:
                buffers[place] = MOMENTUM * buffers[place] + rate * scaled
                weights[place] = weight - buffers[place]
    return weights


@pytest.mark.parametrize("kind", [LARC, LARS])
def test_three_steps_with_a_falling_rate_and_a_zero_bias(kind):
    start = [torch.randn(3, 4, generator=torch.Generator().manual_seed(9)), torch.zeros(3)]
    weights = [torch.nn.Parameter(one.clone()) for one in start]
    optimiser = kind(weights, lr=0.0, momentum=MOMENTUM, weight_decay=DECAY)
    for step, rate in enumerate(RATES):
        optimiser.param_groups[0]["lr"] = rate
        for weight, gradient in zip(weights, gradients(step), strict=True):
            weight.grad = gradient
        optimiser.step()
    for found, expected in zip(weights, by_formula(kind, start), strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-7)
    assert optimiser.param_groups[0]["weight_decay"] == DECAY


def test_the_two_differ_once_the_rate_has_changed():
    start = [torch.ones(3, 4), torch.ones(3)]
    larc, lars = (by_formula(kind, [one.clone() for one in start]) for kind in (LARC, LARS))
    assert not torch.allclose(larc[0], lars[0])
