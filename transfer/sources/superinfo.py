"""Our own pretraining: ``backbone.safetensors`` of a run's folder and the ``meta.json`` beside it."""

from __future__ import annotations

from pretrain.checkpoint import tensor_digest
from pretrain.errors import InputError
from transfer.read import Loaded
from transfer.sources.base import Source, Taken, without_classifier


def recognise(loaded: Loaded) -> str | None:
    """A ``backbone.safetensors`` whose meta.json names the hash of its tensors."""
    if loaded.path.name == "backbone.safetensors" and loaded.meta and "sha256" in loaded.meta:
        return "backbone.safetensors of a pretraining run, with its meta.json"
    return None


def take(loaded: Loaded) -> Taken:
    """The tensors, with the pixel statistics of meta.json. InputError if meta.json is about other tensors."""
    meta = loaded.meta or {}
    found = tensor_digest(loaded.content)
    if meta["sha256"] != found:
        raise InputError(
            f"{loaded.path}: meta.json describes other tensors (sha256 {str(meta['sha256'])[:12]}, "
            f"these are {found[:12]}); one of the two files was replaced"
        )
    state, dropped = without_classifier(loaded.content)
    try:
        mean, std = (tuple(float(x) for x in meta[key]) for key in ("pixel_mean", "pixel_std"))
        order = str(meta["channel_order"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{loaded.path}: meta.json has no usable pixel_mean, pixel_std and channel_order") from None
    return Taken(state=state, dropped=dropped, pixel_mean=mean, pixel_std=std, channel_order=order)


SOURCE = Source(name="superinfo", recognise=recognise, take=take)
