"""The user's statements about a checkpoint that does not record them: ``python -m transfer convert --help``.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput

_FIELDS = {"stride_in_1x1": "stride_in_1x1", "pixel_mean": "mean", "pixel_std": "std", "channel_order": "order"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """The values of the flags; None where the family decides. InputError for pixel statistics outside [0, 1].

    ``drop``: prefixes of tensor names that are not part of the ResNet. The others replace a field of PixelInput.
    """

    drop: tuple[str, ...] = ()
    stride_in_1x1: bool | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    channel_order: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("pixel_mean", 0.0), ("pixel_std", 1e-6)):
            values = getattr(self, name)
            if values and not all(least <= value <= 1 for value in values):
                raise InputError(
                    f"--{name.replace('_', '-')} {' '.join(f'{value:g}' for value in values)}: give it for images in "
                    "[0, 1]; divide values for 0 to 255 by 255"
                )

    @classmethod
    def read(cls, value: dict[str, Any]) -> Given:
        """The statements recorded in a proof's JSON."""
        plain: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
        return cls(**plain)

    def _said(self) -> dict[str, Any]:
        return {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}

    def applied(self, images: PixelInput, assumed: str) -> PixelInput:
        """``images`` with the given fields replaced; ``assumed`` lists the remaining assumptions."""
        changes: dict[str, Any] = {_FIELDS[name]: value for name, value in self._said().items()}
        return dataclasses.replace(images, **changes, assumed=assumed)

    def words(self) -> list[str]:
        """The flags of ``python -m transfer convert``."""
        words = [word for prefix in self.drop for word in ("--drop", prefix)]
        for name, value in self._said().items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *([value] if isinstance(value, str) else [f"{one:.8g}" for one in value])]
        return words


NOTHING_GIVEN = Given()
