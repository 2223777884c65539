"""Settings of a pair of views that neither view has alone: how far apart they are cut, and who sees which frequencies.

Both are knobs of InfoMin (arXiv 2005.10243, section 3), which moves them to change what the two views share.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from pretrain.common.ranges import NonNegative, Range

Band = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairConfig:
    """What the two views of an image have to do with one another; by default nothing, each is drawn on its own."""

    # The second crop is the first moved right and down by this share of its width and height, so that they overlap in
    # (1 - x)² of their area, from 1 on in nothing; None: each anywhere.
    crop_distance: Annotated[float | None, NonNegative] = None
    # σ of a Gaussian as a share of the view's side: the first view is blurred by it and the second is the rest around
    # 0.5, after their augmentation; 0: both see all frequencies.
    frequency_split: Annotated[float, Range(0, 0.25, "between 0 and 0.25")] = 0.0

    def bands(self) -> tuple[Band | None, Band | None]:
        """For each view its part of (N, 3, S, S) in [0, 1], or None for all of it."""
        if not self.frequency_split:
            return None, None
        return partial(low_pass, share=self.frequency_split), partial(high_pass, share=self.frequency_split)


UNPAIRED = PairConfig()


def low_pass(x: Tensor, share: float) -> Tensor:
    """(N, C, H, W) blurred by a Gaussian of σ ``share``·H down and ``share``·W across, borders mirrored."""
    down, across = (_blur_matrix(side, share * side).to(x) for side in x.shape[2:])
    return down @ x @ across.T


def high_pass(x: Tensor, share: float) -> Tensor:
    """What ``low_pass`` takes away, around 0.5: for x in [0, 1] between -0.5 and 1.5, unclipped."""
    return x - low_pass(x, share) + 0.5


def _blur_matrix(side: int, sigma: float) -> Tensor:
    """(side, side): row i weighs the pixels of a line for its blurred pixel i. ``sigma`` in pixels, above 0."""
    reach = torch.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = torch.exp(-0.5 * (reach / sigma) ** 2)
    period = max(1, 2 * (side - 1))
    place = (torch.arange(side)[:, None] + reach) % period  # the line mirrored without its end, as torch's reflect
    place = torch.where(place >= side, period - place, place)
    return torch.zeros(side, side).scatter_add_(1, place, (weights / weights.sum()).expand(side, -1))
