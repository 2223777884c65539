"""Write any checkpoint's backbone under torchvision's names, a .safetensors for ``resnet50().load_state_dict``.

    python -m transfer export CHECKPOINT -o backbone-of-mine.safetensors

It also converts back from detectron2: a .pkl or a fine-tuned detector becomes a file for other tools, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from pretrain.common.errors import InputError, RunError
from pretrain.common.files import replacing
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD, tensor_digest
from transfer.checkpoints import key_map
from transfer.checkpoints.backbone import Backbone, read_backbone
from transfer.checkpoints.given import NOTHING_GIVEN, Given


def export(
    path: Path | str,
    out: Path | str,
    *,
    family: str | None = None,
    network: str | None = None,
    given: Given = NOTHING_GIVEN,
) -> Backbone:
    """Write the backbone in ``path`` to ``out``; ``family``, ``network`` and ``given`` as in backbone.read_backbone.

    The file holds torchvision's whole state without ``fc`` (318 tensors for a ResNet-50; batch counters that the
    checkpoint lacks are 0). InputError for a network that a torchvision file cannot describe (other pixel statistics,
    BGR, stride in the 1×1 convolutions), and for an ``out`` that exists or cannot be written.
    """
    backbone, target = read_backbone(path, family, network, given), Path(out)
    _require_describable(backbone, path)
    if target.suffix != ".safetensors" or target.exists():
        raise InputError(f"{target}: give -o the name of a new file that ends in .safetensors")
    zeros = {name: torch.zeros((), dtype=torch.int64) for name in key_map.counters(backbone.architecture)}
    state = zeros | dict(backbone.state)
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(save({name: tensor.clone() for name, tensor in state.items()}, {"format": "pt"}))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place with -o") from None
    if tensor_digest(load_file(target)) != tensor_digest(state):
        raise RunError(f"{target}: reads back as other tensors than were written; try another disk")
    return backbone


def _require_describable(backbone: Backbone, path: Path | str) -> None:
    images = backbone.input
    # Equal up to the rounding of a config.yaml's values for 0 to 255.
    mean, std = (
        all(abs(one - other) < 1e-6 for one, other in zip(ours, wanted, strict=True))
        for ours, wanted in ((images.mean, IMAGENET_MEAN), (images.std, IMAGENET_STD))
    )
    differing = {
        "other pixel means than ImageNet's": not mean,
        "other pixel stds": not std,
        f"{images.order} images": images.order != "RGB",
        "the stride in the 1×1 convolutions": images.stride_in_1x1,
    }
    found = [what for what, differs in differing.items() if differs]
    if found:
        raise InputError(
            f"{path}: the network needs {', '.join(found)}, which a file under torchvision's names cannot record; "
            "use the checkpoint itself, or python -m transfer convert"
        )
