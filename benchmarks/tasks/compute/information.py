"""Features of two augmented views of each drawn image, for the estimate of pretrain/information/estimate.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.tasks.compute.features import BATCH, build_backbone, extract
from pretrain.common.device import best_device
from pretrain.common.files import digest, locked, results_dir
from pretrain.common.pixels import PixelInput
from pretrain.data import decode
from pretrain.information.two_views import ALIKE, InformationConfig, Pairing, draw_images, network_views, two_view_crops
from transfer.checkpoints.backbone import Backbone


def two_view_features(
    backbone: Backbone, images: list[Path], data: str, config: InformationConfig, pairing: Pairing = ALIKE
) -> Tensor:
    """(n, 2, D) float32 features of two views of each of the images that ``config`` draws; extracted if absent.

    ``data`` is the fingerprint of the images' data set.
    """
    drawn = draw_images(len(images), config)
    asked = {"images": len(drawn), **dataclasses.asdict(config)}
    if pairing != ALIKE:
        asked |= {"pairing": dataclasses.asdict(pairing)}
    key = digest([backbone.sha256, backbone.input.identity(), data, asked])
    target = results_dir() / "features" / "two-views" / f"{key[:16]}.npy"
    with locked(target.parent):
        if not target.exists():
            batches = _views(images, drawn, config, pairing, backbone.input)
            extract(build_backbone(backbone), batches, 2 * len(drawn), target)
    rows = torch.from_numpy(np.load(target))
    return rows.unflatten(0, (len(drawn), 2))


def _views(
    images: list[Path], drawn: list[int], config: InformationConfig, pairing: Pairing, pixels: PixelInput
) -> Iterator[Tensor]:
    """(2n, 3, S, S) normalised for the network: image by image, its first view, then its second."""
    device, size = best_device(), config.image_size
    assert size is not None
    generator = torch.Generator(device).manual_seed(config.seed)
    for start in range(0, len(drawn), BATCH):
        crops = [
            two_view_crops(decode(images[index]), config.seed, index, config.views, size, pairing)
            for index in drawn[start : start + BATCH]
        ]
        views = network_views(torch.stack(crops).to(device), config.views, pixels, generator, pairing)
        yield views.unflatten(0, (2, len(crops))).transpose(0, 1).flatten(0, 1)
