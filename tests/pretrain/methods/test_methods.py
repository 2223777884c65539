"""Every method: it learns, its state is all in the save, its loss is the published one."""

import copy
import dataclasses
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.data.emoji.scenes import EmojiConfig, classification_image
from pretrain.augment.views import ViewsConfig, make_views
from pretrain.methods import METHODS, Batch, Sizes
from pretrain.methods.barlowtwins import barlow_terms
from pretrain.methods.byol import regression_loss, target_momentum
from pretrain.methods.heads import JigsawHead, l2_normalize
from pretrain.methods.simsiam import negative_cosine
from pretrain.methods.vicreg import vicreg_terms

IMAGES, SIZE = 16, 32
SMALL = {"dim": 16, "hidden_dim": 32, "predictor_dim": 8, "queue": 32, "negatives": 32, "momentum": 0.9}
STEADY = {
    "target_momentum": 0.9,
    "temperature": 0.2,
    "kappa_b": 5.0,
    "lambda_a": 0.01,
    "lambda_b": 0.01,
    "lambda_warmup": 0.0,
}
TWO_ENCODERS = ("cmc", "cmcv2", "split-views", "view-generator")
TRAINED = sorted(set(METHODS) - {"random"})


def config_of(name):
    """The method's config with few dimensions."""
    config = METHODS[name].Config
    names = {field.name for field in dataclasses.fields(config)}
    return config(**{key: value for key, value in (SMALL | STEADY).items() if key in names})


class Tiny(nn.Module):
    """Stands in for the ResNet where speed matters: N×3×H×W to N×24."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 24, 3, stride=2), nn.BatchNorm2d(24), nn.Identity()

    def forward(self, x):
        return self.norm(self.conv(x)).relu().mean((2, 3))


def build(name, seed=0):
    torch.manual_seed(seed)
    if name in TWO_ENCODERS:
        backbone, width = ResNet(BasicBlock, [1, 1, 1, 1]), 512  # which it halves
        backbone.fc = nn.Identity()
    else:
        backbone, width = Tiny(), 24
    sizes = Sizes(feature_dim=width, num_classes=4, num_images=IMAGES)
    return METHODS[name](config_of(name), backbone, sizes).train()


@functools.cache
def embedded():
    """IMAGES pictures of the embedded set, (N, 3, SIZE, SIZE) in [0, 1]."""
    config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=SIZE, scene_size=64)
    pictures = [classification_image(config, "imagenet-train", number)[0] for number in range(IMAGES)]
    return torch.stack([pil_to_tensor(picture.convert("RGB")) for picture in pictures]).float() / 255


def batch_of(name, seed, n=8):
    """n pictures of the embedded set, their views flipped and slightly brighter or darker."""
    method, images = METHODS[name], embedded()
    index = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))[:n]
    pixels = (images[index] * 255).byte()
    crops = [pixels] * method.views
    if method.patches:
        crops.append((F.interpolate(images[index], size=69) * 255).byte())
    gentle = ViewsConfig(jitter=1.0, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.0, grayscale=0.0, blur=0.0)
    views = make_views(crops, gentle, None, method.patches, torch.Generator().manual_seed(seed))
    return Batch(views=views, index=index, label=index % 4)


def optimise(method, optimizer, name, steps, total=100):
    losses = []
    for step in steps:
        torch.manual_seed(step)
        terms = method(batch_of(name, step), step / total)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
        assert all(term.isfinite() and term.dim() == 0 for term in terms.values())
    return losses


@pytest.mark.parametrize("name", TRAINED)
def test_a_handful_of_steps_lowers_the_loss(name):
    method = build(name)
    # A third of the rate for two ResNets instead of one layer.
    optimizer = torch.optim.AdamW(
        [p for p in method.parameters() if p.requires_grad], 1e-3 if name in TWO_ENCODERS else 3e-3
    )
    losses = optimise(method, optimizer, name, range(28 if name in TWO_ENCODERS else 40))[4:]  # by then a queue is full
    third = len(losses) // 3
    assert sum(losses[-third:]) < sum(losses[:third]) - 0.02 * abs(sum(losses[:third]))


@pytest.mark.parametrize("name", TRAINED)
def test_a_save_restores_everything(name):
    """Momentum networks, queues, banks: a method made anew goes on from state_dict bitwise as the first one does."""

    def pair(seed):
        method = build(name, seed)
        return method, torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.05, momentum=0.9)

    method, optimizer = pair(0)
    optimise(method, optimizer, name, range(2))
    saved = copy.deepcopy((method.state_dict(), optimizer.state_dict()))
    on = optimise(method, optimizer, name, range(2, 4))
    again, second = pair(1)
    again.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    assert optimise(again, second, name, range(2, 4)) == on
    for key, tensor in method.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_with_gradient_is_in_the_loss(name):
    """As several processes need it; a momentum network gets none, and evaluation changes no state."""
    method = build(name)
    batch = batch_of(name, 0)
    method(batch, 0.0)["loss"].backward()
    assert [n for n, p in method.named_parameters() if (p.grad is None) == p.requires_grad] == []
    method.eval()
    before = copy.deepcopy(method.state_dict())
    method(batch, 0.5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())
    assert method.backbone(batch.views[0]).shape == (8, method.feature_dim)


def stored_loss(anchor, positive, stored, temperature):
    """Softmax over one positive and the stored, anchor by anchor."""
    total = 0.0
    for z, key in zip(anchor, positive, strict=True):
        exponentials = [math.exp(float(z @ other) / temperature) for other in (key, *stored)]
        total -= math.log(exponentials[0] / sum(exponentials))
    return total / len(anchor)


@pytest.mark.parametrize("name", ["moco", "mocov2", "infomin"])
def test_queue_methods_contrast_queries_with_the_moved_encoders_keys(name):
    """MoCo's order: the key encoder moves, its keys are positives against the queue as it was, then they are pushed."""
    method, batch = build(name), batch_of(name, 0)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that query and key encoder differ
    slow, fast, queue = (copy.deepcopy(m) for m in (method.key_backbone, method.backbone, method.queue.keys))
    terms = method(batch, 0.0)
    for now, old, new in zip(method.key_backbone.parameters(), slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * new)
    with torch.no_grad():
        keys = l2_normalize(method.key_head(method.key_backbone(batch.views[1])))
        queries = l2_normalize(method.head(method.backbone(batch.views[0])))
    loss = stored_loss(queries, keys, queue, config_of(name).temperature)
    assert terms.get("view", terms["loss"]).item() == pytest.approx(loss, rel=1e-4)
    assert int(method.queue.position) == 8
    torch.testing.assert_close(method.queue.keys[:8], keys, rtol=0, atol=1e-5)
    assert torch.equal(method.queue.keys[8:], queue[8:])
    if name == "infomin":
        assert terms["loss"].item() == pytest.approx((terms["view"] + terms["jigsaw"]).item() / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["instdis", "pirl"])
