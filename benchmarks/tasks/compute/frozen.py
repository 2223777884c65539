"""A frozen backbone under linear heads: its forward pass in the device's fast precision, and the proof it is frozen."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.tasks.compute.features import build_backbone
from pretrain.common.device import best_device, has_bf16
from pretrain.common.errors import RunError
from pretrain.runtime.distributed import gather_no_grad, world_size
from transfer.checkpoints.backbone import Backbone, weights_digest

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def fastest_precision() -> str:
    """bf16 where the device is fast at it, fp16 on older GPUs, else fp32."""
    device = best_device()
    return "bf16" if has_bf16(device) else "fp16" if device.type == "cuda" else "fp32"


class Frozen:
    """The backbone in eval mode on ``device``: N×3×H×W uint8 RGB → N×D float32."""

    def __init__(self, backbone: Backbone, device: torch.device, precision: str) -> None:
        self.backbone, self.device, self.precision = backbone, device, precision
        self.model = build_backbone(backbone).to(device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(backbone.input.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(backbone.input.std, device=device).view(3, 1, 1)

    @torch.no_grad()  # not inference_mode: heads train on the features
    def features(self, images: Tensor) -> Tensor:
        """The features of uint8 ``images``, as the checkpoint's input wants them: its channel order, mean and std."""
        x = images.to(self.device, non_blocking=True).float().div_(255)
        if self.backbone.input.order == "BGR":
            x = x.flip(1)
        x = x.sub_(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, AMP.get(self.precision), enabled=self.precision in AMP):
            found: Tensor = self.model(x)
        return found.float()

    @functools.cached_property
    def dim(self) -> int:
        """D of its features."""
        return self.features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]

    def of_all(self, mine: Tensor | None, counts: Sequence[int], size: int) -> list[Tensor]:
        """The features n×D of each process's chunk, on every process.

        ``counts``: rows of each, at most ``size``; the processes beyond them have none (None).
        """
        if world_size() == 1:
            assert mine is not None
            return [mine]
        padded = torch.zeros(size, self.dim, device=self.device)
        if mine is not None:
            padded[: len(mine)] = mine
        parts = gather_no_grad(padded).split(size)
        return [part[:count] for part, count in zip(parts, counts, strict=False)]

    def require_unchanged(self) -> str:
        """A sentence for the record. RunError if a tensor is not the checkpoint's any more, statistics included."""
        state = {name: one.cpu() for name, one in self.model.state_dict().items() if name in self.backbone.state}
        if weights_digest(state) != self.backbone.sha256:
            raise RunError("the frozen backbone has changed during training: its tensors' sha256 differs")
        count = sum(not name.endswith("num_batches_tracked") for name in state)
        return f"{count} tensors have the checkpoint's sha256 after training"


def require_finite(finite: Tensor, precision: str) -> None:
    """RunError where ``finite``, a boolean of features computed in ``precision``, is false."""
    if not bool(finite):
        raise RunError(
            f"features are not finite in {precision}: the checkpoint's weights or statistics are broken"
            + (", or beyond fp16's range" if precision == "fp16" else "")
        )
