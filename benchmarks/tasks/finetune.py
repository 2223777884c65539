"""Fine-tuning of the whole network: on 1 % or 10 % of ImageNet's labels as SwAV, VICReg and Barlow Twins, or on all.

A linear classifier on the pooled features, SGD with a rate of its own for trunk and head, random resized crops and
flips, BatchNorm in training mode, the test on the central crop after every epoch (compute/finetune.py). All four
styles report the best epoch, chosen on the images it is reported on; ``top1_last`` is the last epoch's.

Departures from the published code: images are normalised as the checkpoint's own input says (SwAV's evaluation divides
red by 0.228, ImageNet's is 0.229); the arithmetic is bf16 where the device is fast at it (theirs is fp32, lightly's
fp16), with fp32 weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from benchmarks.data.labels import list_entry, stored_list
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task
from benchmarks.tasks.linear import TOP1
from benchmarks.tasks.schedules import Schedule
from pretrain.common.files import digest

if TYPE_CHECKING:
    from benchmarks.data.root import DataRoot
    from benchmarks.run import Context

DRAW_SEED = 0  # of the labels where no list is given: the published lists do not change with the run's seed either


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """One published way to fine-tune.

    ``percent`` of each class's training images are used. A step's ``batch`` is shared equally by ``replicas``, which
    stand for the GPUs it was published on: each replica's images are normalised by their own statistics, or with
    ``sync_batchnorm`` by those of the whole batch. Both rates follow the ``schedule``: step multiplies them by
    ``gamma`` at each of ``milestones`` (epochs from 0), cosine-epoch lets them fall along a cosine to 0 that is
    constant within an epoch, cosine-step along one to ``final_learning_rate`` at the last step. ``head_init`` normal:
    with standard deviation 0.01, and bias 0. ``drop_last``: an epoch's last, smaller batch is left out if there is
    another. Tested every ``test_every`` epochs and after the last. ``top5`` of the best epoch is that of the
    ``same epoch`` or the ``best`` of any.
    """

    percent: int
    epochs: int
    learning_rate_trunk: float
    learning_rate_head: float
    schedule: Schedule
    batch: int = 256
    replicas: int = 8
    sync_batchnorm: bool = False
    milestones: tuple[int, ...] = ()
    gamma: float = 1.0
    final_learning_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    head_init: Literal["torch default", "normal 0.01, bias 0"] = "torch default"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    drop_last: bool = False
    reported: Literal["best"] = "best"
    top5: Literal["same epoch", "best"] = "best"
    test_every: int = 1
    draw_seed: int = DRAW_SEED


FIXED = {  # for every style, beside its fields
    "optimiser": "sgd",
    "nesterov": False,
    "warmup_epochs": 0,
    "batchnorm_trains": True,
    "crop_ratio": (3 / 4, 4 / 3),
    "interpolation": "bilinear",
    "val_interpolation": "bilinear",
    "extra_augmentation": "",
}

# facebookresearch/swav:eval_semisup.py, src/resnet50.py (head) and README.md: 8 GPUs × 32, SyncBatchNorm.
_SWAV = Style(
    percent=1,
    epochs=20,
    learning_rate_trunk=0.02,
    learning_rate_head=5.0,
    schedule="step",
    milestones=(12, 16),
    gamma=0.2,
    sync_batchnorm=True,
    top5="same epoch",
)
# facebookresearch/vicreg:evaluate.py and README.md. The batch is that of all GPUs; their number is not stated, 8 here.
_VICREG = Style(
    percent=1,
    epochs=20,
    learning_rate_trunk=0.03,
    learning_rate_head=0.08,
    schedule="cosine-epoch",
    head_init="normal 0.01, bias 0",
)
# facebookresearch/barlowtwins:evaluate.py and README.md (trunk 0.005 since 046eec3, 0.002 before), GPUs as VICReg's;
# 10 % with the same settings: facebookresearch/barlowtwins issue 14.
_BARLOW = dataclasses.replace(_VICREG, learning_rate_trunk=0.005, learning_rate_head=0.5)

STYLES: dict[str, Style] = {
    "semi-1-swav": _SWAV,
    "semi-10-swav": dataclasses.replace(_SWAV, percent=10, learning_rate_trunk=0.01, learning_rate_head=0.2),
    "semi-1-vicreg": _VICREG,
    "semi-10-vicreg": dataclasses.replace(_VICREG, percent=10, learning_rate_trunk=0.01, learning_rate_head=0.1),
    "semi-1-barlow": _BARLOW,
    "semi-10-barlow": dataclasses.replace(_BARLOW, percent=10),
    # lightly-ai/lightly:benchmarks/imagenet/resnet50/finetune_eval.py, main.py, lightly/utils/scheduler.py,
    # lightly/utils/benchmarking/linear_classifier.py (head), docs/source/getting_started/benchmarks.rst (2 GPUs × 128).
    "finetune-lightly": Style(
        percent=100,
        epochs=30,
        learning_rate_trunk=0.05,
        learning_rate_head=0.05,
        schedule="cosine-step",
        final_learning_rate=5e-5,
        replicas=2,
        drop_last=True,
    ),
}
SOURCES = {
    "swav": "SwAV (facebookresearch/swav:eval_semisup.py, README.md)",
    "vicreg": "VICReg (facebookresearch/vicreg:evaluate.py, README.md)",
    "barlow": "Barlow Twins (facebookresearch/barlowtwins:evaluate.py, README.md)",
    "lightly": "lightly (lightly-ai/lightly:benchmarks/imagenet/resnet50/finetune_eval.py)",
}
WORDS = {"swav": "SwAV", "vicreg": "VICReg", "barlow": "Barlow", "lightly": "lightly"}


def style_of(task: str, profile: str) -> Style:
    """The style of ``task``; in the small profiles with fewer epochs, and a smaller batch whose rates follow it."""
    style, small = STYLES[task], PROFILES[profile].tuning
    if small is None:
        return style
    epochs = small.full_epochs if style.percent == 100 else small.semi_epochs
    scale = small.batch / style.batch
    return dataclasses.replace(
        style,
        epochs=epochs,
        milestones=tuple(round(one * epochs / style.epochs) for one in style.milestones),
        batch=small.batch,
        replicas=small.replicas,
        test_every=small.test_every,
        learning_rate_trunk=style.learning_rate_trunk * scale,
        learning_rate_head=style.learning_rate_head * scale,
        final_learning_rate=style.final_learning_rate * scale,
    )


def settings(task: str, setup: Setup) -> Settings:
    """The style and the evaluation crop, whose size the training crops share; bf16 where this device is fast at it."""
    from pretrain.common.device import best_device, has_bf16

    view = PROFILES[setup.profile].view
    values = FIXED | dataclasses.asdict(style_of(task, setup.profile)) | dataclasses.asdict(view)
    values["train_size"] = view.crop
    return Settings(values=values, precision="bf16" if has_bf16(best_device()) else "fp32")


def fingerprint(percent: int, root: DataRoot) -> str:
    """The images of the layout and the rule that chooses those with labels: the root's list, or the draw."""
    listed = list_entry(root, percent)
    rule = listed["digest"] if listed else f"drawn by seed {DRAW_SEED}"
    return digest([root.section("imagenet")["fingerprint"], percent, rule])


