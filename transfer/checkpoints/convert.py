"""Convert a checkpoint into detectron2's format, with proof, or refuse it in one line.

    python -m transfer convert CHECKPOINT [-o OUT.pkl]

Writes ``<stem>.pkl`` and, last, ``<stem>.json`` beside the input. Nothing is written unless every tensor maps with the
right shape and detectron2's ResNet computes torchvision's feature maps (see transfer.checkpoints.verify).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np

from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256
from pretrain.common.shell import command
from transfer.checkpoints import converted as proofs
from transfer.checkpoints import families, key_map
from transfer.checkpoints.architecture import first_few
from transfer.checkpoints.backbone import Backbone, read_backbone
from transfer.checkpoints.converted import ConvertedWeights
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading.file_format import find_checkpoint

COUNTERS_DROPPED = "batch counter, without counterpart in detectron2"


def convert(
    path: Path | str,
    out: Path | str | None = None,
    *,
    family: str | None = None,
    network: str | None = None,
    given: Given = NOTHING_GIVEN,
) -> ConvertedWeights:
    """Convert a checkpoint (file, or folder of a pretraining run); ``out`` is the .pkl (default: beside the input).

    The default name is the input's, with the network's where it is not the published one.

    ``family``, ``network`` and ``given`` as in backbone.read_backbone. An existing result of the same tensors and pixel
    statistics is returned as it is. InputError when the checkpoint is refused, when the forward pass disagrees, or when
    the result cannot be written or would replace a foreign file, or the conversion of another file or network.
    """
    backbone = read_backbone(path, family, network, given)
    checkpoint = find_checkpoint(path)
    target = _target(checkpoint, out, backbone)
    existing = proofs.usable(target)
    if (
        existing
        and existing.version == proofs.VERSION
        and existing.source_sha256 == backbone.sha256
        and _same_input(existing, backbone)
    ):
        return existing
    _refuse_foreign(target)
    _refuse_other_conversion(existing, checkpoint, backbone)
    return _write(backbone, checkpoint, target)


def summary(converted: ConvertedWeights) -> list[str]:
    """The proof as lines for a person, and the next command."""
    other = [key for key, reason in converted.dropped.items() if reason != COUNTERS_DROPPED]
    counters = len(converted.dropped) - len(other)
    dropped = [*other, *([f"{counters} batch counters"] if counters else [])]
    return [
        f"family: {converted.family} ({converted.reason}), sha256 {converted.source_sha256[:12]}",
        *_choice(converted),
        f"network: {_network(converted)}",
        *([f"assumed: {converted.input.assumed}"] if converted.input.assumed else []),
        *([f"given: {shlex.join(converted.given.words())}"] if converted.given != NOTHING_GIVEN else []),
        f"mapped: {converted.mapped}/{converted.expected} tensors; dropped: {first_few(dropped, 6) or 'nothing'}",
        f"forward: largest relative difference to torchvision's res2 … res5 {converted.max_difference:.3g}",
        f"proof: {converted.json_path}",
        f"next: {_next_command(converted)}",
    ]


def _next_command(converted: ConvertedWeights) -> str:
    checkpoint = f"{converted.source_path.stem}={_file_to_benchmark(converted)}"
    if re.fullmatch(r"[\w./=+-]+", checkpoint):
        return f'make benchmark CHECKPOINTS="{checkpoint}"'
    return command("benchmarks", "suite", "demo", "--checkpoint", checkpoint)  # make splits at spaces


def _choice(converted: ConvertedWeights) -> list[str]:
    others = [name for name in converted.networks if name != converted.network]
    if not others:
        return []
    published = "the published choice" if _as_published(converted) else "as asked"
    return [f"taken: the network {converted.network}, {published}; --network takes {' or '.join(others)}"]


def _as_published(taken: Backbone | ConvertedWeights) -> bool:
    return not taken.networks or taken.network == taken.networks[0]


def _file_to_benchmark(converted: ConvertedWeights) -> Path:
    """The checkpoint, or the .pkl where the checkpoint alone would be read differently."""
    chosen = converted.reason == families.FORCED or not _as_published(converted)
    chosen = chosen or converted.given != NOTHING_GIVEN
    return converted.path if chosen else converted.source_path


def _network(converted: ConvertedWeights) -> str:
    """Architecture and input in words."""
    images = converted.input
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (images.mean, images.std))
    stride = "1×1" if images.stride_in_1x1 else "3×3"
    return (
        f"{key_map.title(converted.architecture)}, {images.order} images in [0, 1] with mean {mean} and std "
        f"{std}, stride in the {stride} convolutions"
    )


def renamed(backbone: Backbone) -> dict[str, np.ndarray]:
    """The backbone's tensors (265 for a ResNet-50) as float32 arrays under detectron2's names."""
    table = key_map.to_detectron2(backbone.architecture)
    return {ours: backbone.state[theirs].numpy() for theirs, ours in table.items()}


def _same_input(existing: ConvertedWeights, backbone: Backbone) -> bool:
    """Whether both come from the same family and network and have the same input."""
    fields = ("family", "network", "input", "given")
    return all(getattr(existing, field) == getattr(backbone, field) for field in fields)


def prove(backbone: Backbone, checkpoint: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Tensors under detectron2's names, and its maps' difference to torchvision's. InputError over the limit."""
    from transfer.checkpoints import verify

    arrays = renamed(backbone)
    try:
        difference = verify.forward_difference(backbone.state, arrays, backbone.architecture, backbone.input)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from None
    verify.require_agreement(difference, str(checkpoint))
    return arrays, difference


