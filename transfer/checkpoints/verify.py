"""Prove that converted weights equal the checkpoint: same tensors bit for bit, same feature maps.

    python -m transfer verify FILE.pkl               # counts, shapes, the hash in its .json, the forward pass
    python -m transfer verify FILE.pkl CHECKPOINT    # also that it is this checkpoint, tensor by tensor
    python -m transfer verify FILE.pkl --detector coco_fpn_1x    # also that this detector loads every tensor

The forward pass compares detectron2's own ResNet, built from the config of a detection protocol, with torchvision's,
both in eval mode and fp32 on the same images. The same weights in the same kernels give the same numbers, so the
difference is 0 where nothing is wrong; 1e-5 of a map's largest value is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from torch import Tensor

from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256
from pretrain.common.pixels import PixelInput
from transfer.checkpoints import architecture, converted, key_map
from transfer.checkpoints.backbone import Backbone, read_backbone
from transfer.checkpoints.converted import ConvertedWeights
from transfer.checkpoints.reading.detectron2_pkl import read_detectron2_pkl
from transfer.checkpoints.reading.file_format import find_checkpoint
from transfer.detection.checks import check_detector
from transfer.detection.config import protocol_cfg, resnet_keys

LIMIT = 1e-5
MAPS = ("res2", "res3", "res4", "res5")
PROTOCOL = "coco_fpn_1x"  # all protocols' backbones are the same function: tests/transfer/checkpoints/test_convert.py
_SIZE = 96


def check_images(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Four fixed 3×96×96 images: white noise, and smooth noise normalised with ``mean`` and ``std``."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, _SIZE, _SIZE, generator=generator)
    coarse = torch.rand(2, 3, 6, 6, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, size=(_SIZE, _SIZE), mode="bilinear")
    offset, scale = (torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (mean, std))
    return torch.cat([noise, (pixels - offset) / scale])


def torchvision_maps(
    state: Mapping[str, Tensor], images: Tensor, network: str, stride_in_1x1: bool
) -> dict[str, Tensor]:
    """res2 … res5 (N×64…512 or N×256…2048, H/4…H/32) of torchvision's ``network`` with ``state``."""
    model: Any = architecture.build(network, stride_in_1x1=stride_in_1x1)
    zeros = {name: torch.zeros((), dtype=torch.int64) for name in key_map.counters(network)}
    model.load_state_dict(zeros | dict(state), assign=True)
    model.eval()
    maps = {}
    with torch.inference_mode():
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        for name, stage in zip(MAPS, (model.layer1, model.layer2, model.layer3, model.layer4), strict=True):
            x = stage(x)
            maps[name] = x
    return maps


def detectron2_maps(
    arrays: Mapping[str, np.ndarray], images: Tensor, network: str, stride_in_1x1: bool
) -> dict[str, Tensor]:
    """The same maps from detectron2's ResNet with ``arrays``, built from PROTOCOL's config for this network."""
    cfg = protocol_cfg(PROTOCOL)
    for key, value in resnet_keys(network, stride_in_1x1).items():
        cfg.merge_from_list([key, value])
    cfg.MODEL.RESNETS.OUT_FEATURES = list(MAPS)  # a C4 detector builds res5 from the same cfg, but in its ROI head
    cfg.MODEL.RESNETS.NORM = "BN"  # in eval mode the synchronised norms compute the same function
    with torch.device("meta"):
        model = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    state = {name: torch.from_numpy(a if a.flags.writeable else a.copy()) for name, a in arrays.items()}
    counters = {
        name: torch.zeros((), dtype=torch.int64) for name in model.state_dict() if name.endswith(key_map.COUNTER)
    }
    model.load_state_dict(counters | state, assign=True)
    model.eval()
    with torch.inference_mode():
        return model(images)


def forward_difference(
    state: Mapping[str, Tensor],
    arrays: Mapping[str, np.ndarray],
    network: str,
    pixels: PixelInput,
) -> dict[str, float]:
    """{"res2": …, … "res5": …}: largest absolute difference over the map's largest absolute value.

    InputError if a map is not finite, is zero everywhere or has another size, since then nothing can be compared.
    """
    images = check_images(pixels.mean, pixels.std)
    wanted = torchvision_maps(state, images, network, pixels.stride_in_1x1)
    for name, values in wanted.items():
        largest = values.abs().max().item()
        if not 0 < largest < math.inf:
            raise InputError(f"the checkpoint's {name} is {largest} on test images: it is broken or has collapsed")
    found = detectron2_maps(arrays, images, network, pixels.stride_in_1x1)
    return {name: _relative(found[name], wanted[name], name) for name in MAPS}


