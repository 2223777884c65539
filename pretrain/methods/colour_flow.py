"""A learned view generator: an invertible, volume-preserving map of each pixel's channels (InfoMin, arXiv 2005.10243).

Additive couplings (NICE, Dinh et al., arXiv 1410.8516) of 1×1 convolutions between learned rotations: the determinant
of its Jacobian is 1, so it can move information between the channels and lose none. It starts as the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COUPLINGS, WIDTH = 4, 32  # and hidden channels of each coupling
FIRST = 1  # channels of the first view; the others are the second


class ColourFlow(nn.Module):
    """(N, 3, H, W) to (N, 3, H, W), float32."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.zeros(COUPLINGS + 1, 3))
        sizes = [(3 - FIRST, FIRST) if place % 2 == 0 else (FIRST, 3 - FIRST) for place in range(COUPLINGS)]
        self.couplings = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, changed, 1))
            for given, changed in sizes
        )
        for coupling in self.couplings:
            last = coupling[-1]  # type: ignore[index]  # a Sequential
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def rotations(self) -> Tensor:
        """(COUPLINGS + 1, 3, 3) orthogonal matrices of determinant 1, exponentials of skew-symmetric ones."""
        a, b, c = self.turns.unbind(1)
        zero = torch.zeros_like(a)
        skew = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], 1).unflatten(1, (3, 3))
        return torch.linalg.matrix_exp(skew)

    def forward(self, x: Tensor) -> Tensor:
        """The mapped pixels."""
        rotations = self.rotations()
        for place, coupling in enumerate(self.couplings):
            x = self._coupled(_turned(x, rotations[place]), coupling, place, 1)
        return _turned(x, rotations[-1])

    def inverse(self, y: Tensor) -> Tensor:
        """The pixels that ``forward`` maps to ``y``."""
        rotations = self.rotations()
        y = _turned(y, rotations[-1].T)
        for place in reversed(range(COUPLINGS)):
            y = _turned(self._coupled(y, self.couplings[place], place, -1), rotations[place].T)
        return y

    @staticmethod
    def _coupled(x: Tensor, coupling: nn.Module, place: int, sign: int) -> Tensor:
        """One part of the channels plus (or minus) a function of the other."""
        first, rest = x[:, :FIRST], x[:, FIRST:]
        if place % 2 == 0:
            return torch.cat((first + sign * coupling(rest), rest), 1)
        return torch.cat((first, rest + sign * coupling(first)), 1)


def _turned(x: Tensor, rotation: Tensor) -> Tensor:
    return torch.einsum("nchw,kc->nkhw", x, rotation)
