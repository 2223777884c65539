"""Settings of a pretraining run, and the one place where derived values are computed.

``python -m pretrain --help`` lists the presets, ``python -m pretrain PRESET --help`` every setting.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import torch

from pretrain.augment.crops import CropBackend
from pretrain.augment.jigsaw import LEAST_CELL, patch_size
from pretrain.augment.pairs import UNPAIRED, PairConfig
from pretrain.augment.views import ViewsConfig
from pretrain.common.device import has_bf16
from pretrain.common.errors import InputError
from pretrain.common.ranges import LEAST, Count, Fraction, NonNegative, Positive, Range, Seed, at_least, require_ranges
from pretrain.methods import METHODS, MethodConfig, method_name

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Scaling = Literal["linear", "sqrt", "none"]
FEATURE_DIM = {"resnet50": 2048, "resnet18": 512}
BELOW_ONE = math.nextafter(1, 0)
INSIDE = Range(LEAST, BELOW_ONE, "fractions of the training, above 0 and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of a pretraining run; ``resolve`` computes the derived values. Defaults: SimCLR's on ImageNet."""

    method: MethodConfig
    backbone: Literal["resnet50", "resnet18"] = "resnet50"  # torchvision's
    # Each residual branch starts at 0: google-research/simclr resnet.py, init_zero; arXiv 1706.02677, section 5.1.
    zero_init_residual: bool = True
    image_size: Annotated[int, at_least(patch_size(LEAST_CELL))] = 224  # pixels, of the square views
    batch_size: Annotated[int, at_least(2)] = 256  # images per step, over all processes
    steps: Annotated[int | None, Count] = None  # takes precedence over epochs
    epochs: Annotated[int, Count] = 200
    optimizer: Literal["lars", "sgd", "adamw"] = "lars"
    learning_rate: Annotated[float, Positive] = 0.3  # base rate; lr-scaling gives the peak
    lr_scaling: Scaling = "linear"  # peak = base × batch-size / 256; sqrt: base × √batch-size; none: base
    # rate of tensors of one dimension (biases, BatchNorm) over the rate of the weights
    bias_lr_ratio: Annotated[float, Positive] = 1.0
    fixed_lr_modules: tuple[str, ...] = ()  # parts of the method that keep the peak rate throughout, e.g. predictor
    momentum: Annotated[float, Range(0, BELOW_ONE, "at least 0 and below 1")] = 0.9  # of LARS and SGD
    weight_decay: Annotated[float, NonNegative] = 1e-6
    decay_bias_and_norm: bool = True  # False: no decay on biases and BatchNorm, which LARS spares in any case
    warmup: Annotated[float, Fraction] = 0.05  # share of the steps over which the rate rises from 0
    schedule: Literal["cosine", "steps"] = "cosine"  # after the warm-up: a cosine to 0, or a tenth at each lr-drops
    # shares of the steps; these are epochs 120 and 160 of 200
    lr_drops: Annotated[tuple[float, ...], INSIDE] = (0.6, 0.8)
    views: ViewsConfig = dataclasses.field(default_factory=ViewsConfig)
    views2: ViewsConfig | None = None  # of the second view, where the two differ (BYOL); None: as the first
    pair: PairConfig = UNPAIRED  # of both views together
    precision: Precision = "auto"  # auto: bf16 where the device has it; fp16 scales the loss
    compile: bool = False  # torch.compile the ResNets: slow to start
    crop_backend: CropBackend = "torch"  # library that cuts and resizes crops
    seed: Annotated[int, Seed] = 0  # of initialisation, data order and augmentation
    workers: Annotated[int, Count] = 8  # loader processes; 0 decodes inline
    save_every: Annotated[int | None, at_least(1)] = None  # steps between saves, besides those by time
    save_seconds: Annotated[float, Count] = 60.0  # seconds between saves
    keep: Annotated[int, at_least(1)] = 2  # newest saves kept
    # epochs between kNN probes on the training images' labels; None: never
    probe_every: Annotated[int | None, Range(1, math.inf, "at least 1, or None")] = None

    def conflict(self) -> str | None:
        """The flag and rule of settings of a pair that do not go with the views."""
        method, distance = method_name(self.method), self.pair.crop_distance
        if self.pair != UNPAIRED and METHODS[method].views < 2:
            return f"pair: {method} does not compare two views of an image"
        if distance is None or not distance >= 0:
            return None
        if self.views2 and self.views2.crop_scale != self.views.crop_scale:
            return "pair.crop-distance: the second crop has the size of the first; give views2 the same crop-scale"
        most, fits = self.views.crop_scale[1], 1 / (1 + distance) ** 2
        if most > fits * (1 + 1e-9):
            rule = (
                f"two crops so far apart are at most {fits:.3g} of a square image each, and crop-scale goes to {most:g}"
            )
            return f"pair.crop-distance {distance:g}: {rule}"
        return None


RUNTIME_ONLY = ("workers", "save_every", "save_seconds", "keep", "probe_every")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """A config with the values derived from it and the data set. The run's folder is named by ``values()``."""

    config: PretrainConfig
    method: str
    steps: int
    steps_per_epoch: int
    warmup_steps: int
    learning_rate: float  # after scaling: the peak
    feature_dim: int
    precision: Literal["bf16", "fp16", "fp32"]
    world_size: int  # processes that train together; each takes an equal share of the batch
    log_every: int

    def values(self) -> dict[str, Any]:
        """JSON values of everything that decides the weights."""
        values = dataclasses.asdict(self)
        for name in RUNTIME_ONLY:
            del values["config"][name]
        if self.config.pair == UNPAIRED:  # newer than many runs, whose folders keep their names
            del values["config"]["pair"]
        return values

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up to the peak, then a cosine that reaches 0 after the last step, or a tenth at each drop."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.config.schedule == "steps":
            return self.learning_rate * 0.1 ** sum(step >= round(drop * self.steps) for drop in self.config.lr_drops)
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * share)) / 2


def resolve(config: PretrainConfig, dataset_size: int, device: torch.device, world_size: int = 1) -> Resolved:
    """Compute steps, warm-up, scaled learning rate, feature dimension and precision. InputError for unusable values."""
    require_ranges(config)
    method = method_name(config.method)
    steps_per_epoch = dataset_size // config.batch_size
    steps = config.steps if config.steps is not None else config.epochs * steps_per_epoch
    if steps_per_epoch == 0 and config.steps != 0:
        raise InputError(f"{dataset_size} images do not fill a batch of {config.batch_size}: lower --batch-size")
    if steps == 0 and method != "random":
        raise InputError(f"{method} with 0 steps is an untrained backbone: raise --steps, or use the method random")
    if config.batch_size % world_size:
        raise InputError(
            f"a batch of {config.batch_size} does not split over {world_size} processes: change --batch-size"
        )
    return Resolved(
        config=config,
        method=method,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=round(config.warmup * steps),
        learning_rate=config.learning_rate * lr_scale(config.lr_scaling, config.batch_size),
        feature_dim=FEATURE_DIM[config.backbone],
        precision=("bf16" if has_bf16(device) else "fp32") if config.precision == "auto" else config.precision,
        world_size=world_size,
        log_every=max(1, steps // 2000),
    )


def lr_scale(scaling: Scaling, batch_size: int) -> float:
    """The factor from the base rate to the peak rate: SimCLR's two rules, or 1.

    google-research/simclr:model_util.py, learning_rate_schedule. Linear is Goyal et al.'s, arXiv 1706.02677.
    """
    return {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size), "none": 1.0}[scaling]
