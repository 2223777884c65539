"""Weighted k-nearest-neighbour classification of frozen features (Wu et al., arXiv 1805.01978, section 3.4).

A vote of exp(cosine / T) from each of the k nearest training images, in three published styles:

knn             k 200, T 0.1 (lightly-ai/lightly:benchmarks/imagenet/resnet50/knn_eval.py). VISSL has the same k and
                T, on raw products of its head's output instead of cosines
knn-dino        k 10, 20, 100 and 200, T 0.07, images resized bicubically (facebookresearch/dino:eval_knn.py)
knn-mmselfsup   the same votes on bilinearly resized images
                (open-mmlab/mmselfsup:tools/benchmarks/classification/knn_imagenet/test_knn.py). k 200, T 0.07 is also
                InstDis's (zhirongw/lemniscate.pytorch:main.py), which votes with its 128-d output and memory bank

The several k of a style come from one pass over the similarities. Small profiles have small images and, for ``knn``,
k 20: their classes have 20 to 300 images.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.predictions import Predictions
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task
from benchmarks.tasks.linear import TOP1

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.run import Context
    from benchmarks.tasks.compute.features import Features
    from pretrain.common.knn import KnnConfig

TEMPERATURE = 0.1
Interpolation = Literal["bilinear", "bicubic"]
NEIGHBOURS = (10, 20, 100, 200)  # of the styles with several k
PRIMARY = 20  # "20 is usually working the best", says DINO's --help
SHOWN = (20, 200)  # k in the table itself; all are in its CSV
SHARP = 0.07  # T of the styles with several k
IMAGENET = "ImageNet's training images as the bank, its validation images as the test"


def settings(setup: Setup) -> Settings:
    """The settings of the vote and of the evaluation crop."""
    profile = PROFILES[setup.profile]
    vote = {"k": profile.neighbours, "temperature": TEMPERATURE}
    return Settings(values={**vote, **dataclasses.asdict(profile.view)}, precision="fp32")


def run(context: Context) -> Result:
    """Top-1 in percent on the val split."""
    from pretrain.common.knn import KnnConfig

    resolved = settings(Setup(profile=context.spec.profile))
    config = KnnConfig(k=resolved.values["k"], temperature=resolved.values["temperature"])
    found = context.features()
    (vote,) = _votes(found, [config])
    return _result({"top1": vote}, "top1", found["val"].y, resolved)


def several_settings(interpolation: Interpolation, setup: Setup) -> Settings:
    """The settings of the votes and of the evaluation crop of a style with several k."""
    view = dataclasses.asdict(PROFILES[setup.profile].view)
    vote: dict[str, Any] = {"k": NEIGHBOURS, "temperature": SHARP, "similarity": "cosine"}
    return Settings(values={**vote, **view, "interpolation": interpolation}, precision="fp32")


def several_run(interpolation: Interpolation, context: Context) -> Result:
    """Top-1 in percent on the val split for each k; the predictions are those of the primary k."""
    from benchmarks.tasks.compute.features import FeatureView
    from pretrain.common.knn import KnnConfig

    resolved = several_settings(interpolation, Setup(profile=context.spec.profile))
    values = resolved.values
    view = FeatureView(resize=values["resize"], crop=values["crop"], interpolation=interpolation)
    found = context.features(view)
    votes = _votes(found, [KnnConfig(k=k, temperature=values["temperature"]) for k in values["k"]])
    return _result(
        {_key(k): one for k, one in zip(values["k"], votes, strict=True)}, _key(PRIMARY), found["val"].y, resolved
    )


def _key(k: int) -> str:
    return f"top1_k{k}"


Voted = tuple["np.ndarray", "np.ndarray"]
"""Predicted class and its share of the votes, of each test image."""


def _votes(found: dict[str, Features], configs: Sequence[KnnConfig]) -> list[Voted]:
    """The votes of the training features on the val split, on the best device."""
    import numpy as np
    import torch

    from pretrain.common.device import best_device
    from pretrain.common.knn import knn_votes

    device = best_device()
    x = {split: part.tensor(np.arange(len(part.y)), device) for split, part in found.items()}
    y = torch.tensor(found["train"].y, device=device)
    votes = knn_votes(x["train"], y, x["val"], found["val"].classes, configs)
    return [(one.predicted.cpu().numpy(), one.share.cpu().numpy()) for one in votes]


def _result(votes: dict[str, Voted], primary: str, y: np.ndarray, resolved: Settings) -> Result:
    predicted, share = votes[primary]
    return Result(
        metrics={key: 100 * float((found == y).mean()) for key, (found, _) in votes.items()},
        test_images=len(y),
        config=resolved.values,
        precision=resolved.precision,
        predictions=Predictions(target=y, predicted=predicted, confidence=share),
    )


def _several(
    name: str, title: str, interpolation: Interpolation, reference: str, how: str, published: Published | None = None
) -> Task:
    order = sorted(NEIGHBOURS, key=lambda k: (k != PRIMARY, k))
    return Task(
        name=name,
        title=title,
        kind="frozen",
        layout="imagenet",
        version=1,
        metrics=tuple(Metric(key=_key(k), label=f"k={k} top-1", shown=k in SHOWN) for k in order),
        deterministic=True,
        reference=reference,
        settings=functools.partial(several_settings, interpolation),
        run=functools.partial(several_run, interpolation),
        data=IMAGENET,
        settings_table=name.replace("-", "."),
        cost=Cost(gpu_hours=0.5, disk_gb=10.9, how=how),
        published=published,
    )


COST = "a guess: 1.33 million forward passes of a ResNet-50 at 224 px (800 images/s), 1.33 million × 2,048 × 4 bytes"
TASKS = (
    Task(
        name="knn",
        title="kNN",
        kind="frozen",
        layout="imagenet",
        version=2,
        metrics=(TOP1,),
        deterministic=True,
        reference="weighted k nearest neighbours of Wu et al. (arXiv 1805.01978), cosine similarity",
        settings=settings,
        run=run,
        published=Published(detector="", schedule="k=200 t=0.1", headings={"kNN top-1": ("imagenet_knn", "top1")}),
        data=IMAGENET,
        settings_table="knn.lightly",
        cost=Cost(gpu_hours=0.5, disk_gb=10.9, how=f"{COST}, shared with linear"),
    ),
    _several(
        "knn-dino",
        "kNN DINO",
        "bicubic",
        "cosine, T 0.07, bicubic resize: facebookresearch/dino:eval_knn.py (67.5 for DINO's own ResNet-50, its README)",
        COST,
        Published(detector="", schedule="", headings={"kNN DINO k=20 top-1": ("imagenet_knn", "top1")}),
    ),
    _several(
        "knn-mmselfsup",
        "kNN T=0.07",
        "bilinear",
        "cosine, T 0.07: open-mmlab/mmselfsup:tools/benchmarks/classification/knn_imagenet/test_knn.py "
        "(k=20: MoCo v2 200 epochs 55.7, SimSiam 100 epochs 57.6, its README files)",
        f"{COST}, shared with linear",
    ),
)
