"""Fine-tune a checkpoint's whole network with a linear head, and test it after every epoch.

The order, crops and flips of the images depend on (seed, epoch, image) alone, and the state is saved every so often: a
run that was killed goes on in the middle of an epoch and ends, on the CPU, in the same weights bit for bit. The trained
network is not kept.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD
from tqdm import tqdm

from benchmarks.data.root import DataRoot
from benchmarks.predictions import Predictions
from benchmarks.run import Context
from benchmarks.tasks.base import Result, Settings
from benchmarks.tasks.compute.classify import classify
from benchmarks.tasks.compute.features import build_backbone, labelled_images, profile_view
from benchmarks.tasks.compute.history import History
from benchmarks.tasks.compute.labels import Labelled, labelled_rows, names_below
from benchmarks.tasks.compute.processes import launch, loaders
from benchmarks.tasks.compute.replicas import (
    ReplicaSampler,
    accumulate,
    batchnorms,
    flipped,
    share_statistics,
    steps_per_epoch,
)
from benchmarks.tasks.finetune import Style
from benchmarks.tasks.schedules import share_at
from pretrain.augment.crops import Crop
from pretrain.common.errors import InputError, RunError
from pretrain.common.pixels import PixelInput
from pretrain.data import ImageList
from pretrain.loader import CropDataset, Samples, load_batches
from pretrain.runtime.distributed import local_device, rank, world_size
from pretrain.runtime.resume import load_state, save_state, saves
from transfer.checkpoints.backbone import Backbone

FIRST_SAVE_SECONDS, SAVE_SECONDS, KEPT_SAVES = 10.0, 120.0, 2
CHECKED_STEPS = 50  # between two looks at the loss, for which a GPU is waited for


class Network(nn.Module):
    """N×3×H×W → N×classes: the checkpoint's network, in training mode and with gradients, and a linear head."""

    def __init__(self, backbone: Backbone, classes: int, style: Style, seed: int) -> None:
        super().__init__()
        built = build_backbone(backbone)
        width = built(torch.zeros(1, 3, 64, 64)).shape[1]
        # Copied: the built network shares its tensors with the checkpoint, which other runs of this process read.
        self.backbone = copy.deepcopy(built).requires_grad_(True).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(width, classes)
            if style.head_init == "normal 0.01, bias 0":
                nn.init.normal_(self.head.weight, std=0.01)
                nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.head(self.backbone(x))
        return scores


def rate(style: Style, peak: float, step: int, per_epoch: int) -> float:
    """The learning rate at ``step``, from 0, of a group whose highest is ``peak``."""
    return style.final_learning_rate + (peak - style.final_learning_rate) * share_at(style, step, per_epoch)


def build_optimizer(network: Network, style: Style) -> SGD:
    """SGD with a group for the trunk and one for the head, each with its "peak" rate."""
    groups = [(network.backbone, style.learning_rate_trunk), (network.head, style.learning_rate_head)]
    return SGD(
        [{"params": list(part.parameters()), "lr": peak, "peak": peak} for part, peak in groups],
        momentum=style.momentum,
        weight_decay=style.weight_decay,
    )


def set_rates(optimizer: SGD, style: Style, step: int, per_epoch: int) -> None:
    """Give each group its rate at ``step``."""
    for group in optimizer.param_groups:
        group["lr"] = rate(style, group["peak"], step, per_epoch)


def pixels(samples: Samples, flips: np.ndarray, expected: PixelInput, device: torch.device) -> Tensor:
    """N×3×S×S float32 as the network expects them, of uint8 crops; those of images in ``flips`` are mirrored."""
    x = samples.crops[0].to(device, non_blocking=True).float() / 255
    mirrored = torch.from_numpy(flips[samples.index.numpy()]).to(device)
    x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
    x = x.flip(1) if expected.order == "BGR" else x
    mean, std = (x.new_tensor(value).view(1, 3, 1, 1) for value in (expected.mean, expected.std))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def finetune(context: Context, style: Style, settings: Settings) -> Result:
    """Train, over several GPUs if there are several, and report as the style does. InputError for a broken image."""
    world = processes(context, style)
    for _ in launch(world, train, (context, style, settings)):
        pass  # it yields nothing
    history = History()
    load_state(context.folder, {"history": history})
    result = _result(context, style, settings, history, world)
    assert result.predictions
    result.predictions.save(context.folder)  # before the saves go: a full disk has to leave them
    for path in saves(context.folder):
        path.unlink()
    return result


def processes(context: Context, style: Style) -> int:
    """One per GPU, as far as there is a replica for each; on the CPU one where BatchNorm is synchronised.

    torch's SyncBatchNorm needs GPUs.
    """
    if style.sync_batchnorm and not torch.cuda.is_available():
        return 1
    return max(1, min(context.num_gpus, style.replicas))


def train(context: Context, style: Style, settings: Settings) -> None:
    """Train from the newest save in the run's folder to the end, which is saved too, with its "history".

    Every process of a group calls it. InputError for an image that cannot be read, RunError for a loss that is not
    finite.
    """
    Trainer(context, style, settings).run()


