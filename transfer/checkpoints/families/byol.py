"""BYOL's haiku pickle (pretrain_res50x1.pkl), read without haiku and without running anything in it.

Modules are found by name; their order in the file does not matter. A kernel is height × width × input × output in
haiku and output × input × height × width in torch; the running statistics are the averages in haiku's state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families.base import BESIDE, HEAD, OUTSIDE, PUBLISHED_CODE, Family, RawBackbone, choose
from transfer.checkpoints.reading.read import CheckpointFile

_FIELDS = ("online_params", "target_params", "online_state", "target_state", "opt_state")
_NETWORKS = ("online", "target")
_INITIAL = re.compile(r"(?:.*/)?initial_(conv|batchnorm)((?:/~)?/(?:mean|var)_ema)?")
_BLOCK = re.compile(
    r".*block_group_(\d)/~/block_(\d+)/~/(?:(conv|batchnorm)_(\d)|shortcut_(conv|batchnorm))((?:/~)?/(?:mean|var)_ema)?"
)
_ASSUMED = (
    "RGB images normalised with ImageNet's mean and std, the stride in the 3×3 convolutions; at stride 2 haiku pads a "
    "pixel less on the left and top than torch, so that maps are shifted against the original's"
)
_NORM = {"scale": "weight", "offset": "bias"}


def recognise(file: CheckpointFile) -> str | None:
    """A pickle with BYOL's experiment state whose parameters include haiku's first convolution."""
    parameters = _networks(file.content).get("online_params", {})
    named_so = any(_INITIAL.fullmatch(module) for module in parameters)
    return "BYOL's experiment_state with haiku's parameters" if named_so else None


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The online network's ResNet, or the averaged target's."""
    chosen = choose(file, _NETWORKS, network)
    fields = _networks(file.content)
    dropped = {key: BESIDE for key in file.content if key != "experiment_state"}
    state: dict[str, Tensor] = {}
    for field, modules in fields.items():
        of_chosen = field.startswith(f"{chosen}_")
        for module, tensors in modules.items():
            found = dict(_renamed(module, tensors)) if of_chosen else {}
            state |= found
            if not found:
                dropped[f"{field}/{module}"] = _reason(field, module, chosen)
    return RawBackbone(
        state=state,
        dropped=dropped,
        input=PixelInput(assumed=_ASSUMED),
        networks=_NETWORKS,
        network=chosen,
    )


def _networks(content: Mapping[Any, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Field of the experiment state → module → its arrays; {} for another file."""
    experiment = content.get("experiment_state")
    if not isinstance(experiment, dict):
        return {}
    fields = dict(zip(_FIELDS, _arguments(experiment), strict=False)) | experiment
    plain = {name: _plain(fields[name]) for name in _FIELDS[:4] if name in fields}
    return {name: {module: _plain(arrays) for module, arrays in value.items()} for name, value in plain.items()}


def _arguments(inert: Any) -> tuple[Any, ...]:
    """The recorded arguments of another project's class: see transfer.checkpoints.reading.pickle_values.Inert."""
    return vars(inert).get("pickled_args", ()) if hasattr(inert, "__dict__") else ()


def _plain(value: Any) -> dict[str, Any]:
    """A mapping, either plain or as the only argument of haiku's mapping class."""
    for inner in (value, *_arguments(value)):
        if isinstance(inner, dict) and inner:
            return inner
    return {}


def _renamed(module: str, arrays: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """torchvision's names and the tensors of one haiku module; empty for a module outside the ResNet."""
    place = _place(module)
    if place is None:
        return
    ours, average = place
    for name, value in arrays.items():
        if average and name == "average":
            yield f"{ours}.running_{average}", _tensor(value).reshape(-1)
        elif name == "w" and not average:
            yield f"{ours}.weight", _tensor(value).permute(3, 2, 0, 1).contiguous()
        elif name in _NORM and not average:
            yield f"{ours}.{_NORM[name]}", _tensor(value).reshape(-1)


def _place(module: str) -> tuple[str, str] | None:
    """torchvision's module, and "mean" or "var" for a running average; None outside the ResNet."""
    if match := _INITIAL.fullmatch(module):
        return ("conv1" if match[1] == "conv" else "bn1"), _average(match[2])
    if match := _BLOCK.fullmatch(module):
        layer, kind = f"layer{int(match[1]) + 1}.{match[2]}", match[3] or match[5]
        if match[4] is None:
            return f"{layer}.downsample.{0 if kind == 'conv' else 1}", _average(match[6])
        return f"{layer}.{'conv' if kind == 'conv' else 'bn'}{int(match[4]) + 1}", _average(match[6])
    return None


def _average(suffix: str | None) -> str:
    return suffix.rpartition("/")[2].removesuffix("_ema") if suffix else ""


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))


def _reason(field: str, module: str, chosen: str) -> str:
    if not field.startswith(f"{chosen}_"):
        return f"of the network {field.partition('_')[0]}, not of {chosen}"
    return HEAD if re.match(r"projector|predictor|classifier", module) else OUTSIDE


FAMILY = Family(
    name="byol",
    title="BYOL, the pickle of its haiku code",
    known_from=(
        "google-deepmind/deepmind-research:byol/byol_experiment.py, byol/utils/{networks,checkpointing}.py; "
        f"{PUBLISHED_CODE}; module names as haiku makes them"
    ),
    recognise=recognise,
    extract=extract,
)
