"""Extraction of features against the bare forward of the same network on the same images, resident in memory.

Run: ``python -m benchmarks.perf extract``; as on a GPU with 16 cores: ``--size 224 --images 8192 --workers 16``.
Goals: 90 % of the bare forward with resident batches, 80 % from JPEG files on a GPU with 16 cores.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.perf.timing import medians, processor, table, write_photographs
from benchmarks.tasks.compute.features import BATCH, FeatureView, FromBytes, byte_batches, extract
from pretrain.common.device import best_device
from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from transfer.checkpoints import architecture

PHOTOGRAPHS = 256  # distinct JPEG files; more images are the same ones again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Images/s of feature extraction against the bare forward. The defaults fit a CPU."""

    architecture: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    images: int = 256  # per round; whole batches of 64 are timed best
    size: int = 64  # pixels of the crop; the shorter side is resized to 8/7 of it
    workers: int = 0  # processes that read JPEG files; 0: the main one
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of all sides; features are always extracted in fp32
    rounds: int = 3


class _Lowered(nn.Module):
    """``network`` under autocast to ``dtype``."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype):
            found: Tensor = self.network(images)
        return found


def network_of(arguments: Arguments, device: torch.device) -> nn.Module:
    """Bytes to features, with random weights, as features are extracted."""
    network: nn.Module = architecture.build(arguments.architecture).to_empty(device=device)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()
    if arguments.precision != "fp32":
        network = _Lowered(network, {"bf16": torch.bfloat16, "fp16": torch.float16}[arguments.precision])
    model = FromBytes(network, PixelInput()).eval().requires_grad_(False)
    return model.to(device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def bare(network: nn.Module, batches: list[Tensor]) -> Tensor:
    """The last features: a loop over batches as the network takes them, and nothing else."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for images in batches:
            found: Tensor = network(images)
    return found


def measure(arguments: Arguments) -> str:
    """The table: images/s of each side, its ratio to the bare forward, and the share of it that each reaches."""
    if arguments.images < 1 or arguments.size < 32 or arguments.workers < 0:
        raise InputError("--images takes 1 or more, --size 32 or more, --workers 0 or more")
    device = best_device()
    model, view = network_of(arguments, device), FeatureView(resize=arguments.size * 8 // 7, crop=arguments.size)
    with tempfile.TemporaryDirectory() as place:
        folder, target = Path(place, "images"), Path(place, "features.npy")
        folder.mkdir()
        kilobytes = write_photographs(folder, min(PHOTOGRAPHS, arguments.images))
        files = sorted(folder.iterdir())
        paths = [files[number % len(files)] for number in range(arguments.images)]
        resident = [
            images.to(device, memory_format=torch.channels_last)
            for images in byte_batches(paths, view, arguments.workers)
        ]
        prepared = [model.network_input(images) for images in resident]  # type: ignore[operator]
        sides: dict[str, Callable[[], object]] = {
            "bare forward, images resident": lambda: bare(model.network, prepared),  # type: ignore[arg-type]
            "extract, images resident": lambda: extract(model, resident, len(paths), target),
            f"extract, from JPEG files, {arguments.workers} processes": lambda: extract(
                model, byte_batches(paths, view, arguments.workers), len(paths), target
            ),
        }
        seconds = medians(sides, arguments.rounds)
    first, *others = seconds.values()
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} core(s) of {processor()}"
    )
    title = (
        f"{arguments.architecture}, {len(paths):,} images in batches of {BATCH}, {arguments.size} px, "
        f"{arguments.precision}, JPEGs of 500×375, {kilobytes:.0f} kB; on {name}"
    )
    shares = "resident {:.0%}, from files {:.0%} of the bare forward".format(*(first / one for one in others))
    return f"{table(title, len(paths), seconds)}\n{shares}"
