"""Our own pretraining: ``backbone.safetensors`` of a run's folder and the ``meta.json`` beside it."""

from __future__ import annotations

from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from pretrain.common.tensors import tensor_digest
from transfer.checkpoints.architecture import is_plain
from transfer.checkpoints.families.base import WRITTEN_IN_TEST, Family, RawBackbone, choose, without_classifier
from transfer.checkpoints.reading.read import CheckpointFile

NETWORK = "backbone"


def recognise(file: CheckpointFile) -> str | None:
    """A ``backbone.safetensors`` whose meta.json names the hash of its tensors."""
    if file.path.name == "backbone.safetensors" and file.meta and "sha256" in file.meta:
        return "backbone.safetensors of a pretraining run, with its meta.json"
    return None


def holds_two_encoders(file: CheckpointFile) -> bool:
    """Whether the run trained CMC, whose backbone is not a ResNet (see transfer/checkpoints/two_encoders.py)."""
    return any(str(key).startswith("encoder1.") for key in file.content)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """As ``read``. InputError for CMC, too."""
    choose(file, (NETWORK,), network)
    raw = read(file)
    if holds_two_encoders(file):
        raise InputError(
            f"{file.path}: CMC has two ResNets of half the width (encoder1, encoder2) that see luminance and "
            "chrominance; that cannot become a backbone of detectron2 (python -m benchmarks run takes it for linear, "
            "low-shot and knn)"
        )
    return raw


def read(file: CheckpointFile) -> RawBackbone:
    """The tensors, with the pixel statistics of meta.json. InputError if meta.json describes other tensors."""
    meta = file.meta or {}
    wanted = meta["sha256"]
    sizes = [value.numel() * value.element_size() for value in file.content.values() if is_plain(value)]
    if len(sizes) < len(file.content) or sum(sizes) > file.path.stat().st_size:  # a hostile file can claim more
        raise InputError(f"{file.path}: holds other things than tensors of its own size, so meta.json is not about it")
    found = tensor_digest(file.content)
    if wanted != found:
        raise InputError(
            f"{file.path}: meta.json describes other tensors (sha256 {str(wanted)[:12]}, "
            f"these are {found[:12]}); one of the two files was replaced"
        )
    state, dropped = without_classifier(file.content)
    try:
        mean, std = (tuple(float(x) for x in meta[key]) for key in ("pixel_mean", "pixel_std"))
        images = PixelInput(mean=mean, std=std, order=str(meta["channel_order"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file.path}: meta.json has no usable pixel_mean, pixel_std and channel_order") from None
    return RawBackbone(state=state, dropped=dropped, input=images, networks=(NETWORK,), network=NETWORK)


FAMILY = Family(
    name="superinfo",
    title="a pretraining run of this project",
    known_from=f"pretrain/checkpoint.py, {WRITTEN_IN_TEST}",
    recognise=recognise,
    extract=extract,
)