class Trainer:
    """One process's part of the training."""

    def __init__(self, context: Context, style: Style, settings: Settings) -> None:
        self.context, self.style, self.settings, self.device = context, style, settings, local_device()
        self.workers = loaders(context.loader_workers)
        self.checkpoint = context.backbone()
        self.images, _ = training_images(context.root, style)
        self.tested = labelled_images(context.root, "val")
        self.classes = len(self.images.classes)
        network = Network(self.checkpoint, self.classes, style, context.spec.seed)
        if style.sync_batchnorm and world_size() > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        # Memory format first: the optimiser's state takes the parameters' layout.
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.norms, self.optimizer = batchnorms(self.network), build_optimizer(self.network, style)
        self.history = History()
        self.parts: dict[str, Any] = {"network": self.network, "optimizer": self.optimizer, "history": self.history}
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        self.per_epoch = steps_per_epoch(len(self.images), style.batch, style.replicas, style.drop_last)
        self.total = style.epochs * self.per_epoch

    def run(self) -> None:
        """From the newest save to the last step."""
        try:
            start = load_state(self.context.folder, self.parts)
        except RunError:
            raise RunError(
                f"{self.context.folder} has saves of another version: give --rerun always to start anew"
            ) from None
        self.history.begin(start if 0 < start < self.total else None)
        bar = tqdm(total=self.total, initial=start, desc=self.context.spec.task, mininterval=5, disable=rank() > 0)
        save_at = time.monotonic() + FIRST_SAVE_SECONDS
        with closing(self._batches(start)) as batches, bar:
            for step in range(start, self.total):
                self._step(step, next(batches))
                if (step + 1) % self.per_epoch == 0:
                    self._end_epoch((step + 1) // self.per_epoch)
                bar.update()
                if rank() == 0 and (step == self.total - 1 or time.monotonic() >= save_at):
                    self.history.count_time()
                    save_state(self.context.folder, step + 1, self.parts, KEPT_SAVES)
                    save_at = time.monotonic() + SAVE_SECONDS

    def _batches(self, start: int) -> Generator[Samples, None, None]:
        style, seed = self.style, self.context.spec.seed
        crop = Crop(size=self.settings.values["crop"], scale=style.crop_scale)
        sampler = ReplicaSampler(
            len(self.images),
            style.batch,
            style.replicas,
            drop_last=style.drop_last,
            seed=seed,
            start=start,
            stop=self.total,
        )
        return load_batches(
            CropDataset(self.images, [crop], seed=seed, crop_backend="torch"),
            sampler,  # type: ignore[arg-type]  # it yields the same keys
            workers=self.workers,
            pin=self.device.type == "cuda",
        )

    def _step(self, step: int, samples: Samples) -> None:
        if samples.failures:
            raise InputError(samples.failures[0][1])
        style, epoch = self.style, step // self.per_epoch
        flips = flipped(self.context.spec.seed, epoch, len(self.images), style.flip)
        x = pixels(samples, flips, self.checkpoint.input, self.device)
        y = samples.label.to(self.device, non_blocking=True)
        set_rates(self.optimizer, style, step, self.per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss = accumulate(
            self.network, self.norms, x, y, style.replicas, together=style.sync_batchnorm, autocast=self.autocast
        )
        self.optimizer.step()
        self.history.add(loss)
        if step % CHECKED_STEPS == 0 or (step + 1) % self.per_epoch == 0:
            self.history.require_finite(step + 1, self.total)

    def _end_epoch(self, done: int) -> None:
        tested = None
        if done % self.style.test_every == 0 or done == self.style.epochs:
            share_statistics(self.network)
            tested = classify(
                self.network,
                self.checkpoint,
                profile_view(self.context.spec.profile),
                *self.tested,
                self.classes,
                autocast=self.autocast,
                workers=self.workers,
            )
        self.history.end_epoch(tested, self.per_epoch)


def training_images(root: DataRoot, style: Style) -> tuple[ImageList, Labelled]:
    """The training images that the style may use."""
    folder, classes = root.folder("imagenet") / "train", root.section("imagenet")["classes"]
    images, y = labelled_images(root, "train")
    names = names_below(images, folder)
    chosen = labelled_rows(root, names, y, style.percent, style.draw_seed)
    paths, labels = tuple(names[row] for row in chosen.rows), tuple(int(y[row]) for row in chosen.rows)
    return ImageList(root=folder, paths=paths, labels=labels, classes=tuple(classes)), chosen


def _result(context: Context, style: Style, settings: Settings, history: History, world: int) -> Result:
    epochs, best = history.epochs, history.best["epoch"]
    every = [one["top5"] for one in history.tested]
    top5 = epochs[best - 1]["top5"] if style.top5 == "same epoch" or None in every else max(every)
    _, y = labelled_images(context.root, "val")
    images, chosen = training_images(context.root, style)
    facts = {
        "labels": chosen.summary(),
        "steps_per_epoch": steps_per_epoch(len(images), style.batch, style.replicas, style.drop_last),
        "processes": world,
        "best_epoch": best,
        "seconds_per_epoch": round(sum(one["seconds"] for one in epochs) / len(epochs), 2),
        "epochs_run": epochs,
    }
    return Result(
        metrics={"top1": epochs[best - 1]["top1"], "top5": top5, "top1_last": epochs[-1]["top1"]},
        test_images=len(y),
        config=settings.values | facts,
        precision=settings.precision,
        resumed_at=history.resumed_at,
        notes=(*chosen.notes(), *([f"best of {len(every)} tested epochs, chosen on val"] if len(every) > 1 else [])),
        predictions=Predictions(
            target=y,
            predicted=history.best["predicted"].numpy(),
            confidence=history.best["confidence"].numpy(),
        ),
    )
