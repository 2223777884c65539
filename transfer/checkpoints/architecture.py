"""Identify the ResNet of a set of tensor names and shapes, and list its differences from torchvision's."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from pretrain.common.errors import printable
from transfer.checkpoints import key_map

Shapes = Mapping[str, tuple[int, ...]]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
COUNTS = (torch.int64, torch.int32)
NO_RESNET = "no ResNet under torchvision's names"
WRONG_TYPE = "not plain float32 or half"
_NO_STEM = "no conv1.weight"
_LONGEST = 150  # letters shown of a name


def build(architecture: str, *, stride_in_1x1: bool = False) -> nn.Module:
    """torchvision's network without classifier, on the meta device (no memory): N×3×H×W → N×512 or 2048.

    With ``stride_in_1x1`` a bottleneck's stride is in its first convolution, as in MSRA's ResNets.
    """
    import torchvision  # takes as long as torch, and only a forward pass needs it

    with torch.device("meta"):
        model: Any = torchvision.models.get_model(architecture, weights=None)
    model.fc = nn.Identity()
    if stride_in_1x1 and architecture not in key_map.BASIC:
        for block in model.modules():
            if hasattr(block, "conv3"):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    network: nn.Module = model
    return network


@functools.cache
def expected_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of torchvision's network that detectron2 has (265 for resnet50), torchvision's names."""
    expansion = 1 if architecture in key_map.BASIC else 4
    return {name: _shape(name, expansion) for name in key_map.to_detectron2(architecture)}


