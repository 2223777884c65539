"""Settings of a pair of views: where two crops lie, and what a split of the frequencies leaves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from pretrain.augment import pairs
from pretrain.augment.crops import Crop, crop_boxes, cut, random_crop_box
from pretrain.augment.pairs import UNPAIRED, PairConfig, high_pass, low_pass
from pretrain.augment.views import ViewsConfig, crops_of, gaussian_blur, make_views
from pretrain.common.errors import InputError
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.config import resolve
from pretrain.methods.random import RandomConfig
from pretrain.methods.view_generator import ViewGeneratorConfig
from pretrain.presets import PRESETS

STILL = ViewsConfig(crop_scale=(0.2, 0.2), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)


def boxes_of(distance, scale=(0.05, 0.2), size=(300, 200), draws=300):
    rng, pair = np.random.default_rng(0), PairConfig(crop_distance=distance)
    crops = crops_of(replace(STILL, crop_scale=scale), None, 2, False, 32, pair)
    return np.array([crop_boxes(*size, crops, rng) for _ in range(draws)])


def overlap(first, second):
    """Share of the first box that the second covers."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    return max(0, right - left) * max(0, bottom - top) / ((first[2] - first[0]) * (first[3] - first[1]))


@pytest.mark.parametrize("distance", [0.0, 0.1, 0.25, 0.5, 1.0, 1.2])
def test_two_crops_of_a_size_lie_as_far_apart_as_asked(distance):
    boxes = boxes_of(distance)
    assert (boxes[..., :2] >= 0).all() and (boxes[..., 2] <= 300).all() and (boxes[..., 3] <= 200).all()
    sides = boxes[..., 2:] - boxes[..., :2]
    assert (sides[:, 0] == sides[:, 1]).all()
    moved = boxes[:, 1, :2] - boxes[:, 0, :2]
    assert np.abs(moved - distance * sides[:, 0]).max() <= 0.5  # pixels
    shares = [overlap(*pair) for pair in boxes]
    assert np.mean(shares) == pytest.approx(max(0, 1 - distance) ** 2, abs=0.01)
    assert len(np.unique(boxes[:, 0, :2], axis=0)) > 100


def test_crops_without_a_distance_are_drawn_as_before():
    crops = crops_of(STILL, None, 2, False, 32)
    assert crops == (Crop(size=32, scale=(0.2, 0.2)),) * 2
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    assert crop_boxes(90, 70, crops, one) == [random_crop_box(90, 70, (0.2, 0.2), other) for _ in range(2)]


def test_a_pair_that_fits_nowhere_is_the_largest_that_does():
    (first, second), *_ = boxes_of(1.0, scale=(0.25, 0.25), size=(300, 20), draws=1)
    assert second[3] == 20 and first[1] == 0 and second[1] == first[3] == 10 and second[0] == first[2]
    for side in (1, 2, 3):  # pixels: every crop has one
        for box in boxes_of(1.0, scale=(0.25, 0.25), size=(side, side), draws=1)[0]:
            assert 0 <= box[0] < box[2] <= side and 0 <= box[1] < box[3] <= side


@pytest.mark.parametrize("backend", ["torch", "pillow"])
def test_crops_at_distance_0_are_the_same_pixels_and_at_1_are_neighbours(backend):
    ramp = np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (240, 240, 3))
    picture = Image.fromarray(ramp.copy())
    for distance in (0.0, 1.0):
        boxes = boxes_of(distance, scale=(0.1, 0.1), size=picture.size, draws=1)[0].tolist()
        first, second = (one.float() for one in cut(picture, boxes, [32, 32], backend))
        width = boxes[0][2] - boxes[0][0]
        torch.testing.assert_close(second, first + distance * width, atol=1.01, rtol=0)


def test_low_and_high_frequencies_add_up_to_the_image():
    x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    for share in (0.01, 0.05, 0.25):
        low, high = low_pass(x, share), high_pass(x, share)
        torch.testing.assert_close(low + high - 0.5, x)
        assert low.min() >= 0 and low.max() <= 1 and high.min() >= -0.5 and high.max() <= 1.5
    torch.testing.assert_close(low_pass(torch.full((1, 3, 9, 9), 0.3), 0.2), torch.full((1, 3, 9, 9), 0.3))


