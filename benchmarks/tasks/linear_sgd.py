"""Linear evaluation as papers print it: a head trained by SGD on augmented crops, the backbone frozen.

One task per published style. All styles of a checkpoint, a data set and a seed train in one pass
(compute/one_pass.py): every image is decoded once, every crop passes the backbone once and feeds every head that wants
it. ``linear-sgd-…`` draws new crops in every epoch, as published; ``linear-cached-…`` trains the same heads on the
features of a few crops per image, extracted once (views_for). ``linear-sgd`` and ``linear-cached`` stand for all of a
kind.

Settings are those of results/reference/protocols.toml, which names repository, file, the expected number, its spread
and its cost; a test compares them key by key. Two things are the same for all styles here, whatever the source does:
pixels are normalised as the checkpoint's input says (SwAV's std is 0.228, 0.224, 0.225 for its own checkpoints), and
decoded by Pillow.

Profiles other than paper divide epochs, batch and learning rate (the rate with the batch, the linear rule): SMALL.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task
from benchmarks.tasks.linear import TOP1
from benchmarks.tasks.schedules import Schedule
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.run import Context

Optimiser = Literal["sgd", "sgd+larc", "lars"]
ADVICE = {
    "epochs": "give 1 or more",
    "batch": "give 1 or more",
    "learning_rates": "give a tuple of one or more, each above 0",
    "milestones": 'give numbers of completed epochs where schedule is "step", and none otherwise',
    "crop_scale": "give shares of the image's area, 0 < smallest ≤ largest ≤ 1",
}
VIEWS = 4  # at least, of linear-cached: on ImageNet a hundred epochs of forward passes become four
CROPS = 100_000  # at least, of all images together: four crops of 3,000 images cost 2.4 points (docs/classification.md)
SMALL: dict[str, tuple[float, int]] = {"small": (5, 8), "demo": (10, 8), "smoke": (50, 16)}
"""Divisors of epochs, and of batch and rate, by profile."""
IMAGENET_IMAGES, IMAGES_PER_SECOND = 1_281_167, 2500


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearStyle:
    """The published settings of one linear protocol.

    ``learning_rates`` at ``batch`` images per step; of several the best on held-out training images is taken.
    ``milestones`` are numbers of completed epochs. ``final_share``: the share of the rate that a cosine ends at.
    ``reported``: the best epoch on the test split, or the last.
    """

    epochs: int = 100
    batch: int = 256
    learning_rates: tuple[float, ...]
    optimiser: Optimiser = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "cosine-epoch"
    milestones: tuple[int, ...] = ()
    gamma: float = 1.0
    final_share: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    drop_last: bool = False
    head_init: Literal["normal 0.01, bias 0", "torch default"] = "normal 0.01, bias 0"
    reported: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        """InputError that names the first setting that no head can train with."""
        for name, hint in get_type_hints(type(self)).items():
            value, words = getattr(self, name), get_args(hint)
            if get_origin(hint) is Literal and value not in words:
                raise InputError(f"{name} {value!r} of a linear style: give one of {', '.join(words)}")
        usable = {
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 1,
            "learning_rates": isinstance(rates := self.learning_rates, tuple) and bool(rates) and min(rates) > 0,
            "milestones": all(one >= 1 for one in self.milestones)
            and bool(self.milestones) == (self.schedule == "step"),
            "crop_scale": 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1,
        }
        if wrong := [name for name, fine in usable.items() if not fine]:
            raise InputError(f"{wrong[0]} {getattr(self, wrong[0])!r} of a linear style: {ADVICE[wrong[0]]}")

    def scaled(self, profile: str) -> LinearStyle:
        """The style with the epochs, batch and rates of ``profile``."""
        if profile not in SMALL:
            return self
        shorter, smaller = SMALL[profile]
        epochs, batch = max(1, round(self.epochs / shorter)), max(1, self.batch // smaller)
        return dataclasses.replace(
            self,
            epochs=epochs,
            batch=batch,
            learning_rates=tuple(rate * batch / self.batch for rate in self.learning_rates),
            milestones=tuple(max(1, round(one * epochs / self.epochs)) for one in self.milestones),
        )


MOCO = LinearStyle(learning_rates=(30.0,), schedule="step", milestones=(60, 80), gamma=0.1)
SWAV = LinearStyle(learning_rates=(0.3,), weight_decay=1e-6)
STYLES: dict[str, tuple[LinearStyle, str, str | None]] = {
    "moco": (MOCO, "facebookresearch/moco:main_lincls.py", "lr30 100ep"),
    "pycontrast": (
        LinearStyle(
            epochs=60,
            learning_rates=(30.0,),
            schedule="step",
            milestones=(30, 40, 50),
            gamma=0.2,
            crop_scale=(0.2, 1.0),
            head_init="torch default",
            reported="last",
        ),
        "HobbitLong/PyContrast:pycontrast/options/test_options.py",
        "lr30 60ep (PyContrast)",
    ),
    "simsiam": (
        LinearStyle(epochs=90, batch=4096, learning_rates=(1.6,), optimiser="sgd+larc"),
        "facebookresearch/simsiam:main_lincls.py",
        "LARS 90ep",
    ),
    "mocov3": (
        LinearStyle(epochs=90, batch=1024, learning_rates=(0.4,)),
        "facebookresearch/moco-v3:main_lincls.py",
        "90ep SGD",
    ),
    "lightly": (
        LinearStyle(
            epochs=90,
            learning_rates=(0.1,),
            schedule="cosine-step",
            final_share=0.001,
            drop_last=True,
            head_init="torch default",
        ),
        "lightly-ai/lightly:benchmarks/imagenet/resnet50/linear_eval.py",
        "SimCLR-style 90ep, max over epochs",
    ),
    "swav": (SWAV, "facebookresearch/swav:eval_linear.py", "lr0.3 100ep cosine"),
    "barlow": (SWAV, "facebookresearch/barlowtwins:evaluate.py", "lr0.3 100ep cosine"),
    "vicreg": (
        dataclasses.replace(SWAV, learning_rates=(0.02,)),
        "facebookresearch/vicreg:evaluate.py, README.md",
        "lr-head 0.02 100ep",
    ),
    "mmselfsup": (
        dataclasses.replace(MOCO, reported="last"),
        "open-mmlab/mmselfsup:configs/benchmarks/classification/imagenet/resnet50_linear-8xb32-steplr-100e_in1k.py",
        "mmselfsup",
    ),
    "mmselfsup-lars": (
        LinearStyle(epochs=90, batch=4096, learning_rates=(1.6,), optimiser="lars", reported="last"),
        "open-mmlab/mmselfsup:configs/benchmarks/classification/imagenet/resnet50_linear-8xb512-coslr-90e_in1k.py",
        None,  # the model zoo does not say which of its numbers are LARS's
    ),
    "grid": (
        LinearStyle(learning_rates=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), reported="last"),
        "rate of 8 chosen on held-out training images, never on the test split; the rest as SwAV's without decay",
        None,
    ),
}
"""Name → settings, source, schedule of its rows in results/reference/published.csv."""


def settings(name: str, setup: Setup, views: int | None = None) -> Settings:
    """The resolved settings of a style; in the backbone's precision, which is the fastest of this device."""
    from benchmarks.tasks.compute.frozen import fastest_precision

    profile = PROFILES[setup.profile]
    style = STYLES[name][0].scaled(setup.profile)
    view = {"train_size": profile.view.crop, **dataclasses.asdict(profile.view)}
    cached = {"least_views": views, "least_crops": CROPS} if views else {}
    values = {**dataclasses.asdict(style), **view, **cached, "chunk": profile.chunk}
    return Settings(values=values, precision=fastest_precision())


