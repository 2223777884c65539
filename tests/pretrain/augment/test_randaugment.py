"""RandAugment's operations against torchvision's, its draws against PyContrast's policy drawn one by one."""

import random

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from pretrain.augment import randaugment as ra

FILL = (124 / 255, 116 / 255, 104 / 255)


@pytest.fixture
def pixels():
    x = torch.randint(0, 256, (4, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[1] //= 3  # a dark image
    x[2] = x[2] % 4 * 60  # four levels
    x[3, 1] = 77  # a channel of one value
    return x


def filled(image, move):
    """torchvision's bilinear transform with black outside, and the mean colour where that is."""
    covered = move(torch.ones_like(image))
    return move(image) + (1 - covered) * torch.tensor(FILL).view(3, 1, 1)


def affine(**changes):
    settings = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | changes
    return lambda image: reference.affine(image, interpolation=InterpolationMode.BILINEAR, **settings)


def degrees(amount):
    return float(torch.rad2deg(torch.atan(torch.tensor(amount))))


AMOUNTS = (-0.3, -0.07, 0.2, 0.3)
MOVES = {
    "shear-x": (lambda x, a: ra.shear(x, a, 0), lambda a: affine(shear=[degrees(a), 0.0], center=[0, 0])),
    "shear-y": (lambda x, a: ra.shear(x, a, 1), lambda a: affine(shear=[0.0, degrees(a)], center=[0, 0])),
    "rotate": (
        lambda x, a: ra.rotate(x, a * 100),
        lambda a: lambda image: reference.rotate(image, a * 100, interpolation=InterpolationMode.BILINEAR),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_torchvisions(name, pixels):
    ours, theirs = MOVES[name]
    x = pixels.float() / 255
    truth = torch.stack([filled(image, theirs(amount)) for image, amount in zip(x, AMOUNTS, strict=True)])
    assert (ours(x, torch.tensor(AMOUNTS)) - truth).abs().max() <= 1 / 255


@pytest.mark.parametrize("axis", [0, 1])
def test_translation_is_torchvisions_in_whole_pixels(axis, pixels):
    x, side = pixels.float() / 255, pixels.shape[3 - axis]
    steps = (-5, -1, 0, 7)
    # Read further along the axis: the content moves the other way.
    shifts = [[0, 0] for _ in steps]
    for shift, step in zip(shifts, steps, strict=True):
        shift[axis] = -step
    truth = torch.stack([filled(image, affine(translate=shift)) for image, shift in zip(x, shifts, strict=True)])
    assert (ra.translate(x, torch.tensor(steps) / side, axis) - truth).abs().max() <= 1 / 255


def test_colour_operations_are_torchvisions_on_8_bits(pixels):
    x, some = pixels.float() / 255, torch.ones(4)
    bits, thresholds, factors = (0, 2, 3, 4), (0, 100, 255, 230), (0.1, 1.0, 1.5, 1.9)
    pairs = {
        "autocontrast": (ra.autocontrast(x), reference.autocontrast(pixels)),
        "equalize": (ra.equalize(x), reference.equalize(pixels)),
        "invert": (ra.OPERATIONS["invert"](x, some, some), reference.invert(pixels)),
        "posterize": (
            ra.posterize(x, torch.tensor(bits)),
            torch.stack([reference.posterize(image, b) for image, b in zip(pixels, bits, strict=True)]),
        ),
        "solarize": (
            ra.solarize(x, (torch.tensor(thresholds) - 0.5) / 255),
            torch.stack([reference.solarize(image, t) for image, t in zip(pixels, thresholds, strict=True)]),
        ),
        "sharpness": (
            ra.adjust_sharpness(x, torch.tensor(factors)),
            torch.stack([reference.adjust_sharpness(image, f) for image, f in zip(x, factors, strict=True)]) * 255,
        ),
    }
    for name, (ours, truth) in pairs.items():
        assert (ours * 255 - truth.float()).abs().max() <= 1.001, name  # torchvision cuts the fraction off


def test_levels_become_pycontrasts_parameters(pixels):
    """At the top level and just under it; a table entry is the same as its operation with the published parameter."""
    x, sign = pixels.float() / 255, torch.tensor([1.0, -1.0, 1.0, -1.0])
    level = torch.tensor([1.0, 1.0, 0.95, 0.95])
    expected = {
        "rotate": ra.rotate(x, sign * torch.tensor([30.0, 30.0, 28.5, 28.5])),
        "posterize": ra.posterize(x, torch.tensor([4, 4, 3, 3])),
        "solarize": torch.cat((x[:2], torch.where(x[2:] * 255 >= 243, 1 - x[2:], x[2:]))),
        "solarize-add": torch.stack(
            [
                torch.where(image * 255 < 127.5, (image + add / 255).clamp(max=1), image)
                for image, add in zip(x, (110, 110, 104, 104), strict=True)
            ]
        ),
        "color": ra.adjust_saturation(x, torch.tensor([1.9, 1.9, 1.81, 1.81])),
        "translate-x": ra.translate(x, sign * torch.tensor([0.45, 0.45, 0.4275, 0.4275]), 0),
    }
    for name, truth in expected.items():
        torch.testing.assert_close(ra.OPERATIONS[name](x, level, sign), truth, rtol=0, atol=1e-5)


def pycontrast(operations, rng):
    """One draw of "rand-n…-m10-mstd0.5": (operation or −1, level, sign)."""
    kind = rng.randrange(operations)
    if rng.random() > 0.5:
        kind = -1
    return kind, min(10.0, max(0.0, rng.gauss(10, 0.5))) / 10, -1 if rng.random() > 0.5 else 1


def test_draws_have_the_policys_distribution():
    n, generator, rng = 20000, torch.Generator().manual_seed(0), random.Random(0)
    kind, level, sign = ra.draw(10.0, 15, lambda low, high: torch.rand(n, generator=generator) * (high - low) + low)
    naive = torch.tensor([pycontrast(15, rng) for _ in range(n)])
    ours = (kind + 1).bincount(minlength=16) / n
    truth = (naive[:, 0].long() + 1).bincount(minlength=16) / n
    assert (ours - truth).abs().max() < 0.015 and ours[0] == pytest.approx(0.5, abs=0.015)
    quantiles = torch.tensor([0.05, 0.25, 0.4, 0.75])
    torch.testing.assert_close(level.quantile(quantiles), naive[:, 1].quantile(quantiles), rtol=0, atol=0.004)
    assert sign.mean().abs() < 0.03 and set(sign.tolist()) == {-1.0, 1.0}
    assert abs(torch.corrcoef(torch.stack((kind.float(), level, sign)))[0, 1:].max()) < 0.03


def test_the_tables_are_pycontrasts():
    assert len(ra.OPERATIONS) == 15 and len(ra.SHAPE_OPERATIONS) == 8
    assert not {"color", "invert", "equalize", "solarize", "posterize"} & set(ra.SHAPE_OPERATIONS)


def test_half_of_the_samples_are_left_as_they_are(pixels):
    x, generator = pixels[:1].float().expand(400, -1, -1, -1) / 255, torch.Generator().manual_seed(0)
    out = ra.rand_augment(x, 8.0, True, lambda low, high: torch.rand(400, generator=generator) * (high - low) + low)
    assert (out == x).all(3).all(2).all(1).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1 + 1e-6