@pytest.mark.parametrize("share", [0.02, 0.06, 0.2])
def test_the_blur_is_scipys_and_that_of_the_augmentation(share):
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    sigma = share * 40
    truth = [gaussian_filter(one.double().numpy(), sigma, mode="mirror", radius=math.ceil(4 * sigma)) for one in x[0]]
    np.testing.assert_allclose(low_pass(x, share)[0].numpy(), np.stack(truth), atol=1e-5)
    if math.ceil(4 * sigma) < 40:
        ours = gaussian_blur(x, torch.tensor([sigma]), 2 * math.ceil(4 * sigma) + 1)
        torch.testing.assert_close(low_pass(x, share), ours, atol=1e-5, rtol=0)


def test_each_frequency_is_weakened_as_the_gaussian_says():
    """A mirrored cosine stays one: its amplitude is that of the kernel's spectrum, exp(−σ²ω²/2)."""
    side, share = 65, 0.04
    for waves in (1, 4, 8, 16):
        omega = math.pi * waves / (side - 1)
        line = 0.5 + 0.4 * torch.cos(omega * torch.arange(side))
        x = line.expand(1, 3, side, side)
        gain = math.exp(-0.5 * (share * side * omega) ** 2)
        torch.testing.assert_close(low_pass(x, share) - 0.5, gain * (x - 0.5), atol=2e-4, rtol=0)
        torch.testing.assert_close(high_pass(x, share) - 0.5, (1 - gain) * (x - 0.5), atol=2e-4, rtol=0)


def test_views_of_a_split_are_the_parts_of_the_augmented_ones():
    pixels = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config, pair = replace(STILL, jitter=1.0, flip=0.5), PairConfig(frequency_split=0.06)
    whole = make_views([pixels, pixels], config, None, False, torch.Generator().manual_seed(1))
    parts = make_views([pixels, pixels], config, None, False, torch.Generator().manual_seed(1), pair)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_STD))
    (first, second), (low, high) = ([one * std + mean for one in views] for views in (whole, parts))
    torch.testing.assert_close(low, low_pass(first, 0.06), atol=1e-5, rtol=0)
    torch.testing.assert_close(high, high_pass(second, 0.06), atol=1e-5, rtol=0)
    assert all(band is None for band in UNPAIRED.bands())


@pytest.mark.parametrize(
    ("pair", "views", "message"),
    [
        ({"crop_distance": -1.0}, STILL, "--pair.crop-distance -1.0: must be finite and 0 or more"),
        ({"crop_distance": math.nan}, STILL, "--pair.crop-distance nan"),
        ({"frequency_split": 0.3}, STILL, "--pair.frequency-split 0.3: must be between 0 and 0.25"),
        (
            {"crop_distance": 1.5},
            STILL,
            "--pair.crop-distance 1.5: two crops so far apart are at most 0.16 of a square image each, "
            "and crop-scale goes to 0.2",
        ),
    ],
)
def test_unusable_settings(pair, views, message):
    config = replace(PRESETS["demo-simclr"], pair=PairConfig(**pair), views=views)
    with pytest.raises(InputError) as caught:
        resolve(config, 1000, torch.device("cpu"))
    assert str(caught.value).startswith(message)


def test_settings_that_do_not_go_with_the_method_or_the_second_view():
    cpu, pair = torch.device("cpu"), PairConfig(crop_distance=0.5)
    for method in (RandomConfig(), ViewGeneratorConfig()):
        config = replace(PRESETS["demo-simclr"], method=method, pair=pair, views=STILL)
        with pytest.raises(InputError, match=r"--pair: .* does not compare two views of an image"):
            resolve(config, 1000, cpu)
    config = replace(PRESETS["demo-simclr"], pair=pair, views=STILL, views2=replace(STILL, crop_scale=(0.1, 0.2)))
    with pytest.raises(InputError, match=r"--pair.crop-distance: the second crop has the size of the first"):
        resolve(config, 1000, cpu)
    resolve(replace(config, views2=replace(STILL, solarize=0.2)), 1000, cpu)


def test_only_a_pair_that_is_set_enters_the_name_of_a_run():
    cpu, demo = torch.device("cpu"), PRESETS["demo-simclr"]
    for config in PRESETS.values():
        assert config.pair == UNPAIRED
    assert "pair" not in resolve(demo, 1000, cpu).values()["config"]
    values = resolve(replace(demo, pair=PairConfig(frequency_split=0.1)), 1000, cpu).values()
    assert values["config"]["pair"] == {"crop_distance": None, "frequency_split": 0.1}


def test_a_line_shorter_than_the_blur_is_mirrored_as_often_as_it_takes():
    assert torch.equal(pairs._blur_matrix(1, 0.25), torch.ones(1, 1))
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert low_pass(x, 0.25).sum() == pytest.approx(1, abs=1e-6)