def together_online(contexts: Sequence[Context]) -> Iterator[tuple[int, Result | Exception]]:
    """Train the heads of ``contexts``, on one data root and seed, on new crops in every epoch."""
    from benchmarks.tasks.compute.one_pass import train_heads

    return train_heads(contexts, views=None)


def together_cached(contexts: Sequence[Context]) -> Iterator[tuple[int, Result | Exception]]:
    """Train the heads of ``contexts``, on one data root and seed, on the features of a few crops of each image."""
    from benchmarks.tasks.compute.one_pass import train_heads

    return train_heads(contexts, views=views_for(contexts[0].root.section("imagenet")["counts"]["train"]))


def views_for(images: int) -> int:
    """Cached crops of each of ``images`` training images: VIEWS, and of few images as many as make CROPS."""
    return max(VIEWS, -(-CROPS // images))


def style_of(task: str) -> LinearStyle:
    """The published style behind ``linear-sgd-NAME`` or ``linear-cached-NAME``."""
    return STYLES[task.split("-", 2)[2]][0]


def register_style(name: str, style: LinearStyle, source: str, schedule: str | None = None) -> tuple[Task, ...]:
    """Add a style of a plugin: ``linear-sgd-NAME`` and ``linear-cached-NAME``, in one pass with the others.

    ``source`` says where the settings are from; ``schedule`` is that of the rows of published.csv to show beside it.
    InputError for a name that is taken, or that is more than lower-case letters, digits and dashes.
    """
    from benchmarks.tasks import register

    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InputError(f"linear style {name!r}: give a name of lower-case letters, digits and dashes")
    if STYLES.setdefault(name, (style, source, schedule)) != (style, source, schedule):
        raise InputError(f"two linear styles are named {name}: rename one of them")
    return tuple(register(_task(name, views, own=False)) for views in (None, VIEWS))


def _task(name: str, views: int | None, own: bool = True) -> Task:
    style, source, schedule = STYLES[name]
    kind, together = ("cached", together_cached) if views else ("sgd", together_online)
    crops = f"{views} crops per image" if views else f"{style.epochs} epochs"
    passes = views or style.epochs

    def run(context: Context) -> Result:
        """The head of this style alone."""
        ((_, outcome),) = together([context])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Task(
        name=f"linear-{kind}-{name}",
        title=f"{name} {'linear' if kind == 'sgd' else 'cached'}",
        kind="frozen",
        layout="imagenet",
        version=1,
        metrics=(
            TOP1,
            Metric(key="top5", label="top-5", shown=False),
            Metric(key="top1_last", label="top-1 of the last epoch", shown=False),
        ),
        deterministic=False,
        reference=f"linear head, SGD, {crops}, {style.reported} epoch ({source})",
        settings=lambda setup: settings(name, setup, views),
        run=run,
        together=together,
        group=f"linear-{kind}",
        every_gpu=True,
        settings_table=f"linear.{name.replace('-', '_')}" if own and name != "grid" else "",
        data="ImageNet-1k: 1.28 million training images, 50,000 test images",
        cost=Cost(
            gpu_hours=round(passes * IMAGENET_IMAGES / IMAGES_PER_SECOND / 3600, 1),
            disk_gb=round(passes * IMAGENET_IMAGES * 2048 * 2 / 1e9, 1) if views else 0.1,
            how=f"{passes} forward passes at {IMAGES_PER_SECOND:,} images/s, an assumed ResNet-50 on one H100 in bf16; "
            "all styles together take little more than the longest",
        ),
        published=Published(
            detector="", schedule=schedule, headings={f"{name} linear top-1": ("imagenet_linear", "top1")}
        )
        if schedule and not views
        else None,
    )


TASKS = tuple(_task(name, views) for views in (None, VIEWS) for name in STYLES)
