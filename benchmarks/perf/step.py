"""A training step of our loop against forward, backward and optimiser alone on resident tensors.

Run: ``python -m benchmarks.perf step``; with ``--workers`` above 0 also from JPEG files.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from benchmarks.perf.timing import MEASURED_VIEWS, medians, processor, table, write_photographs
from pretrain.augment.views import crops_of
from pretrain.common.device import best_device
from pretrain.config import Precision, PretrainConfig, Resolved, resolve
from pretrain.data import list_images
from pretrain.loader import CropDataset, Samples, StepSampler, load_batches
from pretrain.methods.simclr import SimCLRConfig
from pretrain.runtime.optimizers import build_optimizer
from pretrain.step import make_batch, read_terms, update, wrap_ddp
from pretrain.train import build_method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """SimCLR's step with augmentation and log against the bare step. The defaults fit a CPU."""

    backbone: Literal["resnet50", "resnet18"] = "resnet50"
    image_size: int = 48
    batch_size: int = 64
    precision: Precision = "auto"
    compile: bool = False
    steps: int = 3  # per round
    rounds: int = 5
    workers: int = 0  # processes that read JPEG files for one more line; 0: no such line


def settings(arguments: Arguments, device: torch.device) -> Resolved:
    """The run that is timed: SimCLR with MoCo v2's views, one epoch per round."""
    config = PretrainConfig(
        method=SimCLRConfig(),
        backbone=arguments.backbone,
        image_size=arguments.image_size,
        batch_size=arguments.batch_size,
        steps=10**6,  # the rate stays near 0
        views=dataclasses.replace(MEASURED_VIEWS, blur=0.5),
        precision=arguments.precision,
        compile=arguments.compile,
        workers=arguments.workers,
    )
    return resolve(config, arguments.batch_size * arguments.steps, device)


def resident_samples(resolved: Resolved, device: torch.device) -> Samples:
    """A batch of random crops on the device."""
    n, size = resolved.config.batch_size, resolved.config.image_size
    return Samples(
        crops=[torch.randint(256, (n, 3, size, size), dtype=torch.uint8, device=device) for _ in range(2)],
        index=torch.arange(n, device=device),
        label=torch.zeros(n, dtype=torch.long, device=device),
        failures=[],
    )


def from_files(folder: Path, resolved: Resolved, count: int) -> Generator[Samples, None, None]:
    """Batches of ``count`` photographs written to ``folder``, read as in a training run."""
    config = resolved.config
    write_photographs(folder, count)
    crops = crops_of(config.views, config.views2, 2, False, config.image_size)
    dataset = CropDataset(list_images(folder), crops, seed=0, crop_backend=config.crop_backend)
    sampler = StepSampler(count, config.batch_size, seed=0, start=0, stop=resolved.steps)
    with closing(load_batches(dataset, sampler, workers=config.workers, pin=torch.cuda.is_available())) as batches:
        yield from batches


def measure(arguments: Arguments) -> str:
    """The table: images/s of each side and the ratio to the bare step; the augmentation's share of our step."""
    device = best_device()
    resolved = settings(arguments, device)
    method = cast(nn.Module, build_method(resolved, 0, arguments.batch_size)).to(device)
    network = wrap_ddp(method.to(memory_format=torch.channels_last), resolved, device)
    optimizer = build_optimizer(method, resolved)
    scaler = torch.amp.GradScaler(device.type, enabled=resolved.precision == "fp16")
    generator, resident = torch.Generator(device), resident_samples(resolved, device)
    batch = make_batch(resident, resolved, False, generator)

    def bare() -> None:
        for step in range(arguments.steps):
            update(network, batch, optimizer, scaler, resolved, step)

    def ours(samples: Iterator[Samples]) -> None:
        for step in range(arguments.steps):
            views = make_batch(next(samples), resolved, False, generator)
            terms = update(network, views, optimizer, scaler, resolved, step)
        read_terms(terms)

    def augmentation() -> None:
        for _ in range(arguments.steps):
            make_batch(resident, resolved, False, generator)

    sides: dict[str, Callable[[], object]] = {
        "bare: forward, backward, optimiser": bare,
        "ours, crops resident": lambda: ours(cycle([resident])),
        "augmentation alone": augmentation,
    }
    count = arguments.batch_size * arguments.steps
    with tempfile.TemporaryDirectory() as folder, closing(from_files(Path(folder), resolved, count)) as loaded:
        if arguments.workers:
            sides[f"ours, from JPEG files, {arguments.workers} processes"] = lambda: ours(loaded)
        seconds = medians(sides, arguments.rounds)
    share = seconds.pop("augmentation alone") / seconds["ours, crops resident"]
    cpu = f"{torch.get_num_threads()} core(s) of {processor()}"
    title = (
        f"{arguments.backbone}, batch {arguments.batch_size}, two views of {arguments.image_size} px, "
        f"{resolved.precision}, on {torch.cuda.get_device_name() if device.type == 'cuda' else cpu}"
    )
    return f"{table(title, count, seconds)}\naugmentation is {share:.1%} of our step"
