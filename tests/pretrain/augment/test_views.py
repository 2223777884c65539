"""Batched augmentation against torchvision's functional transforms."""

import dataclasses

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from pretrain.augment import color, views
from pretrain.augment.crops import Crop
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.presets import PRESETS

PARAMETERS = {
    "brightness": (views.adjust_brightness, reference.adjust_brightness, (0.2, 0.9, 1.0, 1.8)),
    "contrast": (views.adjust_contrast, reference.adjust_contrast, (0.2, 0.9, 1.0, 1.8)),
    "saturation": (views.adjust_saturation, reference.adjust_saturation, (0.0, 0.9, 1.0, 1.8)),
    "hue": (views.adjust_hue, reference.adjust_hue, (-0.5, -0.1, 0.0, 0.5)),
}


@pytest.fixture
def pixels():
    x = torch.randint(0, 256, (4, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[:, :, :4] = torch.tensor([0, 255, 128, 7], dtype=torch.uint8).view(1, 1, 4, 1)  # greys, black and white
    return x


@pytest.mark.parametrize("name", PARAMETERS)
def test_colour_operation_is_torchvisions(name, pixels):
    ours, theirs, factors = PARAMETERS[name]
    x = pixels.float() / 255
    truth = torch.stack([theirs(image, factor) for image, factor in zip(x, factors, strict=True)])
    result = ours(x, torch.tensor(factors))
    assert (result - truth).abs().max() <= 1 / 255
    assert (result[1] - x[1]).abs().max() > 0.01  # it does something


def test_grey_is_torchvisions(pixels):
    x = pixels.float() / 255
    assert (views.to_grayscale(x) - reference.rgb_to_grayscale(x)).abs().max() <= 1 / 255


def test_blur_is_torchvisions_with_a_sigma_for_each_image(pixels):
    x, sigmas = pixels.float() / 255, (0.1, 0.7, 1.3, 2.0)
    truth = torch.stack([reference.gaussian_blur(image, [5, 5], [s, s]) for image, s in zip(x, sigmas, strict=True)])
    assert (views.gaussian_blur(x, torch.tensor(sigmas), 5) - truth).abs().max() <= 1 / 255


def test_normalise_is_torchvisions(pixels):
    x = pixels.float() / 255
    torch.testing.assert_close(views.normalize(x), reference.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD)))


def test_nothing_switched_on_only_normalises(pixels):
    still = views.ViewsConfig(flip=0, jitter=0, grayscale=0, blur=0)
    out = views.augment(pixels, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, views.normalize(pixels.float() / 255), rtol=0, atol=1e-5)


