"""One invertible table between torchvision's and detectron2's names of a ResNet's tensors.

Run ``python -m transfer inspect FILE`` to see it applied. The table is written out name by name, so nothing matches by
accident: 265 entries for a ResNet-50 (53 convolutions, 53 batch norms of four tensors). detectron2's names are those of
its own ``.pkl`` files (detectron2:modeling/backbone/resnet.py), without the prefix of a detector. The 53
``num_batches_tracked`` counters have no counterpart.
"""

from __future__ import annotations

import functools

BLOCKS = {"resnet50": (3, 4, 6, 3)}  # bottleneck blocks in layer1 … layer4, which detectron2 calls res2 … res5
COUNTER = ".num_batches_tracked"

_CONV = ("weight",)
_NORM = ("weight", "bias", "running_mean", "running_var")
_STEM = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm"}
_BLOCK = {
    "conv1": "conv1",
    "bn1": "conv1.norm",
    "conv2": "conv2",
    "bn2": "conv2.norm",
    "conv3": "conv3",
    "bn3": "conv3.norm",
}
_SHORTCUT = {"downsample.0": "shortcut", "downsample.1": "shortcut.norm"}


def _modules(architecture: str) -> dict[str, str]:
    modules = dict(_STEM)
    for stage, count in enumerate(BLOCKS[architecture], start=1):
        for block in range(count):
            parts = _BLOCK | _SHORTCUT if block == 0 else _BLOCK
            for theirs, ours in parts.items():
                modules[f"layer{stage}.{block}.{theirs}"] = f"res{stage + 1}.{block}.{ours}"
    return modules


@functools.cache
def to_detectron2(architecture: str = "resnet50") -> dict[str, str]:
    """torchvision name → detectron2 name of every tensor that detectron2 has (265 for resnet50), in forward order."""
    return {
        f"{theirs}.{tensor}": f"{ours}.{tensor}"
        for theirs, ours in _modules(architecture).items()
        for tensor in (_NORM if ours.endswith(".norm") else _CONV)
    }


@functools.cache
def to_torchvision(architecture: str = "resnet50") -> dict[str, str]:
    """detectron2 name → torchvision name: the same table read the other way."""
    return {ours: theirs for theirs, ours in to_detectron2(architecture).items()}


@functools.cache
def counters(architecture: str = "resnet50") -> tuple[str, ...]:
    """torchvision's names of the batch norms' counters (53 for resnet50)."""
    return tuple(theirs + COUNTER for theirs, ours in _modules(architecture).items() if ours.endswith(".norm"))
