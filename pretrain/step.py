"""One training step: from a batch of crops to updated weights, in the precision and over the processes of the run.

``python -m benchmarks.perf step`` times it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torchvision.models import ResNet

from pretrain.augment.views import make_views
from pretrain.config import Resolved
from pretrain.loader import Samples
from pretrain.methods import METHODS, Batch
from pretrain.runtime.distributed import mean_over_ranks, world_size
from pretrain.runtime.optimizers import set_learning_rate

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def wrap_ddp(method: nn.Module, resolved: Resolved, device: torch.device) -> nn.Module:
    """``method`` as the loop calls it: compiled where asked, gradients averaged over the processes where several.

    BatchNorm then takes the statistics of all GPUs, unless the method shuffles over GPUs; on CPUs, where torch has no
    such BatchNorm, each process keeps its own.
    """
    if resolved.config.compile:
        for module in method.modules():
            if isinstance(module, ResNet):
                module.compile()
    if world_size() == 1:
        return method
    if device.type == "cuda" and METHODS[resolved.method].sync_batchnorm:
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 renames broadcast_buffers, which 2.11 needs
        return DistributedDataParallel(
            method,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # queues and banks are alike already
            gradient_as_bucket_view=True,
        )


def make_batch(samples: Samples, resolved: Resolved, labelled: bool, generator: torch.Generator) -> Batch:
    """The views of one step, augmented on the generator's device with parameters drawn from it."""
    config, device = resolved.config, generator.device
    crops = [crop.to(device, non_blocking=True).contiguous() for crop in samples.crops]
    views = make_views(crops, config.views, config.views2, METHODS[resolved.method].patches, generator, config.pair)
    return Batch(
        views=[view.contiguous(memory_format=torch.channels_last) if view.ndim == 4 else view for view in views],
        index=samples.index.to(device, non_blocking=True),
        label=samples.label.to(device, non_blocking=True) if labelled else None,
    )


def update(
    network: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    resolved: Resolved,
    step: int,
) -> dict[str, Tensor]:
    """Forward, backward and the optimiser's step number ``step``, from 0; the method's terms, on the device."""
    set_learning_rate(optimizer, resolved, step)
    device = batch.index.device.type
    with torch.autocast(device, AMP.get(resolved.precision), enabled=resolved.precision in AMP):
        terms = network(batch, step / resolved.steps)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(terms["loss"]).backward()
    scaler.step(optimizer)
    scaler.update()
    return terms


def read_terms(terms: dict[str, Tensor]) -> dict[str, float]:
    """Their values, the mean over the processes; a GPU is waited for."""
    values = mean_over_ranks(torch.stack([term.detach().double() for term in terms.values()]))
    return dict(zip(terms, values.tolist(), strict=True))
