"""Predictive and superfluous nats of the features of any checkpoint that can be converted, and of CMC's.

Run: ``python -m benchmarks diagnose CHECKPOINT --data FOLDER``; see pretrain/information/estimate.py. Features are
extracted once and kept under results/features. A table goes to stderr, the path of the JSON to stdout.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from benchmarks.tasks.features import build_backbone, read_frozen
from pretrain.common.device import best_device, has_bf16
from pretrain.common.errors import InputError
from pretrain.common.files import digest, replacing, require_writable, results_dir, write_json
from pretrain.common.pixels import PixelInput
from pretrain.common.provenance import git_state, package_versions, utc_now
from pretrain.common.ranges import require_ranges
from pretrain.data import ImageList, by_suffix, decode, describe, list_images
from pretrain.information.estimate import Information, measure, require_images, table
from pretrain.information.two_views import InformationConfig, draw_images, network_views, pair_features, two_view_crops
from transfer.checkpoints.families import Backbone
from transfer.checkpoints.reading.read import load_checkpoint

BATCH = 64
DEFAULT_SIZE = 224


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseArguments:
    """Predictive and superfluous nats of a checkpoint's features, with bootstrap intervals."""

    checkpoint: tyro.conf.Positional[Path]
    """A checkpoint that can be converted."""
    data: Path
    """Folder of images: one subfolder per class, or flat."""
    config: Annotated[InformationConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=InformationConfig)


def diagnose(backbone: Backbone, name: str, data: Path, config: InformationConfig) -> tuple[Information, Path]:
    """Measure ``backbone`` on the images of ``data``; the result and the JSON it was written to."""
    require_ranges(config)
    images = list_images(data)
    if images.passed_over:
        print(f"{data}: passed over as no images: {by_suffix(images.passed_over)}", file=sys.stderr)
    require_images(min(config.images, len(images)), config.dim)
    for folder in ("features", "diagnose"):
        require_writable(results_dir() / folder)
    trained = (backbone.meta or {}).get("config", {}).get("raw", {}).get("image_size")
    dataset, config = describe(images), dataclasses.replace(config, image_size=config.image_size or trained or 224)
    settings = dataclasses.asdict(config)
    identity = {"checkpoint": backbone.sha256, "data": dataset["fingerprint"], "settings": settings}
    path = results_dir() / "diagnose" / f"{name}-{digest(identity)[:12]}.json"
    h = features(backbone, images, dataset, config)
    found = measure(h, dim=config.dim, noise=config.noise, resamples=config.resamples, seed=config.seed)
    about = {
        "checkpoint": {"name": name, "sha256": backbone.sha256},
        "data": {**dataset, "images_used": len(h)},
        "settings": settings,
        "unit": "nats; means over images, intervals are 95 % of a bootstrap over images",
        "information": dataclasses.asdict(found),
        "git": git_state(),
        "versions": package_versions("torch", "torchvision", "numpy"),
        "created": utc_now(),
    }
    write_json(path, about)
    return found, path


def features(backbone: Backbone, images: ImageList, dataset: dict[str, Any], config: InformationConfig) -> Tensor:
    """(n, 2, D) float32 features of two augmented views of each image drawn; extracted when absent."""
    precision = "bf16" if has_bf16(best_device()) else "fp32"
    pixels = PixelInput(mean=backbone.pixel_mean, std=backbone.pixel_std, order=backbone.channel_order)
    asked = [config.images, config.seed, config.image_size, dataclasses.asdict(config.views), precision]
    key = digest([backbone.sha256, pixels.identity(), dataset["fingerprint"], dataset.get("folder"), *asked])
    path = results_dir() / "features" / f"diagnose-{key[:16]}.npy"
    if not path.exists():
        rows = _extract(backbone, images, pixels, config, precision)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, rows.numpy())
    return torch.from_numpy(np.load(path))


@torch.inference_mode()
def _extract(
    backbone: Backbone, images: ImageList, pixels: PixelInput, config: InformationConfig, precision: str
) -> Tensor:
    device, drawn = best_device(), draw_images(len(images), config)
    model = build_backbone(backbone).to(device).to(memory_format=torch.channels_last)
    generator, rows = torch.Generator(device).manual_seed(config.seed), []

    def crops(index: int) -> Tensor:
        image = decode(images.root / images.paths[index])
        return two_view_crops(image, config.seed, index, config.views, config.image_size or DEFAULT_SIZE)

    for start in tqdm(range(0, len(drawn), BATCH), desc="features", mininterval=5):
        batch = torch.stack([crops(index) for index in drawn[start : start + BATCH]]).to(device)
        views = network_views(batch, config.views, pixels, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            rows.append(pair_features(model(views)))
    found = torch.cat(rows)
    if not found.isfinite().all():
        raise InputError("the checkpoint's features are not finite: its weights or statistics are broken")
    return found


def main(argv: list[str]) -> int:
    """``diagnose``: see DiagnoseArguments. InputError for a checkpoint that conversion refuses, saying why."""
    arguments = tyro.cli(DiagnoseArguments, args=argv, prog="python -m benchmarks diagnose")
    loaded = load_checkpoint(arguments.checkpoint)
    own = loaded.path.name == "backbone.safetensors"
    name = loaded.path.absolute().parent.name if own else loaded.path.stem
    found, path = diagnose(read_frozen(loaded), name, arguments.data, arguments.config)
    print(f"{name}\n{table(found)}", file=sys.stderr)
    print(path)
    return 0
