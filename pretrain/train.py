"""The pretraining loop, from a folder of images to a checkpoint.

Run: ``python -m pretrain PRESET --data FOLDER``. A run that was interrupted, even by kill -9, continues when the same
command is given again; everything random is drawn from (seed, step), so on the CPU, with the same number of threads,
it ends in the same weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torchvision
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from pretrain.alarms import CollapseWatch, check_finite
from pretrain.checkpoint import save_checkpoint
from pretrain.config import PretrainConfig, Resolved, best_device, resolve
from pretrain.data import CropDataset, ImageList, StepSampler, describe, list_images, load_batches
from pretrain.errors import InputError, RunError
from pretrain.files import digest, results_dir
from pretrain.lars import LARS
from pretrain.methods import METHODS, Batch, Method, Sizes
from pretrain.provenance import git_state, package_versions, utc_now
from pretrain.state import Metrics, Progress, draw_curves, load_state, locked, read_metrics, save_state, saving
from pretrain.views import augment

_GLOBAL, _AUGMENT = 0, 1  # random streams of one step
FIRST_SAVE_SECONDS = 10.0


def step_seed(seed: int, step: int, stream: int) -> int:
    """A 63-bit seed that depends on all three numbers."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> 1)


def run_folder(preset_name: str, resolved: Resolved, dataset: dict[str, Any]) -> Path:
    """``results_dir()/pretrain/<preset>-<12 hex of settings, data fingerprint and size, seed>``."""
    identity = {"resolved": resolved.values(), "data": [dataset["fingerprint"], dataset.get("folder"), dataset["size"]]}
    return results_dir() / "pretrain" / f"{preset_name}-{digest(identity)[:12]}"


def build_method(resolved: Resolved, num_classes: int, num_images: int) -> Method:
    """The method around a freshly initialised torchvision backbone (fc = Identity), drawn from the config's seed."""
    config = resolved.config
    torch.manual_seed(config.seed)
    backbone = torchvision.models.get_model(config.backbone, weights=None, zero_init_residual=config.zero_init_residual)
    backbone.fc = nn.Identity()
    sizes = Sizes(feature_dim=resolved.feature_dim, num_classes=num_classes, num_images=num_images)
    return cast(Method, METHODS[resolved.method].build(config.method, backbone, sizes))


def build_optimizer(method: nn.Module, resolved: Resolved) -> Optimizer:
    """SGD and AdamW decay every tensor (as in MoCo, and torch's default); LARS leaves out one-dimensional ones."""
    config, parameters = resolved.config, [p for p in method.parameters() if p.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=resolved.learning_rate, weight_decay=config.weight_decay, fused=True)
    momentum_sgd = {"lars": LARS, "sgd": SGD}[config.optimizer]
    return momentum_sgd(
        parameters, lr=resolved.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )


def run(preset_name: str, config: PretrainConfig, data: Path) -> Path:
    """Train and return the path of backbone.safetensors; at once if this run is finished, onward if it was interrupted.

    InputError for unusable settings or images; RunError for a non-finite or collapsed run, or a save that failed.
    """
    device = best_device()
    images = list_images(data)
    resolved = resolve(config, len(images), device)
    if METHODS[resolved.method].needs_labels and images.labels is None:
        raise InputError(
            f"{resolved.method} needs labels, but {data} is flat: give a folder with one subfolder a class"
        )
    dataset = describe(images)
    folder = run_folder(preset_name, resolved, dataset)
    checkpoint = folder / "backbone.safetensors"
    if (folder / "meta.json").exists():
        return checkpoint
    with locked(folder):
        if not (folder / "meta.json").exists():
            # Memory format first: the optimizer's state takes the parameters' layout.
            method = cast(nn.Module, build_method(resolved, len(images.classes), len(images))).to(device)
            method = method.to(memory_format=torch.channels_last)
            if resolved.steps:
                train(method, images, resolved, folder, device)
                draw_curves(folder / "metrics.jsonl", folder / "loss.png", f"{folder.name} on {dataset['name']}")
            export(method, resolved, dataset, folder)
    return checkpoint