def check(percent: int, root: DataRoot, profile: str) -> None:
    """InputError if the root's list of labels is no longer as prepared, in any profile."""
    stored_list(root, percent)


def run(task: str, context: Context) -> Result:
    """Top-1 and, with more than five classes, top-5 in percent on the val split."""
    from benchmarks.tasks.compute.finetune import finetune

    resolved = settings(task, Setup(profile=context.spec.profile))
    return finetune(context, style_of(task, context.spec.profile), resolved)


_EXPECTED = {  # top-1 in percent of a ResNet-50, with the authors' own checkpoint; of lightly the range of its methods
    "semi-1-swav": "53.9 (arXiv 2006.09882)",
    "semi-10-swav": "70.2 (arXiv 2006.09882)",
    "semi-1-vicreg": "54.8 (arXiv 2105.04906, table 1)",
    "semi-10-vicreg": "69.5 (arXiv 2105.04906, table 1)",
    "semi-1-barlow": "55.0 (arXiv 2103.03230)",
    "semi-10-barlow": "69.7 (arXiv 2103.03230)",
    "finetune-lightly": "72.5 to 75.4 (lightly-ai/lightly:README.md)",
}
_COSTS = {1: 0.2, 10: 1.0, 100: 11.0}  # GPU hours by percent
_HOW = "epochs × images at 1,000 images/s of training and 3,000 of testing, one recent GPU in bf16; two saves of 0.2 GB"
_DATA = "ImageNet-1k, train and val"


def _task(name: str, style: Style) -> Task:
    source = name.rpartition("-")[2]
    semi = style.percent < 100
    title = f"{style.percent} % {WORDS[source]}" if semi else f"fine-tuned {WORDS[source]}"
    row = (f"imagenet_semisup_{style.percent}pct", "top1") if semi else ("imagenet_finetune", "top1")
    of_task: Callable[..., object] = partial(fingerprint, style.percent)
    return Task(
        name=name,
        title=title,
        kind="finetune",
        layout="imagenet",
        version=1,
        metrics=(
            TOP1,
            Metric(key="top5", label="top-5", shown=semi),
            Metric(key="top1_last", label="top-1, last epoch", shown=False),
        ),
        deterministic=False,
        reference=f"{style.percent} % of the labels, as {SOURCES[source]}; published top-1 {_EXPECTED[name]}",
        settings=partial(settings, name),
        run=partial(run, name),
        published=Published(
            detector="", schedule="" if semi else f"{style.epochs}ep", headings={f"{title} {TOP1.label}": row}
        ),
        group="semi" if semi else "finetune",
        check=partial(check, style.percent) if semi else None,
        fingerprint=of_task if semi else None,  # type: ignore[arg-type]  # a partial of one argument
        every_gpu=True,
        data=f"{_DATA}; google-research/simclr:imagenet_subsets/{style.percent}percent.txt" if semi else _DATA,
        settings_table=f"semi.{source}_{style.percent}" if semi else f"finetune.{source}",
        cost=Cost(gpu_hours=_COSTS[style.percent], disk_gb=0.4, how=_HOW),
    )


TASKS = tuple(_task(name, style) for name, style in STYLES.items())
