"""The jigsaw's geometry."""

import pytest
import torch
import torchvision

from pretrain.augment.jigsaw import cut_patches, jigsaw_sizes
from pretrain.common.ranges import ranges
from pretrain.config import PretrainConfig


def coordinates(n, side):
    """Images whose first two channels are each pixel's row and column."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((row, column, torch.zeros_like(row))).float().expand(n, -1, -1, -1).contiguous()


def test_sizes_are_the_published_ones_and_scale():
    assert jigsaw_sizes(224) == (255, 64)  # PyContrast: pycontrast/datasets/util.py, JigsawCrop
    assert jigsaw_sizes(96) == (108, 27)
    for size in range(17, 300):
        side, patch = jigsaw_sizes(size)
        assert side % 3 == 0 and abs(side - max(68, size * 255 / 224)) <= 3 and 17 <= patch < side // 3


@pytest.mark.parametrize("size", [17, 48])
def test_no_patch_or_image_is_so_small_that_its_gradient_is_garbage(size):
    """A 3×3 convolution of stride 2 must meet more than one pixel: LEAST_CELL says why."""
    network = torchvision.models.resnet18(weights=None)
    met = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2) and module.kernel_size == (3, 3):
            module.register_forward_hook(lambda _, given, out: met.append(min(given[0].shape[2:])))
    network.eval()(torch.rand(1, 3, size, size))
    network(torch.rand(1, 3, *[jigsaw_sizes(size)[1]] * 2))
    assert len(met) == 6 and min(met) > 1 and ranges(PretrainConfig)["image_size"].least == 17


@pytest.mark.parametrize("image_size", [224, 48])
def test_each_patch_is_a_block_anywhere_in_its_cell(image_size):
    side, patch = jigsaw_sizes(image_size)
    cell, n = side // 3, 60
    patches = cut_patches(coordinates(n, side), torch.Generator().manual_seed(0))
    assert patches.shape == (9 * n, 3, patch, patch)
    corners = patches[:, :2, 0, 0].view(n, 9, 2)
    block = coordinates(1, patch)[0, :2]
    assert torch.equal(patches[:, :2], corners.view(-1, 2, 1, 1) + block)
    for number in range(9):
        offset = corners[:, number] - cell * torch.tensor(divmod(number, 3))
        assert offset.min() == 0 and offset.max() == cell - patch  # both ends are reached, none is passed
    offsets = (corners % cell).flatten(0, 1)
    assert offsets.mean(0).tolist() == pytest.approx([(cell - patch) / 2] * 2, rel=0.12)
    assert abs(torch.corrcoef(offsets.T)[0, 1]) < 0.15
