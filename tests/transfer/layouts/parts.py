"""What the families' files are put together from."""

import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torchvision

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PUBLISHED = "built from the published code"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    family: str  # the family that must recognise it
    content: Any  # what the project hands to torch.save
    networks: dict[str, dict]  # name → backbone, the published choice first
    dropped: tuple[str, ...] = ()  # parts of keys that must be reported as left out
    pixels: tuple = IMAGENET
    made: str = PUBLISHED


SAMPLES: dict[str, Callable[[dict, dict], Sample]] = {}


def sample(function):
    SAMPLES[function.__name__.replace("_", "-")] = function
    return function


def under(prefix, state):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def zeros(*shape, dtype=torch.float32):
    return torch.zeros((), dtype=dtype).expand(shape)


def random_backbone(architecture, seed):
    """torchvision's network without fc: no two tensors alike, and statistics that a forward pass survives."""
    torch.manual_seed(seed)
    state = torchvision.models.get_model(architecture, weights=None).state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            value.fill_(seed)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def width(state):
    """Features of the last stage: 512 or 2048."""
    return max(value.shape[0] for name, value in state.items() if name.startswith("layer4") and value.dim() == 1)


def linear(name, out, into, bias=True):
    return {f"{name}.weight": zeros(out, into)} | ({f"{name}.bias": zeros(out)} if bias else {})


def norm(name, size, affine=True):
    parts = ("weight", "bias", "running_mean", "running_var") if affine else ("running_mean", "running_var")
    count = {f"{name}.num_batches_tracked": zeros(dtype=torch.int64)}
    return {f"{name}.{part}": zeros(size) for part in parts} | count


def mlp(name, *sizes, bias=False, last_bias=False, last_norm=False):
    """Linear, norm and ReLU in a Sequential, the last one only linear; ``last_norm``: and a norm without parameters."""
    state, index = {}, 0
    for into, out in itertools.pairwise(sizes[:-1]):
        state |= linear(f"{name}.{index}", out, into, bias) | norm(f"{name}.{index + 1}", out)
        index += 3
    state |= linear(f"{name}.{index}", sizes[-1], sizes[-2], last_bias)
    return state | (norm(f"{name}.{index + 1}", sizes[-1], affine=False) if last_norm else {})


def optimizer():
    group = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "params": [0, 1]}
    return {"state": {n: {"momentum_buffer": zeros(64, 3, 7, 7)} for n in (0, 1)}, "param_groups": [group]}


def lightning(state, **more):
    """The wrapping of pytorch_lightning's Trainer.save_checkpoint."""
    return {
        "epoch": 99,
        "global_step": 500400,
        "pytorch-lightning_version": "1.6.4",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 100, "completed": 100}}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.7), "best_k_models": {}}},
        "optimizer_states": [optimizer()],
        "lr_schedulers": [{"last_epoch": 99, "_last_lr": [0.0]}],
    } | more