def _shape(name: str, expansion: int) -> tuple[int, ...]:
    if name == "conv1.weight":
        return 64, 3, 7, 7
    if not name.startswith("layer"):
        return (64,)
    stage, block, module, *rest = name.removeprefix("layer").split(".")
    planes = 32 * 2 ** int(stage)
    wide = planes * expansion
    before = wide if int(block) else (64 if stage == "1" else wide // 2)  # channels that the block sees
    convolutions = {
        "conv1": (planes, before, 1, 1) if expansion == 4 else (planes, before, 3, 3),
        "conv2": (planes, planes, 3, 3),
        "conv3": (wide, planes, 1, 1),
        "downsample": (wide, before, 1, 1),
    }
    if module in convolutions and rest in (["weight"], ["0", "weight"]):
        return convolutions[module]
    return (wide if module in ("bn3", "downsample") else planes,)


def identify(found: Iterable[str]) -> str:
    """The architecture of the same block type whose names (torchvision's) differ least from ``found``."""
    present = set(found)
    blocks = {key.rpartition(".conv1.")[0] for key in present if key.startswith("layer") and ".conv1." in key}
    third = {key.rpartition(".conv3.")[0] for key in present if key.startswith("layer") and ".conv3." in key}
    basic = len(third) * 2 < len(blocks)
    return min(
        (name for name in key_map.BLOCKS if not blocks or (name in key_map.BASIC) == basic),
        key=lambda name: _distance(present, name),
    )


def _distance(present: set[str], architecture: str) -> int:
    wanted, counters = key_map.to_detectron2(architecture).keys(), set(key_map.counters(architecture))
    return len((present - counters) ^ wanted)


def describe(shapes: Shapes) -> str:
    """Likely architecture of tensors under torchvision's names, for example "ResNet-18" or "ResNet-50, width 2×"."""
    blocks = tuple(len({key.split(".")[1] for key in shapes if key.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4))
    if not any(blocks):
        return NO_RESNET
    nearest = identify(shapes)
    depth = key_map.title(nearest)
    if key_map.BLOCKS[nearest] != blocks:
        kind, convolutions = ("basic", 2) if nearest in key_map.BASIC else ("bottleneck", 3)
        depth = f"{kind} ResNet with {'-'.join(map(str, blocks))} blocks"
        if all(blocks):
            depth = f"ResNet-{convolutions * sum(blocks) + 2} ({'-'.join(map(str, blocks))} {kind} blocks)"
    return ", ".join([depth, *_width(shapes), *_parts(shapes), *_stem(shapes)])


def another(shapes: Shapes) -> str | None:
    """Describe an unsupported ResNet, complete or not; None for one that is or may be supported."""
    kind = describe(shapes)
    plain = kind == NO_RESNET or kind.removesuffix(f", {_NO_STEM}") == key_map.title(identify(shapes))
    only = "only ResNet-18, 34, 50, 101 and 152 of the usual width and stem can be converted"
    return None if plain else f"looks like a {kind}; {only}"


_PARTS = {  # regex on the keys → name of the part; the first match is reported
    r"\.mixing_conv\.|\.conv[12]\.(?:paths|conv_reduce)\.|\.conv[12]\.attn\.": "selective kernels",
    r"\.conv2\.(?:radix|fc1|bn0)\.": "split attention (ResNeSt)",
    r"\.convs\.0\.": "several scales per block (Res2Net)",
    r"\.se\.": "squeeze-and-excitation",
    r"\.(?:eca|attn)\.|attnpool\.": "attention",
    r"\.filt$": "blurred pooling",
}


def _parts(shapes: Shapes) -> list[str]:
    """Parts of a block that torchvision's ResNets do not have."""
    found = [title for pattern, title in _PARTS.items() if any(re.search(pattern, key) for key in shapes)][:1]
    if any(".downsample.2." in key for key in shapes) or len(shapes.get("layer2.0.downsample.1.weight", ())) == 4:
        found.append("shortcuts that pool (ResNet-D)")
    if "layer1.0.bn1.weight" in shapes and not any(key.endswith(".running_mean") for key in shapes):
        found.append("norms without running statistics (group norm?)")
    return found


def _width(shapes: Shapes) -> list[str]:
    first, second = shapes.get("layer1.0.conv1.weight", ()), shapes.get("layer1.0.conv2.weight", ())
    if len(first) != 4 or len(second) != 4 or first[0] == 64:
        return []
    return [f"{first[0] // second[1]} groups"] if 0 < second[1] < first[0] else [f"width {first[0] / 64:g}×"]


def _stem(shapes: Shapes) -> list[str]:
    conv = shapes.get("conv1.weight")
    if "conv2.weight" in shapes or any(f"{name}.weight" in shapes for name in ("conv1.0", "stem.0", "stem.conv1")):
        return ["deep stem (several convolutions)"]
    if conv is None:
        return [_NO_STEM]
    if conv == (64, 3, 7, 7) or len(conv) != 4:
        return []
    stem = f"{conv[2]}×{conv[3]} stem with {conv[1]} input and {conv[0]} output channels"
    cifar = "as for CIFAR, without pooling: detectron2 has no such network"
    return [f"{stem}, {cifar}" if conv[2:] == (3, 3) and conv[1] == 3 else stem]


def shapes_of(state: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors and arrays in ``state``; anything else is left out."""
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, (Tensor, np.ndarray))}


def problems(state: Mapping[str, object], architecture: str) -> list[str]:
    """Reasons why ``state`` (torchvision's names, no fc) is not this network, one phrase per kind of fault, or [].

    Each phrase names the first offending keys. Counters are optional. Values are checked only where shape and type are
    right: a file of a kilobyte can claim a tensor of gigabytes.
    """
    wanted, shapes = expected_shapes(architecture), shapes_of(state)
    known = wanted | dict.fromkeys(key_map.counters(architecture), ())
    misshaped = [
        f"{name} {shapes[name]} instead of {shape}" for name, shape in known.items() if shapes.get(name, shape) != shape
    ]
    wrong_type = [
        f"{name} {_kind(value)}"
        for name, value in state.items()
        if name in known and not (is_plain(value) and value.dtype in (FLOATS if name in wanted else COUNTS))
    ]
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and is_plain(value) and value.dtype in FLOATS and shapes[name] == wanted.get(name)
    }
    # A float64 sum of finite values of these types never overflows, and takes a quarter of isfinite's time.
    broken = [name for name, value in tensors.items() if not bool(value.sum(dtype=torch.float64).isfinite())]
    negative = [n for n, value in tensors.items() if n.endswith(".running_var") and bool((value < 0).any())]
    return [
        f"{what} {first_few(keys)}"
        for what, keys in (
            ("missing", [name for name in wanted if name not in state]),
            ("not mapped", [name for name in state if name not in known]),
            ("wrong shape", misshaped),
            (WRONG_TYPE, wrong_type),
            ("NaN or infinite values in", broken),
            ("negative variance in", negative),
        )
        if keys
    ]


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether ``value`` is a dense tensor on the CPU."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return str(getattr(value, "dtype", type(value).__name__))
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"{value.dtype}{layout}" if value.device.type == "cpu" else f"{value.dtype} on {value.device}"


def first_few(keys: Iterable[str], count: int = 3) -> str:
    """The first ``count`` of ``keys`` and the number of the others, always on one line."""
    listed = list(keys)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(map(_on_one_line, listed[:count])) + more


def _on_one_line(key: str) -> str:
    return printable(key[:_LONGEST]) + "…" * (len(key) > _LONGEST)
