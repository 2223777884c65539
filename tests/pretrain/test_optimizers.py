"""What is decayed and what is not: ``python -m pytest tests/pretrain/test_optimizers.py``."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pretrain.config import PretrainConfig, resolve
from pretrain.methods import SimCLRConfig
from pretrain.optimizers import build_optimizer, set_learning_rate
from pretrain.presets import PRESETS


def decayed(optimizer, all_tensors):
    """Names of the tensors of a small network that shrink under a zero gradient."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    net[0].bias.requires_grad_(False)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 2.0)
        parameter.grad = torch.zeros_like(parameter)
    config = PretrainConfig(
        method=SimCLRConfig(), optimizer=optimizer, decay_all=all_tensors, weight_decay=0.1, learning_rate=0.1
    )
    built = build_optimizer(net, resolve(config, 1000, torch.device("cpu")))
    assert all(group["lr"] == 0.1 for group in built.param_groups)
    built.step()
    return {name for name, parameter in net.named_parameters() if not torch.all(parameter == 2.0)}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_weight_decay_and_its_exclusions(optimizer):
    everything = {"0.weight", "1.weight", "1.bias"}  # what needs no gradient is not touched
    assert decayed(optimizer, True) == ({"0.weight"} if optimizer == "lars" else everything)
    assert decayed(optimizer, False) == {"0.weight"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_biases_may_have_a_rate_of_their_own(optimizer):
    """Barlow Twins: 0.2 for weights and 0.0048 for biases and BatchNorm (facebookresearch/barlowtwins main.py)."""
    assert PRESETS["barlowtwins-r50-1000ep"].bias_rate == pytest.approx(0.024)
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    config = PretrainConfig(
        method=SimCLRConfig(), optimizer=optimizer, bias_rate=0.1, weight_decay=0.0, learning_rate=0.5, warmup=0.0
    )
    resolved = resolve(config, 1000, torch.device("cpu"))
    built = build_optimizer(net, resolved)
    set_learning_rate(built, resolved, 0)
    built.step()
    moved = {name: (before[name] - parameter).abs().max().item() for name, parameter in net.named_parameters()}
    assert moved["1.weight"] == pytest.approx(0.05, rel=1e-3)
    assert moved["1.bias"] == pytest.approx(0.05, rel=1e-3)
    if optimizer != "lars":  # which scales the step by the weights
        assert moved["0.weight"] == pytest.approx(0.5, rel=1e-3)


def test_one_group_is_torchs_own_adamw():
    torch.manual_seed(0)
    config = PretrainConfig(method=SimCLRConfig(), optimizer="adamw", weight_decay=0.1, lr_batch=None)
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = build_optimizer(nets[0], resolve(replace(config, learning_rate=0.01), 1000, torch.device("cpu")))
    theirs = torch.optim.AdamW(nets[1].parameters(), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(3):
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    assert torch.equal(nets[0].weight, nets[1].weight) and torch.equal(nets[0].bias, nets[1].bias)
