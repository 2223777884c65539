"""The jigsaw's geometry: ``python -m pytest tests/pretrain/test_jigsaw.py``."""

import pytest
import torch

from pretrain.jigsaw import cut_patches, jigsaw_sizes


def coordinates(n, side):
    """Images whose first two channels are each pixel's row and column."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((row, column, torch.zeros_like(row))).float().expand(n, -1, -1, -1).contiguous()


def test_sizes_are_the_published_ones_and_scale():
    assert jigsaw_sizes(224) == (255, 64)  # PyContrast: pycontrast/datasets/util.py, JigsawCrop
    assert jigsaw_sizes(48) == (54, 14)
    for size in range(8, 300):
        side, patch = jigsaw_sizes(size)
        assert side % 3 == 0 and abs(side - size * 255 / 224) <= 3 and 1 <= patch < side // 3


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
