"""What is decayed, and the rate of each tensor."""

import math
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from pretrain.common.errors import InputError
from pretrain.config import PretrainConfig, resolve
from pretrain.methods import Sizes
from pretrain.methods.simclr import SimCLRConfig
from pretrain.methods.simsiam import SimSiam, SimSiamConfig
from pretrain.presets import PRESETS
from pretrain.runtime.optimizers import build_optimizer, set_learning_rate

CPU = torch.device("cpu")


def decayed(optimizer, all_tensors):
    """Names of the tensors of a small network that shrink under a zero gradient."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    net[0].bias.requires_grad_(False)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 2.0)
        parameter.grad = torch.zeros_like(parameter)
    config = PretrainConfig(
        method=SimCLRConfig(), optimizer=optimizer, decay_bias_and_norm=all_tensors, weight_decay=0.1, learning_rate=0.1
    )
    built = build_optimizer(net, resolve(config, 1000, CPU))
    assert all(group["lr"] == 0.1 for group in built.param_groups) and len(built.param_groups) <= 2
    built.step()
    return {name for name, parameter in net.named_parameters() if not torch.all(parameter == 2.0)}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_weight_decay_and_its_exclusions(optimizer):
    everything = {"0.weight", "1.weight", "1.bias"}  # what needs no gradient is not touched
    assert decayed(optimizer, True) == ({"0.weight"} if optimizer == "lars" else everything)
    assert decayed(optimizer, False) == {"0.weight"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_biases_may_have_a_rate_of_their_own(optimizer):
    """As Barlow Twins': 0.2 for weights and 0.0048 for biases and BatchNorm (facebookresearch/barlowtwins main.py)."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    config = PretrainConfig(
        method=SimCLRConfig(), optimizer=optimizer, bias_lr_ratio=0.1, weight_decay=0.0, learning_rate=0.5, warmup=0.0
    )
    resolved = resolve(config, 1000, CPU)
    built = build_optimizer(net, resolved)
    set_learning_rate(built, resolved, 0)
    built.step()
    moved = {name: (before[name] - parameter).abs().max().item() for name, parameter in net.named_parameters()}
    assert moved["1.weight"] == pytest.approx(0.05, rel=1e-3)
    assert moved["1.bias"] == pytest.approx(0.05, rel=1e-3)
    if optimizer != "lars":  # which scales the step by the weights
        assert moved["0.weight"] == pytest.approx(0.5, rel=1e-3)


def test_simsiams_predictor_keeps_the_peak_rate_while_the_encoder_follows_the_cosine():
    """facebookresearch/simsiam main_simsiam.py, adjust_learning_rate: init_lr for "fix_lr", the cosine for the rest."""
    resolved = resolve(PRESETS["simsiam-r50-100ep"], 51_200, CPU)  # 100 epochs of 100 steps
    small = replace(resolved.config, method=SimSiamConfig(dim=8, hidden_dim=8, predictor_dim=4))
    resolved = replace(resolved, config=small)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 6))
    method = SimSiam(small.method, backbone, Sizes(feature_dim=6, num_classes=0, num_images=8))
    built = build_optimizer(method, resolved)
    predictor = set(method.predictor.parameters())
    assert sum(len(group["params"]) for group in built.param_groups) == len(list(method.parameters()))
    for epoch in (0, 37, 99):
        set_learning_rate(built, resolved, 100 * epoch)
        for group in built.param_groups:
            published = 0.1 if group["fixed_lr"] else 0.1 * 0.5 * (1 + math.cos(math.pi * epoch / 100))
            assert group["lr"] == pytest.approx(published, rel=1e-9)
            assert all((parameter in predictor) == group["fixed_lr"] for parameter in group["params"])


def test_a_fixed_rate_and_a_rate_for_biases_go_together():
    net = nn.Sequential(OrderedDict(body=nn.Linear(3, 3), tail=nn.Linear(3, 2)))
    config = PretrainConfig(method=SimCLRConfig(), optimizer="sgd", bias_lr_ratio=0.5, learning_rate=0.4, warmup=0.0)
    resolved = resolve(replace(config, fixed_lr_modules=("tail",), lr_scaling="none", steps=4), 1000, CPU)
    built = build_optimizer(net, resolved)
    set_learning_rate(built, resolved, 2)  # half of the cosine
    rates = {id(parameter): group["lr"] for group in built.param_groups for parameter in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in net.named_parameters()}
    assert found == pytest.approx({"body.weight": 0.2, "body.bias": 0.1, "tail.weight": 0.4, "tail.bias": 0.2})


def test_a_module_that_the_method_does_not_have_is_named():
    resolved = resolve(PretrainConfig(method=SimCLRConfig(), fixed_lr_modules=("predictor",)), 1000, CPU)
    with pytest.raises(InputError, match=r"--fixed-lr-modules predictor: simclr has body, head"):
        build_optimizer(nn.Sequential(OrderedDict(body=nn.Linear(3, 3), head=nn.Linear(3, 2))), resolved)


def test_one_group_is_torchs_own_adamw():
    torch.manual_seed(0)
    config = PretrainConfig(method=SimCLRConfig(), optimizer="adamw", weight_decay=0.1, lr_scaling="none")
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = build_optimizer(nets[0], resolve(replace(config, learning_rate=0.01), 1000, CPU))
    theirs = torch.optim.AdamW(nets[1].parameters(), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(3):
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    assert torch.equal(nets[0].weight, nets[1].weight) and torch.equal(nets[0].bias, nets[1].bias)
