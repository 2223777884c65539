"""InfoMin's learned views: the generator loses nothing, the game has the published signs, views stay frozen."""

import dataclasses
import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from pretrain import train
from pretrain.common.errors import InputError
from pretrain.methods import METHODS, Batch, Sizes
from pretrain.methods.cmc import CMCConfig
from pretrain.methods.cmc_encoders import TwoEncoders
from pretrain.methods.colour_flow import ColourFlow
from pretrain.methods.split_views import SplitViewsConfig, load_flow
from pretrain.methods.view_generator import ViewGenerator, ViewGeneratorConfig, labelled, reverse
from transfer.checkpoints.reading.read import load_checkpoint
from transfer.checkpoints.two_encoders import read_two_encoders

SMALL = ViewGeneratorConfig(dim=8, hidden_dim=16)


@pytest.fixture
def flow():
    """A generator far from the identity."""
    torch.manual_seed(0)
    flow = ColourFlow()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.5)
    return flow.double()


def game(config, classes=3, seed=0):
    """The method around half ResNets of one block per stage."""
    torch.manual_seed(seed)
    backbone = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone.fc = nn.Identity()
    return ViewGenerator(config, backbone, Sizes(feature_dim=512, num_classes=classes, num_images=32))


def batch(images=16, seed=1):
    torch.manual_seed(seed)
    return Batch(views=[torch.randn(images, 3, 32, 32)], index=torch.arange(images), label=torch.arange(images) % 3)


def test_the_generator_starts_as_the_identity_and_is_inverted_exactly(flow):
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(ColourFlow()(x), x)
    x = x.double()
    y = flow(x)
    assert (y - x).abs().mean() > 0.3
    torch.testing.assert_close(flow.inverse(y), x, rtol=0, atol=1e-6)


def test_it_keeps_the_volume_of_every_pixel_and_mixes_no_two(flow):
    for pixel in torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)):
        jacobian = torch.autograd.functional.jacobian(lambda p: flow(p.view(1, 3, 1, 1)).flatten(), pixel)
        assert torch.linalg.det(jacobian) == pytest.approx(1, abs=1e-6)
        assert (jacobian - torch.diag(jacobian.diagonal())).abs().max() > 0.1
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(flow(x)[..., 1, 0], flow(x[..., 1:, :1])[..., 0, 0])


def test_the_reversed_gradient():
    x = torch.tensor([2.0], requires_grad=True)
    (reverse(x, 0.5) ** 2).sum().backward()
    assert x.grad.item() == -0.5 * 4


def test_the_generator_raises_the_loss_that_the_encoders_lower():
    method = game(SMALL)
    nn.init.normal_(method.backbone.flow.turns, std=0.1)
    terms = method(batch(), 0.0)
    terms["loss"].backward()
    players = {"flow": method.backbone.flow, "encoder": method.backbone.encoder1, "head": method.head2}
    before = float(terms["nce"])
    for name, player in players.items():
        moved = game(SMALL)
        moved.load_state_dict(method.state_dict())
        part = {"flow": moved.backbone.flow, "encoder": moved.backbone.encoder1, "head": moved.head2}[name]
        step = 1e-2 / torch.cat([p.grad.flatten() for p in player.parameters()]).norm()
        with torch.no_grad():
            for theirs, ours in zip(part.parameters(), player.parameters(), strict=True):
                theirs -= step * ours.grad
        change = float(moved(batch(), 0.0)["nce"]) - before
        assert change > 0 if name == "flow" else change < 0, (name, change)


def test_the_class_is_kept_by_the_generator_and_the_classifiers_together():
    """The gradient of the cross-entropy arrives at the generator with its own sign, that of the bound reversed."""
    both = game(dataclasses.replace(SMALL, labels=1.0))
    nn.init.normal_(both.backbone.flow.turns, std=0.1)
    terms = both(batch(), 0.0)
    assert float(terms["labelled"]) == 16 and 0 <= float(terms["accuracy"]) <= 1
    terms["loss"].backward()
    found = both.backbone.flow.turns.grad.clone()
    without = game(dataclasses.replace(SMALL, labels=1.0, label_weight=0.0))
    without.load_state_dict(both.state_dict())
    without(batch(), 0.0)["loss"].backward()
    of_class = found - without.backbone.flow.turns.grad
    views = both.backbone.channels(batch().views[0])
    losses = [
        nn.functional.cross_entropy(classifier(view), batch().label)
        for classifier, view in zip(both.classifiers, (views[:, :1], views[:, 1:]), strict=True)
    ]
    (expected,) = torch.autograd.grad(sum(losses), both.backbone.flow.turns)
    torch.testing.assert_close(of_class, expected, rtol=1e-2, atol=1e-4)


