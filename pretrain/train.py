"""The pretraining loop, from a folder of images to a checkpoint.

Run: ``python -m pretrain PRESET --data FOLDER``, or for several GPUs ``torchrun --nproc-per-node=8 -m pretrain …``. A
run that was interrupted, even by kill -9, continues when the same command is given again; everything random is drawn
from (seed, step), so on the CPU, with the same number of threads, it ends in the same weights.
"""

from __future__ import annotations

import signal
import time
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from torch import nn

from pretrain.augment.views import crops_of
from pretrain.checkpoint import save_checkpoint
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import digest, locked, results_dir, write_json
from pretrain.common.provenance import git_state, package_versions, utc_now
from pretrain.common.signals import Stopped, signals_noted
from pretrain.config import PretrainConfig, Resolved, resolve
from pretrain.data import ImageList, by_suffix, describe, list_images
from pretrain.loader import CropDataset, StepSampler, Unreadable, load_batches
from pretrain.methods import METHODS, Method, Sizes
from pretrain.runtime.collapse import CollapseWatch, check_finite
from pretrain.runtime.distributed import (
    all_gather_object,
    any_rank,
    broadcast_object,
    fail_together,
    local_device,
    print_rank0,
    rank,
    world_size,
)
from pretrain.runtime.metrics import Metrics, Progress, draw_curves, read_metrics
from pretrain.runtime.migrate import before, migrate_run
from pretrain.runtime.optimizers import build_optimizer, parameter_groups
from pretrain.runtime.probe import probe
from pretrain.runtime.resume import discard, load_state, save_state, saves, saving
from pretrain.step import make_batch, read_terms, update, wrap_ddp

_GLOBAL, _AUGMENT = 0, 1  # random streams of one step
FIRST_SAVE_SECONDS = 10.0
Resume = Literal["auto", "never"]


def step_seed(seed: int, step: int, stream: int) -> int:
    """A 63-bit seed that depends on all three numbers."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> 1)


def run_folder(preset_name: str, resolved: Resolved, dataset: dict[str, Any]) -> Path:
    """``results_dir()/pretrain/<preset>-<12 hex of settings, data fingerprint and size, seed>``.

    Of settings that name files, of their content too. A folder of the same run under its settings' former names is
    renamed to it.
    """
    data = [dataset["fingerprint"], dataset.get("folder"), dataset["size"]]
    identity: dict[str, Any] = {"resolved": resolved.values(), "data": data}
    if inputs := resolved.config.method.inputs():
        identity["inputs"] = inputs
    old, new = (
        results_dir() / "pretrain" / f"{preset_name}-{digest(one)[:12]}" for one in (before(identity), identity)
    )
    if rank() == 0:
        migrate_run(old, new)
    return new


def build_method(resolved: Resolved, num_classes: int, num_images: int) -> Method:
    """The method around a freshly initialised torchvision backbone (fc = Identity), drawn from the config's seed."""
    config = resolved.config
    torch.manual_seed(config.seed)
    backbone = torchvision.models.get_model(config.backbone, weights=None, zero_init_residual=config.zero_init_residual)
    backbone.fc = nn.Identity()
    sizes = Sizes(feature_dim=resolved.feature_dim, num_classes=num_classes, num_images=num_images)
    return METHODS[resolved.method](config.method, backbone, sizes)