def _write(backbone: Backbone, checkpoint: Path, target: Path) -> ConvertedWeights:
    arrays, difference = prove(backbone, checkpoint)
    try:
        sha256 = proofs.write_pkl(target, proofs.pickled(arrays))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place with -o") from None
    converted = proof_of(backbone, checkpoint, file_sha256(checkpoint), target, sha256, difference)
    converted.save()
    return converted


def proof_of(
    backbone: Backbone,
    checkpoint: Path,
    file_sha256: str,
    target: Path,
    sha256: str,
    difference: dict[str, float],
    safetensors_sha256: str = "",
) -> ConvertedWeights:
    """The proof of ``target``, a .pkl with this sha256; "" for a backbone used only for features."""
    mapped = key_map.to_detectron2(backbone.architecture) if sha256 else backbone.state
    counters = [name for name in backbone.state if name.endswith(key_map.COUNTER)] if sha256 else []
    return ConvertedWeights(
        path=target,
        sha256=sha256,
        family=backbone.family,
        reason=backbone.reason,
        source_path=checkpoint.resolve(),
        source_sha256=backbone.sha256,
        file_sha256=file_sha256,
        networks=backbone.networks,
        network=backbone.network,
        architecture=backbone.architecture,
        mapped=len(mapped),
        expected=len(mapped),
        dropped=backbone.dropped | dict.fromkeys(counters, COUNTERS_DROPPED),
        input=backbone.input,
        forward_difference=difference,
        given=backbone.given,
        meta=backbone.meta,
        safetensors_sha256=safetensors_sha256,
    )


def _target(checkpoint: Path, out: Path | str | None, backbone: Backbone) -> Path:
    name = f"{checkpoint.stem}.pkl" if _as_published(backbone) else f"{checkpoint.stem}-{backbone.network}.pkl"
    target = Path(out) if out else checkpoint.with_name(name)
    if target.is_dir():
        target = target / name
    if target.suffix != ".pkl":
        raise InputError(f"{target}: detectron2 knows the format by its name, so -o must end in .pkl")
    if checkpoint.resolve() in (target.resolve(), target.with_suffix(".json").resolve()):
        raise InputError(f"{checkpoint}: the result would replace the input; choose another name with -o")
    return target


def _refuse_other_conversion(existing: ConvertedWeights | None, checkpoint: Path, backbone: Backbone) -> None:
    """InputError if the result would replace the conversion of another file or network."""
    if not existing:
        return
    same = existing.source_path == checkpoint.resolve() or existing.file_sha256 == file_sha256(checkpoint)  # moved
    if not same or existing.network != backbone.network:
        network = f", its network {existing.network}" if existing.network else ""
        raise InputError(
            f"{existing.path}: holds the conversion of {existing.source_path}{network}; choose another name with -o"
        )


def _refuse_foreign(target: Path) -> None:
    """InputError if a foreign file is at the target. A damaged file is ours if the one beside it is."""
    ours = {path: proofs.written_here(path) for path in (target.with_suffix(".json"), target) if path.exists()}
    for path, verdict in ours.items():
        if verdict is False or (verdict is None and True not in ours.values()):
            raise InputError(f"{path}: exists and was not written here; choose another name with -o")
