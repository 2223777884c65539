"""What is decayed and what is not: ``python -m pytest tests/pretrain/test_optimizers.py``."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pretrain.config import PretrainConfig, resolve
from pretrain.methods import SimCLRConfig
from pretrain.optimizers import build_optimizer


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