def test_bank_methods_contrast_an_image_with_its_own_row(name):
    method, batch = build(name), batch_of(name, 0)
    bank = method.bank.rows.clone()
    torch.manual_seed(7)
    drawn = torch.randint(IMAGES, (32,))
    method.bank.draw = lambda count: drawn
    terms = method(batch, 0.0)
    with torch.no_grad():
        z = l2_normalize(method.head(method.backbone(batch.views[0])))
    loss = stored_loss(z, bank[batch.index], bank[drawn], 0.2)
    assert terms.get("view", terms["loss"]).item() == pytest.approx(loss, rel=1e-4)
    untouched = [i for i in range(IMAGES) if i not in batch.index.tolist()]
    assert torch.equal(method.bank.rows[untouched], bank[untouched])
    torch.testing.assert_close(method.bank.rows[batch.index], l2_normalize(bank[batch.index] + z))  # momentum 0.5
    if name == "pirl":
        assert terms["loss"].item() == pytest.approx((terms["view"] + terms["jigsaw"]).item() / 2, rel=1e-5)


def test_cmc_finds_each_half_in_the_others_bank():
    method, batch = build("cmc"), batch_of("cmc", 0)
    banks = method.bank1.rows.clone(), method.bank2.rows.clone()
    drawn = torch.arange(32) % IMAGES
    method.bank1.draw = lambda count: drawn
    terms = method(batch, 0.0)
    with torch.no_grad():
        h1, h2 = method.backbone(batch.views[0]).chunk(2, 1)
        z1, z2 = l2_normalize(method.head1(h1)), l2_normalize(method.head2(h2))
    luminance = stored_loss(z1, banks[1][batch.index], banks[1][drawn], 0.2)
    chrominance = stored_loss(z2, banks[0][batch.index], banks[0][drawn], 0.2)
    assert terms["loss"].item() == pytest.approx(luminance + chrominance, rel=1e-3)
    torch.testing.assert_close(
        method.bank1.rows[batch.index], l2_normalize(banks[0][batch.index] + z1), rtol=0, atol=1e-5
    )


def test_cmcv2_finds_each_half_in_the_others_queue():
    method, batch = build("cmcv2"), batch_of("cmcv2", 0)
    queues = method.queue1.keys.clone(), method.queue2.keys.clone()
    terms = method(batch, 0.0)
    with torch.no_grad():
        z1, z2 = method.heads(method.backbone(batch.views[0]))
        k1, k2 = method.key_heads(method.key_backbone(batch.views[1]))
    loss = stored_loss(z1, k2, queues[1], 0.2) + stored_loss(z2, k1, queues[0], 0.2)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-3)
    torch.testing.assert_close(method.queue1.keys[:8], k1, rtol=0, atol=1e-5)


