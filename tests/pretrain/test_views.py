"""Batched augmentation against torchvision's functional transforms.

``python -m pytest tests/pretrain/test_views.py``
"""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from pretrain import views
from pretrain.checkpoint import IMAGENET_MEAN, IMAGENET_STD

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
    assert (views.to_grey(x) - reference.rgb_to_grayscale(x)).abs().max() <= 1 / 255


def test_blur_is_torchvisions_with_a_sigma_for_each_image(pixels):
    x, sigmas = pixels.float() / 255, (0.1, 0.7, 1.3, 2.0)
    truth = torch.stack([reference.gaussian_blur(image, [5, 5], [s, s]) for image, s in zip(x, sigmas, strict=True)])
    assert (views.gaussian_blur(x, torch.tensor(sigmas), 5) - truth).abs().max() <= 1 / 255


def test_normalise_is_torchvisions(pixels):
    x = pixels.float() / 255
    torch.testing.assert_close(views.normalise(x), reference.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD)))


def test_nothing_switched_on_only_normalises(pixels):
    still = views.ViewsConfig(flip=0, jitter=0, grey=0, blur=0)
    out = views.augment(pixels, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, views.normalise(pixels.float() / 255), rtol=0, atol=1e-5)


def test_draws_are_the_generators_and_differ_between_samples(pixels):
    same = pixels[:1].expand(64, -1, -1, -1)
    first, again, other = (
        views.augment(same, views.ViewsConfig(), torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({tuple(image[:, 10, 3].tolist()) for image in first}) > 50


@pytest.mark.parametrize(("name", "probability"), [("flip", 0.5), ("grey", 0.3), ("jitter", 0.8), ("blur", 0.4)])
def test_share_of_samples_changed(name, probability, pixels):
    still = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0} | {name: probability}
    out = views.augment(
        pixels[:1].expand(2000, -1, -1, -1), views.ViewsConfig(**still), torch.Generator().manual_seed(0)
    )
    changed = (out - views.normalise(pixels[:1].float() / 255)).abs().amax((1, 2, 3)) > 0.02
    assert changed.float().mean().item() == pytest.approx(probability, abs=0.04)
