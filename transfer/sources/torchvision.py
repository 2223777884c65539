"""torchvision's ResNet-50, as ``torch.save(model.state_dict(), …)`` or safetensors writes it.

Also inside {"state_dict": …} or {"model": …}, and with the ``module.`` that DistributedDataParallel puts in front.
"""

from __future__ import annotations

from typing import Any

from pretrain.errors import InputError
from transfer.read import Loaded
from transfer.sources.base import Source, Taken, without_classifier

WRAPPERS = ("state_dict", "model")
ASSUMED = "RGB images normalised with ImageNet's mean and std, the stride in the 3×3 convolutions"


def unwrap(loaded: Loaded) -> tuple[dict[str, Any], dict[str, str]]:
    """The state dict inside ``loaded``, and {top-level key: reason} of what is beside it. InputError if two."""
    inside = [key for key in WRAPPERS if isinstance(loaded.content.get(key), dict)]
    if len(inside) > 1:
        raise InputError(f'{loaded.path}: both "state_dict" and "model" inside; save the one you mean by itself')
    if not inside:
        return loaded.content, {}
    beside = {key: f'beside "{inside[0]}", not weights of it' for key in loaded.content if key != inside[0]}
    return loaded.content[inside[0]], beside


def strip_ddp(state: dict[str, Any]) -> dict[str, Any]:
    """``state`` without the ``module.`` prefix, if every key has it."""
    prefix = "module."
    plain = {str(key): value for key, value in state.items()}
    if all(key.startswith(prefix) for key in plain):
        return {key.removeprefix(prefix): value for key, value in plain.items()}
    return plain


def recognise(loaded: Loaded) -> str | None:
    """torchvision's names: a stem ``conv1.*`` and blocks ``layer1.*``."""
    state = strip_ddp(unwrap(loaded)[0])
    named_so = all(any(key.startswith(part) for key in state) for part in ("conv1.", "layer1."))
    return "keys named as torchvision's ResNets are" if named_so else None


def take(loaded: Loaded) -> Taken:
    """The state dict without fc; torchvision's ImageNet mean and std."""
    state, beside = unwrap(loaded)
    state, dropped = without_classifier(strip_ddp(state))
    return Taken(state=state, dropped=beside | dropped, assumed=ASSUMED)


SOURCE = Source(name="torchvision", recognise=recognise, take=take)
