"""Where crops lie and how they are cut."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from pretrain.augment.crops import central_box, cut, random_crop_box


@pytest.mark.parametrize("size", [(100, 80), (300, 20)])
def test_crop_boxes_are_distributed_as_torchvisions(size):
    width, height = size
    rng = np.random.default_rng(0)
    ours = np.array([random_crop_box(width, height, (0.2, 1.0), rng) for _ in range(4000)])
    torch.manual_seed(0)
    blank = torch.zeros(1, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    top, left, h, w = theirs.T
    reference = np.stack([left, top, left + w, top + h], 1)
    assert (ours[:, :2] >= 0).all() and (ours[:, 2] <= width).all() and (ours[:, 3] <= height).all()
    np.testing.assert_allclose(ours.mean(0), reference.mean(0), atol=0.03 * max(size))
    np.testing.assert_allclose(ours.std(0), reference.std(0), atol=0.03 * max(size))


@pytest.fixture
def picture():
    """Smooth with some noise, as photographs are."""
    rng = np.random.default_rng(0)
    blocks = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    smooth = blocks.resize((120, 90), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(smooth) * 0.9 + rng.integers(0, 25, (90, 120, 3))).astype(np.uint8))


@pytest.mark.parametrize("box", [(0, 0, 120, 90), (10, 20, 100, 80), (50, 40, 63, 57)])
@pytest.mark.parametrize("size", [16, 48, 150])
def test_the_torch_reader_is_torchvisions_resized_crop_and_pillows_to_one_level(picture, box, size):
    left, top, right, bottom = box
    (ours,) = cut(picture, [box], [size], "torch")
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    theirs = tv.resized_crop(pixels, top, left, bottom - top, right - left, [size, size], antialias=True)
    assert ours.shape == (3, size, size) and ours.dtype == torch.uint8 and torch.equal(ours, theirs)
    pillows = np.asarray(picture.crop(box).resize((size, size), Image.Resampling.BILINEAR))
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


def test_the_two_readers_differ_by_rounding_inside_the_border(picture):
    box, size = (10, 20, 100, 80), 48
    one, other = (cut(picture, [box, box], [size, 20], crop_backend)[0].int() for crop_backend in ("torch", "pillow"))
    assert (one - other)[:, 3:-3, 3:-3].abs().max() <= 1
    assert not torch.equal(one, other)  # the pillow reader sees past the box


def test_the_central_box_is_the_largest_square():
    assert central_box(100, 60) == (20, 0, 80, 60) and central_box(3, 8) == (0, 2, 3, 5)
