"""What a checkpoint's features say of predictive and superfluous information: information.py on a folder of images.

Run: ``python -m pretrain diagnose CHECKPOINT --data FOLDER [--images 1000] [--image-size 64]``, CHECKPOINT one of our
runs (its folder or backbone.safetensors) or a state dict under torchvision's names; ``python -m benchmarks diagnose``
takes every checkpoint that can be converted. Features are extracted once and kept under results/features. A table and
progress go to stderr, the path of the JSON to stdout.
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

from pretrain.augment.crops import cut, random_crop_box
from pretrain.augment.views import ViewsConfig, augment
from pretrain.common.device import best_device, has_bf16
from pretrain.common.errors import InputError
from pretrain.common.files import digest, replacing, require_writable, results_dir, write_json
from pretrain.common.provenance import git_state, package_versions, utc_now
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.data import ImageList, by_suffix, decode, describe, list_images
from pretrain.information.estimate import Information, Interval, measure, require_images
from pretrain.information.load import FrozenBackbone, load_backbone

BATCH = 64
DEFAULT_SIZE = 224


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """How a checkpoint is diagnosed; compare only what was made with the same settings and images."""

    images: int = 1000
    """Images of the folder, drawn by the seed; all of a smaller folder. Half is fitted on, half reported on."""
    image_size: int | None = None
    """Pixels of the square views; default what the run was trained at, else 224."""
    dim: int = 16
    """Dimensions of the fitted z."""
    noise: float = 1.0
    """Its σ, against means of variance 1."""
    resamples: int = 1000
    """Of the bootstrap over images."""
    seed: int = 0
    """Of the images drawn, their views, the halves and the noise."""
    views: ViewsConfig = dataclasses.field(default_factory=ViewsConfig)
    """Augmentation: it decides what the two views share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseArguments:
    """Predictive and superfluous nats of a checkpoint's features, with bootstrap intervals."""

    checkpoint: tyro.conf.Positional[Path]
    """A run's folder or backbone.safetensors, or a state dict under torchvision's names (.safetensors, .pth)."""
    data: Path
    """Folder of images: one subfolder a class, or flat."""
    config: Annotated[DiagnoseConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DiagnoseConfig)


def diagnose(backbone: FrozenBackbone, data: Path, config: DiagnoseConfig) -> tuple[Information, Path]:
    """Measure ``backbone`` on the images of ``data``; the result and the JSON it was written to.

    InputError for unusable settings or images.
    """
    _check(config)
    images = list_images(data)
    if images.passed_over:
        print(f"{data}: passed over as no images: {by_suffix(images.passed_over)}", file=sys.stderr)
    require_images(min(config.images, len(images)), config.dim)
    for name in ("features", "diagnose"):
        require_writable(results_dir() / name)
    dataset, size = describe(images), config.image_size or backbone.image_size or DEFAULT_SIZE
    settings = {**dataclasses.asdict(config), "image_size": size}
    identity = {"checkpoint": backbone.sha256, "data": dataset["fingerprint"], "settings": settings}
    path = results_dir() / "diagnose" / f"{backbone.name}-{digest(identity)[:12]}.json"
    h = features(backbone, images, dataset, config, size)
    found = measure(h, dim=config.dim, noise=config.noise, resamples=config.resamples, seed=config.seed)
    about = {
        "checkpoint": {"name": backbone.name, "sha256": backbone.sha256},
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


def _check(config: DiagnoseConfig) -> None:
    """InputError for settings outside their range."""
    least = {"images": 2, "image_size": 8, "dim": 2, "resamples": 100, "seed": 0}
    for name, limit in least.items():
        value = getattr(config, name)
        if value is not None and value < limit:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be at least {limit}")
    if not 0 < config.noise < float("inf"):
        raise InputError(f"--noise {config.noise}: must be finite and above 0")


def features(
    backbone: FrozenBackbone, images: ImageList, dataset: dict[str, Any], config: DiagnoseConfig, size: int
) -> Tensor:
    """(n, 2, D) float32 features of two augmented views of each image drawn; extracted when absent.

    Crops and colours depend on the seed alone, so that checkpoints are compared on the same pixels.
    """
    drawn = np.random.default_rng(config.seed).permutation(len(images))[: config.images].tolist()
    precision = "bf16" if has_bf16(best_device()) else "fp32"
    pixels = (backbone.pixel_mean, backbone.pixel_std, backbone.channel_order)
    asked = [config.images, config.seed, size, dataclasses.asdict(config.views), pixels, precision]
    key = digest([backbone.sha256, dataset["fingerprint"], dataset.get("folder"), len(images), *asked])
    path = results_dir() / "features" / f"diagnose-{key[:16]}.npy"
    if not path.exists():
        rows = _extract(backbone, images, drawn, config, size, precision)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, rows.numpy())
    return torch.from_numpy(np.load(path))