def test_a_jigsaw_head_joins_the_patches_of_an_image_in_an_order_of_its_own():
    head = JigsawHead(nn.Identity(), 4)
    seen = []
    head.joined.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    features = torch.arange(2 * 9.0)[:, None].expand(-1, 4)
    torch.manual_seed(0)
    assert head(features).shape == (2, 4)
    rows = seen[0].view(2, 9, 4)[:, :, 0]
    assert [sorted(row.tolist()) for row in rows] == [list(range(9)), list(range(9, 18))]
    assert rows[0].tolist() != [row - 9 for row in rows[1].tolist()]


def test_byols_target_momentum_rises_from_its_base_to_one():
    assert target_momentum(0.996, 0.0) == pytest.approx(0.996) and target_momentum(0.996, 1.0) == 1.0
    assert target_momentum(0.9, 0.5) == pytest.approx(0.95)
    steps = [target_momentum(0.99, step / 100) for step in range(101)]
    assert steps == sorted(steps)
    assert steps[25] == pytest.approx(1 - 0.01 * (math.cos(math.pi * 0.25) + 1) / 2)


@pytest.mark.parametrize(
    ("loss", "of_cosine"), [(regression_loss, lambda c: 2 - 2 * c), (negative_cosine, lambda c: -c)]
)
def test_prediction_losses_stop_the_targets_gradient(loss, of_cosine):
    torch.manual_seed(0)
    p, z = (torch.randn(5, 7, requires_grad=True) for _ in range(2))
    value = loss(p, z)
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(p.detach(), z.detach(), strict=True)]
    assert value.item() == pytest.approx(sum(of_cosine(c) for c in cosines) / 5, rel=1e-5)
    value.backward()
    assert p.grad.abs().max() > 0 and z.grad is None


def test_without_the_stop_simsiams_backbone_would_get_another_gradient():
    method, batch = build("simsiam"), batch_of("simsiam", 0)
    method(batch, 0.0)["loss"].backward()
    stopped = method.backbone.conv.weight.grad.clone()
    method.zero_grad()
    z1, z2 = (method.projector(method.backbone(view)) for view in batch.views)
    p1, p2 = method.predictor(z1), method.predictor(z2)
    for p, z in ((p1, z2), (p2, z1)):
        (-F.cosine_similarity(p, z).mean() / 2).backward(retain_graph=True)
    assert (method.backbone.conv.weight.grad - stopped).abs().max() > 1e-3 * stopped.abs().max()


def naive_barlow(z1, z2):
    """Correlations entry by entry."""
    d = z1.shape[1]
    on = off = 0.0
    for i in range(d):
        for j in range(d):
            a, b = z1[:, i] - z1[:, i].mean(), z2[:, j] - z2[:, j].mean()
            c = float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())
            on, off = (on + (1 - c) ** 2, off) if i == j else (on, off + c**2)
    return on, off


def naive_vicreg(z1, z2):
    """Each term from its definition, covariance entry by entry."""
    n, d = z1.shape
    invariance = sum(float((a - b).square().sum()) for a, b in zip(z1, z2, strict=True)) / (n * d)
    variance = covariance = 0.0
    for z in (z1, z2):
        for i in range(d):
            variance += max(0.0, 1 - math.sqrt(float(z[:, i].var()) + 1e-4)) / d / 2
            for j in range(d):
                if i != j:
                    c = float(((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum() / (n - 1))
                    covariance += c**2 / d
    return invariance, variance, covariance


@pytest.mark.parametrize(("ours", "naive"), [(barlow_terms, naive_barlow), (vicreg_terms, naive_vicreg)])
def test_redundancy_losses_are_their_definitions(ours, naive):
    torch.manual_seed(0)
    z1 = torch.randn(20, 6) * torch.tensor([0.5, 2.0, 1.0, 0.1, 1.0, 0.7]) + 3
    z2 = z1 @ (torch.eye(6) + 0.3 * torch.randn(6, 6)) + 0.5 * torch.randn(20, 6)
    assert [term.item() for term in ours(z1, z2)] == pytest.approx(naive(z1, z2), rel=2e-3)


def test_losses_are_lightlys():
    """Where lightly is installed: the same numbers from its losses (https://github.com/lightly-ai/lightly)."""
    lightly = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    z1, z2 = torch.randn(32, 12), torch.randn(32, 12) + 1
    invariance, redundancy = barlow_terms(z1, z2)
    weighted = invariance + 0.0051 * redundancy
    torch.testing.assert_close(weighted, lightly.BarlowTwinsLoss(lambda_param=0.0051)(z1, z2), rtol=1e-3, atol=0)
    terms = vicreg_terms(z1, z2)
    total = 25 * terms[0] + 25 * terms[1] + terms[2]
    torch.testing.assert_close(total, lightly.VICRegLoss()(z1, z2), rtol=1e-4, atol=0)
    torch.testing.assert_close(negative_cosine(z1, z2), lightly.NegativeCosineSimilarity()(z1, z2))
