"""Negative controls: labels that say nothing teach no class, views of different images share no information."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from pretrain.methods import Batch, Sizes
from pretrain.methods.simclr import SimCLR, SimCLRConfig
from pretrain.methods.superinfo import SuperInfo, SuperInfoConfig
from pretrain.methods.supervised import Supervised, SupervisedConfig
from pretrain.methods.view_generator import ViewGenerator, ViewGeneratorConfig

CLASSES, SIDE = 3, 32
CLASSIFIERS = {
    "supervised": (Supervised, SupervisedConfig()),
    "view-generator": (ViewGenerator, ViewGeneratorConfig(dim=8, hidden_dim=16, labels=1.0)),
}
CONTRASTS = {
    "simclr": (SimCLR, SimCLRConfig(dim=16, hidden_dim=32, temperature=0.2)),
    "superinfo": (SuperInfo, SuperInfoConfig(dim=16, hidden_dim=32, kappa_b=5.0, lambda_a=0.01, lambda_b=0.01)),
}


def built(kind, config):
    torch.manual_seed(0)
    backbone = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone.fc = nn.Identity()
    return kind(config, backbone, Sizes(feature_dim=512, num_classes=CLASSES, num_images=96))


def gratings(count, seed):
    """Images (N, 3, SIDE, SIDE) of three classes, which are the stripes' directions, and their classes (N,)."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    angle, phase = label * torch.pi / CLASSES, 6.3 * torch.rand(count, generator=generator)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = angle.cos().view(-1, 1, 1) * x + angle.sin().view(-1, 1, 1) * y
    stripes = (0.8 * along + phase.view(-1, 1, 1)).sin().unsqueeze(1)
    return stripes + 0.5 * torch.randn(count, 3, SIDE, SIDE, generator=generator), label


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("known", [True, False])
def test_labels_that_are_independent_of_the_class_leave_held_out_images_at_chance(name, known):
    """Each class has every label as often as any other: there is nothing but single images to learn."""
    method = built(*CLASSIFIERS[name])
    images, label = gratings(90, 1)
    given = label if known else torch.arange(90) // CLASSES % CLASSES
    assert known or all(int(((label == one) & (given == other)).sum()) == 10 for one in range(3) for other in range(3))
    optimizer = torch.optim.Adam(method.parameters(), 2e-3)
    for step in range(20):
        some = torch.randperm(90, generator=torch.Generator().manual_seed(step))[:30]
        terms = method(Batch(views=[images[some]], index=some, label=given[some]), 0.0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    fresh, truth = gratings(300, 2)
    method.eval()
    with torch.inference_mode():
        found = float(method(Batch(views=[fresh], index=torch.arange(300), label=truth), 0.0)["accuracy"])
    assert found > 0.8 if known else found < 0.5, found


def pairs(same, seed, count=16):
    """Views of ``count`` images, patches of colour under noise: of the same images, or of independent ones."""
    generator = torch.Generator().manual_seed(seed)
    first, other = (torch.randn(count, 3, 4, 4, generator=generator) for _ in range(2))
    noise = torch.randn(2, count, 3, SIDE, SIDE, generator=generator)
    views = (first, first if same else other)
    return [F.interpolate(one, SIDE) + 0.3 * more for one, more in zip(views, noise, strict=True)]


@pytest.mark.parametrize("name", CONTRASTS)
def test_views_of_different_images_share_no_information_and_those_of_one_do(name):
    """The bound on fresh pairs; the truth is 0 nats where the images are independent."""
    found = {}
    for same in (True, False):
        method = built(*CONTRASTS[name])
        optimizer = torch.optim.Adam(method.parameters(), 1e-3)
        for step in range(20):
            terms = method(Batch(views=pairs(same, step), index=torch.arange(16), label=None), 1.0)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
        method.eval()
        with torch.inference_mode():
            fresh = [Batch(views=pairs(same, 1000 + draw), index=torch.arange(16), label=None) for draw in range(10)]
            found[same] = sum(float(method(one, 1.0)["predictive"]) for one in fresh) / len(fresh)
    assert found[True] > 0.5 and found[False] < 0.05, found
