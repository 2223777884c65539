"""How a network expects its images: normalisation, channel order, and the position of a bottleneck's stride."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelInput:
    """Input convention of a network; the first convolution's weights, ``mean`` and ``std`` are all in ``order``.

    Two inputs are equal if networks of the same weights compute the same from the same image: ``assumed`` is no part
    of that.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN  # of each channel, for pixels in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    order: str = "RGB"  # or BGR
    stride_in_1x1: bool = False  # True: the stride is in a bottleneck's first convolution (MSRA), not in its 3×3
    assumed: str = dataclasses.field(default="", compare=False)  # the part of this that the checkpoint does not record

    def identity(self) -> dict[str, Any]:
        """JSON values of all fields that decide the network's output; numbers are rounded to eight decimals."""
        return {
            "mean": [round(float(value), 8) for value in self.mean],
            "std": [round(float(value), 8) for value in self.std],
            "order": self.order,
            "stride_in_1x1": self.stride_in_1x1,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PixelInput:
        """The input that ``identity()`` or ``dataclasses.asdict`` wrote; KeyError or TypeError for other values."""
        return cls(
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            order=str(values["order"]),
            stride_in_1x1=bool(values["stride_in_1x1"]),
            assumed=str(values.get("assumed", "")),
        )
