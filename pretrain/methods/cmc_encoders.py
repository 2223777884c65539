"""CMC's backbone: an image split into one and two channels, each part seen by a ResNet of half the width.

Luminance and chrominance in Lab, the paper's (arXiv 1906.05849; HobbitLong/CMC train_CMC.py), or YDbDr, PyContrast's
(pycontrast/datasets/util.py), normalised with their source's mean and std; red beside green and blue; or the channels
of a learned view generator (colour_flow.py).
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.methods.colour_flow import FIRST, ColourFlow

Space = Literal["lab", "ydbdr", "rgb", "learned"]
# sRGB's primaries in CIE XYZ (IEC 61966-2-1) and the white point D65 of the 2° observer.
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
_TO_YDBDR = ((0.299, 0.587, 0.114), (-0.45, -0.883, 1.333), (-1.333, 1.116, 0.217))
_MEAN: dict[str, tuple[float, ...]] = {"lab": (50.0, 6.025, -6.6895), "ydbdr": (0.457, -0.082, -0.052)}
_STD: dict[str, tuple[float, ...]] = {"lab": (50.0, 92.208, 101.1675), "ydbdr": (0.500, 1.331, 1.333)}


def _mixed(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("nchw,kc->nkhw", x, x.new_tensor(matrix))


def _planes(x: Tensor, values: tuple[float, ...]) -> Tensor:
    return x.new_tensor(values).view(1, 3, 1, 1)


def to_lab(x: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) in [0, 1] to CIE Lab under D65: L in [0, 100], a and b about ±100."""
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055).clamp(min=0) ** 2.4, x / 12.92)
    xyz = _mixed(linear, _TO_XYZ) / _planes(x, _WHITE)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    fx, fy, fz = root.unbind(1)
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), 1)


def to_ydbdr(x: Tensor) -> Tensor:
    """RGB (N, 3, H, W) in [0, 1] to YDbDr (SECAM): Y in [0, 1], Db and Dr in ±1.333."""
    return _mixed(x, _TO_YDBDR)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) into (N, 1, H, W) and (N, 2, H, W)."""
    return x[:, :FIRST], x[:, FIRST:]


def converted(x: Tensor, space: Space) -> Tensor:
    """Views normalised with ImageNet's statistics (N, 3, H, W) to the channels of Lab or YDbDr, normalised anew."""
    rgb = (x * _planes(x, IMAGENET_STD) + _planes(x, IMAGENET_MEAN)).clamp(0, 1)
    values = to_lab(rgb) if space == "lab" else to_ydbdr(rgb)
    return (values - _planes(x, _MEAN[space])) / _planes(x, _STD[space])


class _HalfResNet(ResNet):
    """torchvision's ResNet for ``channels`` input channels, without classifier; behind its stem half the channels.

    The stem keeps its 64 (pycontrast/networks/resnet.py, max(64 · width, 64); HobbitLong/CMC models/resnet.py).
    """

    def __init__(self, like: ResNet, channels: int) -> None:
        layers = [like.layer1, like.layer2, like.layer3, like.layer4]
        block = type(like.layer1[0])
        super().__init__(block, [len(layer) for layer in layers])
        self.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Identity()
        # Residual branches start as those of ``like`` do: zero_init_residual is a setting of the run.
        last = "bn3" if hasattr(like.layer1[0], "bn3") else "bn2"
        for layer, given in zip((self.layer1, self.layer2, self.layer3, self.layer4), layers, strict=True):
            for ours, theirs in zip(layer, given, strict=True):
                nn.init.constant_(getattr(ours, last).weight, float(getattr(theirs, last).weight[0].detach()))

    def _make_layer(self, block: Any, planes: int, *arguments: Any, **more: Any) -> nn.Sequential:
        return cast(nn.Sequential, super()._make_layer(block, planes // 2, *arguments, **more))


class TwoEncoders(nn.Module):
    """``encoder1`` sees the first channel, ``encoder2`` the others; their features have a whole ResNet's length."""

    def __init__(self, like: nn.Module, space: Space) -> None:
        super().__init__()
        self.space: Space = space
        self.flow = ColourFlow() if space == "learned" else None
        self.encoder1, self.encoder2 = (_HalfResNet(cast(ResNet, like), channels) for channels in (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (N, 3, H, W) to (N, D): the first half is of the first channel."""
        return torch.cat(self.encode(*split(self.channels(x))), 1)

    def encode(self, first: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the first channel (N, 1, H, W) and of the others (N, 2, H, W), N×D/2 each."""
        return self.encoder1(first), self.encoder2(rest)

    def channels(self, x: Tensor) -> Tensor:
        """Normalised RGB (N, 3, H, W) to the channels of the space, (N, 3, H, W) float32."""
        with torch.autocast(x.device.type, enabled=False):
            if self.flow is not None:
                mapped: Tensor = self.flow(x.float())
                return mapped
            return x.float() if self.space == "rgb" else converted(x.float(), self.space)
