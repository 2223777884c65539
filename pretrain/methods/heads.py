"""Projection and prediction heads on top of the backbone's pooled features."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.augment.jigsaw import PATCHES
from pretrain.runtime.distributed import local_rows, world_size


def projection_mlp(feature_dim: int, hidden_dim: int, dim: int, *, output_norm: bool = True) -> nn.Sequential:
    """SimCLR's two-layer head, (N, feature_dim) to (N, dim), with BatchNorm after both layers.

    The output's BatchNorm learns a scale but no offset (google-research/simclr model_util.py, projection_head); without
    ``output_norm`` there is none.
    """
    head = mlp_bn(feature_dim, hidden_dim, dim)
    if output_norm:
        head.append(nn.BatchNorm1d(dim))
        head[-1].bias.requires_grad_(False)
    return head


def mlp(feature_dim: int, hidden_dim: int, dim: int) -> nn.Sequential:
    """MoCo v2's MLP, (N, feature_dim) to (N, dim) without BatchNorm."""
    return nn.Sequential(nn.Linear(feature_dim, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, dim))


def mlp_bn(*widths: int, bias: bool = False) -> nn.Sequential:
    """Linear layers of ``widths`` (input first), BatchNorm and ReLU after each but the last; ``bias`` is the last's."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))


class JigsawHead(nn.Module):
    """PIRL's: ``each`` patch's features to d, the nine in random order joined, a linear layer to d again.

    arXiv 1912.01991, section 3.2; pycontrast/networks/util.py, JigsawHead.
    """

    def __init__(self, each: nn.Module, dim: int) -> None:
        super().__init__()
        self.each, self.joined = each, nn.Linear(PATCHES * dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(9N, feature_dim), image by image, to (N, d)."""
        patches = self.each(features)
        patches = patches.view(len(patches) // PATCHES, PATCHES, -1)
        order = local_rows(torch.rand(len(patches) * world_size(), PATCHES, device=patches.device)).argsort(1)
        return self.joined(patches.gather(1, order[..., None].expand_as(patches)).flatten(1))


def l2_normalize(embedding: Tensor) -> Tensor:
    """Rows of (N, d) scaled to length 1, in float32 also inside autocast."""
    with torch.autocast(embedding.device.type, enabled=False):
        return F.normalize(embedding.float(), dim=1)