def run(preset_name: str, config: PretrainConfig, data: Path, resume: Resume = "auto") -> Path:
    """Train and return the path of backbone.safetensors; at once if this run is finished, onward if it was interrupted.

    ``resume`` never: what an earlier run of these settings left is removed and training starts anew. InputError for
    unusable settings or images; RunError for a non-finite or collapsed run, or a save that failed; SystemExit with
    status 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP, the state saved. Where processes have joined, all return or
    all end, and rank 0 writes.
    """
    device = local_device()
    with fail_together():
        images = list_images(data)
        if images.passed_over:
            print_rank0(f"{data}: files that are no images are ignored: {by_suffix(images.passed_over)}")
        resolved = resolve(config, len(images), device, world_size())
        if METHODS[resolved.method].needs_labels and images.labels is None:
            raise InputError(
                f"{resolved.method} needs labels, but {data} is flat: give a folder with one subfolder per class"
            )
        if METHODS[resolved.method].needs_labels and len(images.classes) < 2:
            raise InputError(f"{resolved.method} needs at least two classes, but {data} has only {images.classes[0]}")
        if config.probe_every and images.labels is None:
            raise InputError(f"the kNN probe needs labels, but {data} is flat: leave out --probe-every")
        dataset = describe(images)
        folder = run_folder(preset_name, resolved, dataset)
    if resume == "never" or not broadcast_object(_finished(folder)):
        with fail_together():  # what the method or its optimiser refuses leaves no folder
            method = build_method(resolved, len(images.classes), len(images))
            parameter_groups(method, resolved)
        with locked(folder) if rank() == 0 else nullcontext():
            if resume == "never" and rank() == 0:
                discard(folder)
            if not broadcast_object(_finished(folder)):
                with fail_together():
                    if rank() == 0:
                        _note_settings(folder, preset_name, images.root, resolved)
                _train_and_export(method, images, resolved, dataset, folder, device)
    return folder / "backbone.safetensors"


def _finished(folder: Path) -> bool:
    return (folder / "meta.json").exists() and (folder / "backbone.safetensors").exists()


def _note_settings(folder: Path, preset_name: str, data: Path, resolved: Resolved) -> None:
    """Write settings.json, which tells an unfinished run's folder from others, and name those others, if any."""
    if not saves(folder):
        beside = [path for path in folder.parent.glob(f"{preset_name}-*") if path != folder and saves(path)]
        if others := [path.name for path in beside if not _finished(path)]:
            print_rank0(f"a new run; unfinished with other settings, images or processes: {', '.join(sorted(others))}")
    write_json(folder / "settings.json", {"preset": preset_name, "data": str(data.absolute()), **resolved.values()})


def _train_and_export(
    method: Method,
    images: ImageList,
    resolved: Resolved,
    dataset: dict[str, Any],
    folder: Path,
    device: torch.device,
) -> None:
    # Memory format first: the optimizer's state takes the parameters' layout.
    method = method.to(device).to(memory_format=torch.channels_last)
    unreadable = Unreadable(len(images))
    title = f"{folder.name} on {dataset['name']}"
    if resolved.steps:
        try:
            train(method, images, resolved, folder, device, unreadable)
        except BaseException:  # a collapse is worth a look, too
            if rank() == 0:
                with suppress(OSError):
                    draw_curves(folder / "metrics.jsonl", folder / "loss.png", title)
            raise
    with fail_together():
        if rank() == 0:
            if resolved.steps:
                draw_curves(folder / "metrics.jsonl", folder / "loss.png", title)
            if unreadable.indices:
                dataset = {**dataset, "unreadable": len(unreadable.indices)}
            export(method, resolved, dataset, folder)


