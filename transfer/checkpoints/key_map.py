"""One invertible table between torchvision's and detectron2's names of a ResNet's tensors.

``python -m transfer inspect FILE`` applies it to a file. The table is written out name by name, so nothing matches by
accident: 265 entries for a ResNet-50 (53 convolutions, 53 batch norms of four tensors). detectron2's names are those of
its own ``.pkl`` files (detectron2:modeling/backbone/resnet.py), without the prefix of a detector. The batch norms'
``num_batches_tracked`` counters have no counterpart.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

# Blocks in layer1 … layer4, which detectron2 calls res2 … res5.
BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BASIC = ("resnet18", "resnet34")  # two 3×3 convolutions per block; the others have bottlenecks of 1×1, 3×3, 1×1
COUNTER = ".num_batches_tracked"

_CONV = ("weight",)
_NORM = ("weight", "bias", "running_mean", "running_var")
_STEM = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm"}
_BASIC = {"conv1": "conv1", "bn1": "conv1.norm", "conv2": "conv2", "bn2": "conv2.norm"}
_BOTTLENECK = _BASIC | {"conv3": "conv3", "bn3": "conv3.norm"}
_SHORTCUT = {"downsample.0": "shortcut", "downsample.1": "shortcut.norm"}


def depth(architecture: str) -> int:
    """18, 34, 50, 101 or 152."""
    return int(architecture.removeprefix("resnet"))


def title(architecture: str) -> str:
    """Its name for people, such as ResNet-50."""
    return f"ResNet-{depth(architecture)}"


def _modules(architecture: str) -> dict[str, str]:
    modules, basic = dict(_STEM), architecture in BASIC
    for stage, count in enumerate(BLOCKS[architecture], start=1):
        for block in range(count):
            widens = block == 0 and not (
                basic and stage == 1
            )  # a basic block's first stage keeps the stem's 64 channels
            parts = (_BASIC if basic else _BOTTLENECK) | (_SHORTCUT if widens else {})
            for theirs, ours in parts.items():
                modules[f"layer{stage}.{block}.{theirs}"] = f"res{stage + 1}.{block}.{ours}"
    return modules


@functools.cache
def to_detectron2(architecture: str) -> dict[str, str]:
    """torchvision name → detectron2 name of every tensor that detectron2 has (265 for resnet50), in forward order."""
    return {
        f"{theirs}.{tensor}": f"{ours}.{tensor}"
        for theirs, ours in _modules(architecture).items()
        for tensor in (_NORM if ours.endswith(".norm") else _CONV)
    }


@functools.cache
def to_torchvision(architecture: str) -> dict[str, str]:
    """detectron2 name → torchvision name: the same table read the other way."""
    return {ours: theirs for theirs, ours in to_detectron2(architecture).items()}


@functools.cache
def counters(architecture: str) -> tuple[str, ...]:
    """torchvision's names of the batch norms' counters (53 for resnet50)."""
    return tuple(theirs + COUNTER for theirs, ours in _modules(architecture).items() if ours.endswith(".norm"))


def nearest(found: Iterable[str]) -> str:
    """The architecture whose detectron2 names differ least from ``found``."""
    present = set(found)
    return min(BLOCKS, key=lambda architecture: len(present ^ set(to_torchvision(architecture))))