def test_draws_are_the_generators_and_differ_between_samples(pixels):
    same = pixels[:1].expand(64, -1, -1, -1)
    first, again, other = (
        views.augment(same, views.ViewsConfig(), torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({tuple(image[:, 10, 3].tolist()) for image in first}) > 50


@pytest.mark.parametrize(("name", "probability"), [("flip", 0.5), ("grayscale", 0.3), ("jitter", 0.8), ("blur", 0.4)])
def test_share_of_samples_changed(name, probability, pixels):
    still = {"flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0} | {name: probability}
    out = views.augment(
        pixels[:1].expand(2000, -1, -1, -1), views.ViewsConfig(**still), torch.Generator().manual_seed(0)
    )
    changed = (out - views.normalize(pixels[:1].float() / 255)).abs().amax((1, 2, 3)) > 0.02
    visible = 0.9 * probability if name == "blur" else probability  # a tenth of the sigmas blur next to nothing
    assert changed.float().mean().item() == pytest.approx(visible, abs=0.04)


def todays_demo_view(pixels, config, generator):
    """What the demo's published runs drew and did, in their order: flip, jitter's five, grey, blur's two."""

    def uniform(low, high):
        return torch.rand(len(pixels), generator=generator) * (high - low) + low

    x, column = pixels.float() / 255, (-1, 1, 1, 1)
    x = torch.where((uniform(0, 1) < config.flip).view(column), x.flip(3), x)
    jittered, one = uniform(0, 1) < config.jitter, torch.ones(len(pixels))
    for name in ("brightness", "contrast", "saturation"):
        amount = getattr(config, name)
        factor = torch.where(jittered, uniform(max(0.0, 1 - amount), 1 + amount), one)
        x = PARAMETERS[name][0](x, factor)
    x = views.adjust_hue(x, torch.where(jittered, uniform(-config.hue, config.hue), 0 * one))
    x = torch.where((uniform(0, 1) < config.grayscale).view(column), views.to_grayscale(x), x)
    if config.blur:
        x = torch.where((uniform(0, 1) < config.blur).view(column), views.gaussian_blur(x, uniform(0.1, 2.0), 3), x)
    return views.normalize(x)


@pytest.mark.parametrize("preset", ["demo-simclr", "superinfo-default"])
def test_the_demos_pixels_are_bitwise_those_of_its_published_numbers(preset, pixels):
    config = PRESETS["demo-simclr"].views if preset == "demo-simclr" else views.ViewsConfig()
    batch = pixels.repeat(16, 1, 1, 1)
    ours = views.make_views([batch, batch], config, None, False, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    truth = [todays_demo_view(batch, config, generator) for _ in range(2)]
    assert torch.equal(ours[0], truth[0]) and torch.equal(ours[1], truth[1])
    assert not torch.equal(ours[0], ours[1])


def test_two_processes_augment_as_one(pixels, monkeypatch):
    config = dataclasses.replace(views.VIEWS["D"], solarize=0.3)
    batch = pixels.repeat(4, 1, 1, 1)
    whole = views.augment(batch, config, torch.Generator().manual_seed(1))
    monkeypatch.setattr(views, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(views, "local_rows", lambda tensor, rank=rank: tensor.chunk(2)[rank])
        half = views.augment(batch.chunk(2)[rank], config, torch.Generator().manual_seed(1))
        torch.testing.assert_close(half, whole.chunk(2)[rank], rtol=0, atol=1e-5)


def test_solarize_is_torchvisions(pixels):
    x, thresholds = pixels.float() / 255, (0.0, 0.3, 0.5, 1.0)
    truth = torch.stack([reference.solarize(image, t) for image, t in zip(x, thresholds, strict=True)])
    assert torch.equal(color.solarize(x, torch.tensor(thresholds)), truth)


@pytest.mark.parametrize("name", ["A", "B", "byol1"])
def test_jitter_has_torchvisions_distribution(name):
    """Kolmogorov–Smirnov on statistics of one image, 1,500 draws each: its order of operations is random as well."""
    config = dataclasses.replace(views.VIEWS[name], flip=0.0, grayscale=0.0, blur=0.0)
    amounts = (config.brightness, config.contrast, config.saturation, config.hue)
    theirs = v2.RandomApply([v2.ColorJitter(*amounts)], p=config.jitter)
    image = torch.tensor([[0.9, 0.2], [0.3, 0.5], [0.1, 0.8]]).view(3, 1, 2)
    batch = (image * 255).round().byte().expand(1500, -1, -1, -1)
    torch.manual_seed(0)
    truth = views.normalize(torch.stack([theirs(single.float() / 255) for single in batch]))
    ours = views.augment(batch, config, torch.Generator().manual_seed(0))
    for statistic in (lambda x: x[:, 0, 0, 0], lambda x: x[:, 2, 0, 1], lambda x: x.std((1, 2, 3))):
        # Rounded, because the fifth of samples that are not jittered all have one value but for the last bits.
        mine, reference_draws = (statistic(x).numpy().round(4) for x in (ours, truth))
        assert ks_2samp(mine, reference_draws).pvalue > 1e-3


def test_each_sample_has_its_own_order_of_operations(pixels):
    x, order = pixels.float() / 255, torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]])
    amounts = torch.tensor([[1.7, 0.6, 1.4, 0.9], [1.5, 0.5, 1.8, 1.2], [0.3, 1.6, 0.0, 1.5], [0.2, -0.3, 0.4, 0.1]])
    adjustments = [(PARAMETERS[name][0], amount) for name, amount in zip(PARAMETERS, amounts, strict=True)]
    result = views._in_own_order(x, adjustments, order)
    for i in range(4):
        truth = x[i : i + 1]
        for number in order[i]:
            truth = adjustments[number][0](truth, amounts[number, i : i + 1])
        torch.testing.assert_close(result[i : i + 1], truth)


@pytest.mark.parametrize(("name", "probability"), [("A", 0.2), ("B", 0.2), ("C", 0.0), ("D", 0.2), ("E", 0.0)])
def test_share_of_grey_views_of_the_published_presets(name, probability):
    config = dataclasses.replace(views.VIEWS[name], blur=0.0, hue=0.0, rand_augment=0)
    image = torch.tensor([200, 90, 30], dtype=torch.uint8).view(3, 1, 1).expand(3000, -1, 4, 4)
    out = views.augment(image, config, torch.Generator().manual_seed(0))
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    gray = (out * std + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)).std(1).amax((1, 2)) < 1e-3
    assert gray.float().mean().item() == pytest.approx(probability, abs=0.03)


def test_byols_views_differ(pixels):
    """Table 6 of arXiv 2006.07733: the first is always blurred, the second rarely, and only it is solarised."""
    still = {"flip": 0.0, "jitter": 0.0, "grayscale": 0.0}
    first, second = (dataclasses.replace(views.VIEWS[name], **still) for name in ("byol1", "byol2"))
    batch = pixels[1:2].expand(1000, -1, -1, -1)
    out = views.make_views([batch, batch], first, second, False, torch.Generator().manual_seed(0))
    plain = views.normalize(pixels[1:2].float() / 255)
    changed = [((view - plain).abs().amax((1, 2, 3)) > 0.02).float().mean().item() for view in out]
    assert changed[0] > 0.85 and changed[1] == pytest.approx(1 - 0.9 * 0.8, abs=0.05)


def test_crops_and_views_of_a_method_with_a_jigsaw():
    first, second = views.VIEWS["D"], dataclasses.replace(views.VIEWS["D"], crop_scale=(0.5, 0.6))
    crops = views.crops_of(first, second, 2, True, 224)
    assert [(crop.size, crop.scale) for crop in crops] == [(224, (0.2, 1.0)), (224, (0.5, 0.6)), (255, (0.6, 1.0))]
    assert views.crops_of(first, None, 2, False, 48) == (Crop(size=48, scale=(0.2, 1.0)),) * 2
    assert len(views.crops_of(first, None, 1, True, 48)) == 2
    pixels = [torch.full((3, 3, crop.size, crop.size), 128, dtype=torch.uint8) for crop in crops]
    out = views.make_views(pixels, first, second, True, torch.Generator().manual_seed(0))
    assert [tuple(view.shape) for view in out] == [(3, 3, 224, 224), (3, 3, 224, 224), (27, 3, 64, 64)]
    flat = views.normalize(torch.full((1, 3, 1, 1), 128 / 255))
    torch.testing.assert_close(out[2], flat.expand_as(out[2]), rtol=0, atol=1e-5)  # patches are not coloured