def train(method: nn.Module, images: ImageList, resolved: Resolved, folder: Path, device: torch.device) -> None:
    """Steps from the last save to the end: logs to metrics.jsonl, saves to state.pt."""
    config, entry, state = resolved.config, METHODS[resolved.method], folder / "state.pt"
    optimizer = build_optimizer(method, resolved)
    start = load_state(state, method, optimizer, device)
    metrics, watch = Metrics(folder / "metrics.jsonl", start), CollapseWatch(resolved.steps)
    for row in read_metrics(metrics.path):  # or a run stopped for collapse would pass when it is started again
        watch.check(int(row["step"]), row)
    progress = Progress(resolved.steps, config.batch_size)
    dataset = CropDataset(
        images, size=config.image_size, views=entry.views, scale=config.views.crop_scale, seed=config.seed
    )
    sampler = StepSampler(len(images), config.batch_size, seed=config.seed, start=start, stop=resolved.steps)
    batches = load_batches(dataset, sampler, workers=config.workers, pin=device.type == "cuda")
    generator = torch.Generator(device)
    print(f"{folder.name}: {len(images)} images, steps {start + 1} to {resolved.steps}", file=sys.stderr)
    print(f"on {device} in {resolved.precision}, results in {folder}", file=sys.stderr)
    save_at = time.perf_counter() + FIRST_SAVE_SECONDS
    method.train()
    for step in range(start, resolved.steps):
        before = time.perf_counter()
        pixels, index, label = next(batches)
        progress.tick(time.perf_counter() - before)

        torch.manual_seed(step_seed(config.seed, step, _GLOBAL))
        generator.manual_seed(step_seed(config.seed, step, _AUGMENT))
        pixels = pixels.to(device, non_blocking=True)
        views = [augment(pixels[:, view], config.views, generator) for view in range(entry.views)]
        batch = Batch(
            views=[view.contiguous(memory_format=torch.channels_last) for view in views],
            index=index.to(device, non_blocking=True),
            label=label.to(device, non_blocking=True) if images.labels is not None else None,
        )
        for group in optimizer.param_groups:
            group["lr"] = resolved.learning_rate_at(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=resolved.precision == "bf16"):
            terms = method(batch, step / resolved.steps)
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimizer.step()

        now, last = time.perf_counter(), step + 1 == resolved.steps
        save = not last and (now >= save_at or bool(config.save_every and (step + 1) % config.save_every == 0))
        log = step % resolved.log_every == 0 or last
        if log or save or progress.due():  # reading the terms makes a GPU wait
            values = {name: term.item() for name, term in terms.items()}
            check_finite(step, values)
            if log:
                watch.check(step, values)
                metrics.write({"step": step, "lr": resolved.learning_rate_at(step), **values, **progress.rates()})
            if last or progress.due():
                progress.show(step, values)
        if save:
            save_state(state, step + 1, method, optimizer)
            save_at = time.perf_counter() + config.save_seconds


def export(method: nn.Module, resolved: Resolved, dataset: dict[str, Any], folder: Path) -> None:
    """Write backbone.safetensors and meta.json, then remove the training state."""
    config = resolved.config
    values, state = resolved.values(), cast(Method, method).backbone.state_dict()
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise RunError(f"non-finite weights after the last step ({broken[0]}); lower --learning-rate")
    with saving(folder / "backbone.safetensors"):
        save_checkpoint(
            folder,
            state,
            architecture=config.backbone,
            method=resolved.method,
            epoch=resolved.steps / resolved.steps_per_epoch if resolved.steps else 0.0,
            images_seen=resolved.steps * config.batch_size,
            dataset=dataset,
            config={"raw": values.pop("config"), "resolved": values},
            git=git_state(),
            versions=package_versions("torch", "torchvision", "numpy", "pillow"),
            created=utc_now(),
        )
    (folder / "state.pt").unlink(missing_ok=True)
