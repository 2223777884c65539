"""Which ResNet a set of tensor names and shapes is, in words, and what keeps it from being one of torchvision's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import torch
import torchvision
from torch import Tensor, nn

from transfer import names

Shapes = Mapping[str, tuple[int, ...]]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
COUNTS = (torch.int64, torch.int32)


def build(architecture: str, *, stride_in_1x1: bool = False) -> nn.Module:
    """torchvision's network without classifier and without memory (on the meta device): N×3×H×W → N×512 or 2048.

    With ``stride_in_1x1`` a bottleneck's stride is in its first convolution, as in MSRA's ResNets.
    """
    with torch.device("meta"):
        model: Any = torchvision.models.get_model(architecture, weights=None)
    model.fc = nn.Identity()
    if stride_in_1x1 and architecture not in names.BASIC:
        for block in model.modules():
            if hasattr(block, "conv3"):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    network: nn.Module = model
    return network


@functools.cache
def expected_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of torchvision's network that detectron2 has (265 for resnet50), torchvision's names."""
    state = build(architecture).state_dict()
    return {name: tuple(state[name].shape) for name in names.to_detectron2(architecture)}


def identify(found: Iterable[str]) -> str:
    """The architecture that shares the most of the names ``found`` (torchvision's) and lacks the fewest."""
    present = set(found)
    return min(names.BLOCKS, key=lambda name: _distance(present, name))


def _distance(present: set[str], architecture: str) -> int:
    wanted, counters = names.to_detectron2(architecture).keys(), set(names.counters(architecture))
    return len((present - counters) ^ wanted)


def describe(shapes: Shapes) -> str:
    """Likely architecture of tensors under torchvision's names, for example "ResNet-18" or "ResNet-50, width 2×"."""
    blocks = tuple(len({key.split(".")[1] for key in shapes if key.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4))
    if not any(blocks):
        return "no ResNet under torchvision's names"
    nearest = identify(shapes)
    kind = "basic" if nearest in names.BASIC else "bottleneck"
    depth = names.title(nearest)
    if names.BLOCKS[nearest] != blocks:
        depth = f"{kind} ResNet with {'-'.join(map(str, blocks))} blocks"
    attention = ["squeeze-and-excitation"] if any(".se." in key for key in shapes) else []
    return ", ".join([depth, *_width(shapes), *attention, *_stem(shapes)])


def _width(shapes: Shapes) -> list[str]:
    first, second = shapes.get("layer1.0.conv1.weight", ()), shapes.get("layer1.0.conv2.weight", ())
    if len(first) != 4 or len(second) != 4 or first[0] == 64:
        return []
    return [f"{first[0] // second[1]} groups"] if 0 < second[1] < first[0] else [f"width {first[0] / 64:g}×"]


def _stem(shapes: Shapes) -> list[str]:
    conv = shapes.get("conv1.weight")
    if conv is None:
        return ["deep stem (conv1 has several layers)" if "conv1.0.weight" in shapes else "no conv1.weight"]
    if conv == (64, 3, 7, 7) or len(conv) != 4:
        return []
    stem = f"{conv[2]}×{conv[3]} stem with {conv[1]} input and {conv[0]} output channels"
    cifar = "as for CIFAR, without pooling: detectron2 has no such network"
    return [f"{stem}, {cifar}" if conv[2:] == (3, 3) and conv[1] == 3 else stem]


def shapes_of(state: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors in ``state``; what is no tensor is left out."""
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}


def problems(state: Mapping[str, object], architecture: str) -> list[str]:
    """What keeps ``state`` (torchvision's names, no fc) from being this network; one phrase a kind of fault, or [].

    Each phrase names the first offending keys. Counters may be there or not. Values are looked at only where shape and
    type are right: a file of a kilobyte can claim a tensor of gigabytes.
    """
    wanted, shapes = expected_shapes(architecture), shapes_of(state)
    known = wanted | dict.fromkeys(names.counters(architecture), ())
    misshaped = [
        f"{name} {shapes[name]} instead of {shape}" for name, shape in known.items() if shapes.get(name, shape) != shape
    ]
    wrong_type = [
        f"{name} {_kind(value)}"
        for name, value in state.items()
        if name in known and not (_is_plain(value) and value.dtype in (FLOATS if name in wanted else COUNTS))
    ]
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and _is_plain(value) and value.dtype in FLOATS and shapes[name] == wanted.get(name)
    }
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    negative = [n for n, value in tensors.items() if n.endswith(".running_var") and bool((value < 0).any())]
    return [
        f"{what} {first_few(keys)}"
        for what, keys in (
            ("missing", [name for name in wanted if name not in state]),
            ("not mapped", [name for name in state if name not in known]),
            ("wrong shape", misshaped),
            ("not plain float32 or half", wrong_type),
            ("NaN or infinite values in", broken),
            ("negative variance in", negative),
        )
        if keys
    ]


def _is_plain(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return str(getattr(value, "dtype", type(value).__name__))
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"{value.dtype}{layout}" if value.device.type == "cpu" else f"{value.dtype} on {value.device}"


def first_few(keys: Iterable[str], count: int = 3) -> str:
    """The first ``count`` of ``keys``, and how many more there are."""
    listed = list(keys)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more