def test_the_share_of_labels_is_of_images_and_unlabelled_ones_do_not_count():
    index = torch.arange(20_000)
    for share in (0.01, 0.1, 0.5):
        assert labelled(index, share).float().mean() == pytest.approx(share, abs=0.003)
    assert bool(labelled(index, 1.0).all()) and not labelled(index, 0.0).any()
    assert bool((labelled(index, 0.1) <= labelled(index, 0.5)).all())  # nested
    method, some = game(dataclasses.replace(SMALL, labels=0.3)), batch()
    known = labelled(some.index, 0.3)
    other = dataclasses.replace(some, label=torch.where(known, some.label, (some.label + 1) % 3))
    method.eval()
    assert torch.equal(method(some, 0.0)["class_loss"], method(other, 0.0)["class_loss"])
    assert float(method(some, 0.0)["labelled"]) == int(known.sum()) > 0
    with pytest.raises(InputError, match="the images have no classes"):
        game(dataclasses.replace(SMALL, labels=0.1), classes=0)


def test_identical_views_share_more_than_views_of_other_images():
    """A control of the bound: on equal channels it rises, on channels of shuffled images it stays at chance."""
    found = {}
    for name in ("equal", "shuffled"):
        method = game(SMALL)
        method.backbone.flow.requires_grad_(False)
        optimizer = torch.optim.Adam([one for one in method.parameters() if one.requires_grad], 3e-3)
        for step in range(30):
            grey = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(step)) + torch.randn(
                16, 1, 1, 1, generator=torch.Generator().manual_seed(1000 + step)
            )
            other = grey if name == "equal" else grey.roll(1, 0)[torch.randperm(16)]
            terms = method(Batch(views=[torch.cat((grey, other, other), 1)], index=torch.arange(16), label=None), 0.0)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
            found.setdefault(name, []).append(float(terms["predictive"]))
    late = {name: sum(values[-8:]) / 8 for name, values in found.items()}
    assert late["equal"] > 0.5 and late["shuffled"] < 0.2


@pytest.mark.slow
def test_views_of_a_finished_run_are_frozen_and_travel_with_the_checkpoint(class_folders, results, tiny, tmp_path):
    played = train.run("game", dataclasses.replace(tiny, method=SMALL), class_folders)
    learned = load_flow(str(played.parent))
    assert any(tensor.abs().max() > 0 for name, tensor in learned.items() if name == "turns")
    config = SplitViewsConfig(dim=8, negatives=8, space="learned", generator=str(played.parent))
    path = train.run("views", dataclasses.replace(tiny, method=config), class_folders)
    backbone = read_two_encoders(load_checkpoint(path))
    assert backbone is not None and backbone.architecture == "cmc-resnet18"
    for name, tensor in learned.items():
        assert torch.equal(backbone.state[f"flow.{name}"], tensor)
    assert read_two_encoders(load_checkpoint(played)).architecture == "cmc-resnet18"
    for bad, said in ((tmp_path / "none", "cannot be read"), (path.parent.parent, "cannot be read")):
        with pytest.raises(InputError, match=said):
            load_flow(str(bad))
    # Another generator at the same path is another run, though one is finished; the same one is the same.
    assert train.run("views", dataclasses.replace(tiny, method=config), class_folders) == path
    state = load_file(played)
    save_file(state | {"flow.turns": state["flow.turns"] + 1}, played)
    again = train.run("views", dataclasses.replace(tiny, method=config), class_folders)
    assert again != path
    torch.testing.assert_close(load_file(again)["flow.turns"], learned["turns"] + 1)
    save_file(state | {"flow.turns": torch.zeros(1, 3)}, played)
    with pytest.raises(InputError, match="it has no view generator"):
        load_flow(str(played))
    plain = train.run("plain", dataclasses.replace(tiny, method=CMCConfig(dim=8, negatives=8)), class_folders)
    with pytest.raises(InputError, match="it has no view generator"):
        load_flow(str(plain))


def test_settings_that_do_not_go_together():
    assert SplitViewsConfig().conflict() is None and SplitViewsConfig(space="ydbdr").conflict() is None
    assert "space learned needs a run" in SplitViewsConfig(space="learned").conflict()
    assert "others take none" in SplitViewsConfig(space="lab", generator="x").conflict()
    assert "split-views" in CMCConfig(space="learned").conflict()
    assert METHODS["split-views"].Config is SplitViewsConfig


def test_red_beside_green_and_blue():
    whole = torchvision.models.resnet18(weights=None)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(TwoEncoders(whole, "rgb").channels(x), x)
    assert json.dumps(dataclasses.asdict(SplitViewsConfig()))  # the settings are plain values