def train(
    method: Method,
    images: ImageList,
    resolved: Resolved,
    folder: Path,
    device: torch.device,
    unreadable: Unreadable,
) -> None:
    """Steps from the last save to the end: logs to metrics.jsonl and TensorBoard, saves to state-<steps>.pt."""
    config, first = resolved.config, rank() == 0
    network = wrap_ddp(method, resolved, device)
    optimizer = build_optimizer(method, resolved)
    scaler = torch.amp.GradScaler(device.type, enabled=resolved.precision == "fp16")
    parts: dict[str, Any] = {"method": method, "optimizer": optimizer, "scaler": scaler, "unreadable": unreadable}
    start = load_state(folder, parts)
    metrics, watch = Metrics(folder / "metrics.jsonl", start) if first else None, CollapseWatch(resolved.steps)
    with fail_together():
        # Or a collapsed run would pass when restarted.
        for row in broadcast_object(read_metrics(folder / "metrics.jsonl")):
            watch.check(int(row["step"]), row)
    crops = crops_of(config.views, config.views2, method.views, method.patches, config.image_size, config.pair)
    dataset = CropDataset(images, crops, seed=config.seed, crop_backend=config.crop_backend)
    sampler = StepSampler(
        len(images),
        config.batch_size,
        seed=config.seed,
        start=start,
        stop=resolved.steps,
        rank=rank(),
        world=world_size(),
    )
    loaded = load_batches(dataset, sampler, workers=config.workers, pin=device.type == "cuda")
    probe_steps = (config.probe_every or 0) * resolved.steps_per_epoch
    generator, progress = torch.Generator(device), Progress(resolved.steps, config.batch_size)
    print_rank0(f"{folder.name}: {len(images)} images, steps {start + 1} to {resolved.steps}")
    print_rank0(f"on {device} in {resolved.precision}, {world_size()} process(es), results in {folder}")
    save_at = time.perf_counter() + FIRST_SAVE_SECONDS
    method.train()
    with signals_noted() as stopping, closing(loaded) as batches, closing(metrics) if metrics else nullcontext():
        for step in range(start, resolved.steps):
            before = time.perf_counter()
            samples = next(batches)
            now = time.perf_counter()
            progress.tick(now - before)
            # Clocks, signals and files differ between processes; what follows from them must not.
            stop, save, show, failed = any_rank(
                bool(stopping()), first and now >= save_at, first and progress.due(), bool(samples.failures)
            )
            if failed:
                with fail_together():
                    unreadable.add(failure for failures in all_gather_object(samples.failures) for failure in failures)
            if stop:
                with fail_together():
                    if first:
                        save_state(folder, step, parts, config.keep)
                stopped = Stopped(stopping() or signal.SIGTERM)  # 0: another rank has the signal
                print_rank0(f"{stopped} after {step} of {resolved.steps} steps; the same command continues")
                raise SystemExit(stopped.status)

            torch.manual_seed(step_seed(config.seed, step, _GLOBAL))
            generator.manual_seed(step_seed(config.seed, step, _AUGMENT))
            batch = make_batch(samples, resolved, images.labels is not None, generator)
            terms = update(network, batch, optimizer, scaler, resolved, step)

            done = step + 1
            last = done == resolved.steps
            log = step % resolved.log_every == 0 or last
            save = not last and (save or bool(config.save_every and done % config.save_every == 0))
            if log or save or show:
                values = read_terms(terms)
                with fail_together():
                    check_finite(step, values)
                    if log:
                        watch.check(step, values)
                        if metrics:
                            rate = resolved.learning_rate_at(step)
                            metrics.write({"step": step, "lr": rate, **values, **progress.rates()})
                if first and (last or show):
                    progress.show(step, values)
            if probe_steps and (last or done % probe_steps == 0):
                with fail_together():
                    if metrics:
                        top1 = probe(method.backbone, images, config.image_size, config.crop_backend)
                        metrics.write({"step": step, "knn_top1": top1})
                        print_rank0(f"step {done}/{resolved.steps} kNN probe {top1:.1%} of held-out training images")
            if save:
                with fail_together():
                    if first:
                        save_state(folder, done, parts, config.keep)
                save_at = time.perf_counter() + config.save_seconds


def export(method: Method, resolved: Resolved, dataset: dict[str, Any], folder: Path) -> None:
    """Write backbone.safetensors, head.safetensors and meta.json, then remove the training state."""
    config = resolved.config
    values, state = resolved.values(), method.backbone.state_dict()
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise RunError(f"non-finite weights after the last step ({broken[0]}); lower --learning-rate")
    with saving(folder / "backbone.safetensors"):
        save_checkpoint(
            folder,
            state,
            _head(method),
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
    for path in saves(folder):
        path.unlink()


def _head(method: Method) -> dict[str, torch.Tensor]:
    """The state of the head; {} where the method has none, or several."""
    head = getattr(method, method.head_name, None)
    return dict(head.state_dict()) if isinstance(head, nn.Module) else {}