def require_agreement(difference: Mapping[str, float], what: str) -> None:
    """InputError naming the first map whose difference is not below LIMIT."""
    for name, value in difference.items():
        if not value < LIMIT:
            raise InputError(f"{what}: detectron2's {name} differs by {value:.3g} of its largest value")


def array_problems(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Reasons why ``arrays`` (detectron2's names) are not a ResNet's, as architecture.problems gives them."""
    nearest = key_map.nearest(arrays)
    table, shapes = key_map.to_torchvision(nearest), architecture.expected_shapes(nearest)
    theirs = {table.get(name, name): array for name, array in arrays.items()}
    return architecture.problems({name: _as_tensor(array, shapes.get(name)) for name, array in theirs.items()}, nearest)


def _as_tensor(array: np.ndarray, shape: tuple[int, ...] | None) -> Tensor | np.ndarray:
    """A copy where type and shape are right; else a stand-in with the fault: a small file can claim huge arrays."""
    if array.dtype != np.float32:
        return array
    return torch.from_numpy(array.copy()) if array.shape == shape else torch.zeros(()).expand(array.shape)


def _relative(found: Tensor, wanted: Tensor, what: str) -> float:
    if found.shape != wanted.shape:
        raise InputError(
            f"detectron2's {what} is {tuple(found.shape)}, torchvision's {tuple(wanted.shape)}: it is built differently"
        )
    return float((found - wanted).abs().max() / wanted.abs().max())


def differing(arrays: Mapping[str, np.ndarray], state: Mapping[str, Tensor]) -> list[str]:
    """detectron2's names of the tensors whose bytes are not those of ``state`` (torchvision's names, float32)."""
    return [
        ours
        for theirs, ours in key_map.to_detectron2(architecture.identify(state)).items()
        if ours not in arrays or arrays[ours].tobytes() != state[theirs].numpy().tobytes()
    ]


def verify(path: Path, checkpoint: Path | None = None, detector: str | None = None) -> list[str]:
    """Check a .pkl, against ``checkpoint`` and in the detector of a protocol if given. InputError, RunError.

    Returns one line per property that was proved, or that could not be.
    """
    if path.is_file() and path.suffix != ".pkl":
        raise InputError(f"{path}: verify takes the converted .pkl first, then the checkpoint it was made from")
    arrays = read_detectron2_pkl(path)["model"]
    network = key_map.nearest(arrays)
    table, faults = key_map.to_detectron2(network), array_problems(arrays)
    if faults:
        raise InputError(f"{path}: not the {len(table)} tensors of a {key_map.title(network)}: {'; '.join(faults)}")
    found = [f"proved: {len(arrays)}/{len(table)} tensors, each of the shape in detectron2's {key_map.title(network)}"]
    proof = converted.load(path)
    if proof:
        proof.arrays()
        found.append(f"proved: the file is the one that {proof.json_path.name} describes (sha256 {proof.sha256[:12]})")
    backbone = _read_alike(checkpoint, proof) if checkpoint else None
    if backbone:
        found.append(f"proved: {_same_tensors(path, arrays, backbone, checkpoint)}")
    if not proof and not backbone:
        found.append(f"not proved: nothing ties the file to a checkpoint ({path.stem}.json is missing); give that too")
    known = backbone or proof
    found.append(_same_maps(path, arrays, network, known))
    stride_in_1x1 = known is not None and known.input.stride_in_1x1
    return found + (check_detector(arrays, stride_in_1x1, detector, path) if detector else [])


def _read_alike(checkpoint: Path, proof: ConvertedWeights | None) -> Backbone:
    """The checkpoint, read with the choices of the conversion if it is the converted file."""
    if proof and file_sha256(find_checkpoint(checkpoint)) == proof.file_sha256:
        return read_backbone(checkpoint, proof.family, proof.network or None, proof.given)
    return read_backbone(checkpoint)


def _same_maps(
    path: Path, arrays: Mapping[str, np.ndarray], network: str, known: Backbone | ConvertedWeights | None
) -> str:
    state = {t: torch.from_numpy(arrays[o].copy()) for t, o in key_map.to_detectron2(network).items()}
    difference = forward_difference(state, arrays, network, known.input if known else PixelInput())
    require_agreement(difference, str(path))
    worst = max(difference.values())
    return f"proved: res2 … res5 as torchvision computes them: largest relative difference {worst:.3g}"


def _same_tensors(path: Path, arrays: Mapping[str, np.ndarray], backbone: Backbone, checkpoint: Path | None) -> str:
    wrong = differing(arrays, backbone.state)
    if wrong:
        raise InputError(f"{path}: {len(wrong)} tensors differ from {checkpoint}: {architecture.first_few(wrong)}")
    return f"every tensor equals that of {checkpoint} bit for bit (sha256 {backbone.sha256[:12]})"
