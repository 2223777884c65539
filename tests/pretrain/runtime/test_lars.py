"""LARS against plain arithmetic."""

import numpy as np
import torch

from pretrain.runtime.lars import LARS


def test_two_steps_by_hand():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    gradients = [(rng.normal(size=(4, 3)), rng.normal(size=3)) for _ in range(2)]
    tensors = [torch.nn.Parameter(torch.tensor(v)) for v in (weight, bias)]
    optimizer = LARS(tensors, lr=0.5, momentum=0.9, weight_decay=0.01)
    velocity_w, velocity_b = np.zeros_like(weight), np.zeros_like(bias)
    for gradient_w, gradient_b in gradients:
        for tensor, gradient in zip(tensors, (gradient_w, gradient_b), strict=True):
            tensor.grad = torch.tensor(gradient)
        optimizer.step()
        decayed = gradient_w + 0.01 * weight
        trust = 0.001 * np.linalg.norm(weight) / np.linalg.norm(decayed)
        velocity_w = 0.9 * velocity_w + 0.5 * trust * decayed
        velocity_b = 0.9 * velocity_b + 0.5 * gradient_b
        weight, bias = weight - velocity_w, bias - velocity_b
    np.testing.assert_allclose(tensors[0].detach(), weight, rtol=1e-12)
    np.testing.assert_allclose(tensors[1].detach(), bias, rtol=1e-12)


def test_a_zero_tensor_still_moves():
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.1, momentum=0.0, weight_decay=0.0).step()
    assert torch.allclose(weight, torch.full((2, 2), -0.1))
