"""The jigsaw's patches of PIRL and InfoMin: 3×3 cells of a crop, a smaller patch at random in each, on the device.

PyContrast cuts 64-pixel patches from the 85-pixel cells of a 255-pixel crop beside views of 224 pixels
(pycontrast/datasets/util.py, JigsawCrop); other image sizes keep these proportions, down to patches of 17 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.runtime.distributed import local_rows, world_size

GRID = 3
PATCHES = GRID * GRID
JIGSAW_SCALE = (0.6, 1.0)  # area share of the crop
# Of a smaller patch the ResNet's last stage sees one pixel. torch 2.14's bfloat16 convolution (3×3, stride 2, on a CPU)
# then leaves the parts of its weights' gradient that meet padding alone unwritten: whatever lay in memory, up to NaN.
LEAST_CELL = 23  # pixels: a patch of 17


def jigsaw_sizes(image_size: int) -> tuple[int, int]:
    """Side of the crop (a multiple of 3) and of a patch, in pixels, for views of ``image_size``: 224 gives 255, 64."""
    cell = max(LEAST_CELL, round(image_size * 85 / 224))
    return GRID * cell, patch_size(cell)


def patch_size(cell: int) -> int:
    """Side of the patch in a cell, in pixels: 64 of 85."""
    return round(cell * 64 / 85)


def cut_patches(crops: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) to (9N, 3, P, P): image by image its cells row by row, in each a patch anywhere."""
    n, c, side, _ = crops.shape
    cell = side // GRID
    patch = patch_size(cell)
    drawn = torch.rand(n * world_size(), PATCHES, 2, device=crops.device, generator=generator)
    corner = (local_rows(drawn) * (cell - patch + 1)).long()
    inside = torch.arange(patch, device=crops.device)
    rows = (corner[..., 0, None] + inside).view(n, PATCHES, 1, patch, 1).expand(-1, -1, c, -1, cell)
    columns = (corner[..., 1, None] + inside).view(n, PATCHES, 1, 1, patch).expand(-1, -1, c, patch, -1)
    cells = crops.view(n, c, GRID, cell, GRID, cell).permute(0, 2, 4, 1, 3, 5).reshape(n, PATCHES, c, cell, cell)
    return cells.gather(3, rows).gather(4, columns).flatten(0, 1)