@torch.inference_mode()
def _extract(
    backbone: FrozenBackbone, images: ImageList, drawn: list[int], config: DiagnoseConfig, size: int, precision: str
) -> Tensor:
    device = best_device()
    model = backbone.module.to(device).to(memory_format=torch.channels_last).eval()
    generator = torch.Generator(device).manual_seed(config.seed)
    batches = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
    rows = []
    for batch in tqdm(batches, desc=f"features {backbone.name}", unit_scale=BATCH, unit="image", mininterval=5):
        crops = torch.stack([_two_crops(images, index, config, size) for index in batch]).to(device)
        views = torch.cat([augment(crops[:, view], config.views, generator) for view in (0, 1)])
        views = _as_trained(views, backbone).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            h = model(views)
        rows.append(torch.stack(h.float().cpu().chunk(2), 1))
    found = torch.cat(rows)
    if not found.isfinite().all():
        raise InputError(f"{backbone.name}: its features are not finite: the weights or statistics are broken")
    return found


def _two_crops(images: ImageList, index: int, config: DiagnoseConfig, size: int) -> Tensor:
    """(2, 3, size, size) uint8. InputError that names an image which cannot be read."""
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, index]))
    image = decode(images.root / images.paths[index])
    boxes = [random_crop_box(*image.size, config.views.crop_scale, rng) for _ in range(2)]
    return torch.stack(cut(image, boxes, [size, size], "torch"))


def _as_trained(views: Tensor, backbone: FrozenBackbone) -> Tensor:
    """From ImageNet's pixel statistics, which ``augment`` gives, to the checkpoint's own."""
    if (backbone.pixel_mean, backbone.pixel_std) != (IMAGENET_MEAN, IMAGENET_STD) or backbone.channel_order == "BGR":
        settings = (IMAGENET_MEAN, IMAGENET_STD, backbone.pixel_mean, backbone.pixel_std)
        mean, std, new_mean, new_std = (views.new_tensor(value).view(1, 3, 1, 1) for value in settings)
        views = views * std + mean
        views = ((views.flip(1) if backbone.channel_order == "BGR" else views) - new_mean) / new_std
    return views


def table(found: Information) -> str:
    """The result as Markdown: nats with 95 % intervals."""

    def cell(value: Interval) -> str:
        return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"

    def bound(name: str) -> str:
        return cell(getattr(found, name)) + (" ← smallest on the fitting half" if name == found.superfluous else "")

    rows = [
        ("predictive: I_nce ≤ I(v2; z1)", f"{cell(found.predictive)} of at most log K = {found.cap:.2f}"),
        (f"carried: R ≥ I(v1; z1), {found.prior} prior", cell(found.carried)),
        ("superfluous: I(v1; z1 \\| v2) ≤ cross_view", bound("cross_view")),
        ("… ≤ learned q", bound("learned")),
        ("… ≤ rate, R − I_nce", bound("rate")),
    ]
    head = f"| nats of the fitted z, {found.candidates} images | value [95 %] |\n|---|---|\n"
    return head + "\n".join(f"| {name} | {value} |" for name, value in rows)


def main(argv: list[str]) -> int:
    """``python -m pretrain diagnose``: see DiagnoseArguments."""
    arguments = tyro.cli(DiagnoseArguments, args=argv, prog="python -m pretrain diagnose")
    return report(load_backbone(arguments.checkpoint), arguments.data, arguments.config)


def report(backbone: FrozenBackbone, data: Path, config: DiagnoseConfig) -> int:
    """Diagnose, print the table to stderr and the JSON's path to stdout."""
    found, path = diagnose(backbone, data, config)
    print(f"{backbone.name}\n{table(found)}", file=sys.stderr)
    print(path)
    return 0
