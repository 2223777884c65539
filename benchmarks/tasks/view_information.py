"""How many nats the two views share that a checkpoint was pretrained on: a lower bound of I(v1; v2).

The views are those of the checkpoint's own pretraining run (the meta.json beside it), of images of the val split. The
critic reads frozen features h and, where the run's head is kept, the embedding z; it is fitted on half of the images,
and its InfoNCE is of the other half: pretrain/information/shared.py. It can show at most log K, K the images of that
half, which is more than the logarithm of the training batch: ``cap`` in the record's config, and a note where an
estimate is within a tenth of it. The training log's own bound is beside it, of training images and of at most the
logarithm of the batch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.data.root import DataRoot
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.run import Context

# Images at most, of which half are reported on: for paper log 5,000 = 8.5 nats, above a batch of 4,096.
IMAGES = {"smoke": 200, "demo": 1000, "small": 500, "paper": 10_000}
RESAMPLES = 1000
LEAST = 64  # as shared.py requires


def check(root: DataRoot, profile: str) -> None:
    """InputError where the val split has too few images."""
    count = root.section("imagenet")["counts"]["val"]
    if count < LEAST:
        raise InputError(f"data set {root.name} has {count} val images, and view-information takes at least {LEAST}")


def settings(setup: Setup) -> Settings:
    """The estimate's; the views are the checkpoint's."""
    from pretrain.information import shared

    critic = {
        "head_share": shared.HEAD_SHARE,
        "ridges": list(shared.RIDGES),
        "dims": list(shared.DIMS),
        "temperatures": [str(one) for one in shared.TEMPERATURES],
    }
    return Settings(
        values={"images": IMAGES[setup.profile], "resamples": RESAMPLES, "views": "the run's", **critic},
        precision="fp32",
    )


def run(context: Context) -> Result:
    """The bound on the reporting half, and the training log's."""
    from benchmarks.tasks.compute.features import labelled_images
    from benchmarks.tasks.compute.view_information import layers_of, log_bound, run_views
    from pretrain.information.shared import measure_shared

    stored, seed = context.checkpoint.stored, context.spec.seed
    views, resolved = run_views(stored), settings(Setup(profile=context.spec.profile))
    images, _ = labelled_images(context.root, "val")
    count = resolved.values["images"]
    layers = layers_of(stored, context.backbone(), images, context.spec.data_fingerprint, views, count, seed)
    found = measure_shared(layers, resamples=RESAMPLES, seed=seed)
    return Result(
        metrics={"shared": found.bound.value, "log": log_bound(stored, views.steps)},
        test_images=found.candidates,
        config=resolved.values
        | {"cap": found.cap, "view_information": dataclasses.asdict(found), "run_views": dataclasses.asdict(views)},
        precision=resolved.precision,
        notes=(f"I(v1; v2) is near {found.cap:.2f} nats, the most that the estimate can show",) if found.at_cap else (),
    )


TASK = Task(
    name="view-information",
    title="views",
    kind="frozen",
    layout="imagenet",
    version=2,
    metrics=(
        Metric(key="shared", label="I(v1;v2) ≥", unit="nats", decimals=2, higher_is_better=None),
        Metric(key="log", label="training log ≥", unit="nats", decimals=2, higher_is_better=None, shown=False),
    ),
    deterministic=False,
    reference="InfoNCE of a fitted critic between the views that the checkpoint was pretrained on, half of the images",
    settings=settings,
    run=run,
    check=check,
    own_runs=True,
    data="any ImageFolder's val split; ImageNet-1k's for paper, of which 10,000 images are drawn",
    cost=Cost(
        gpu_hours=0.1,
        disk_gb=0.2,
        how="20,000 forward passes and some hundred small fits, not measured; disk: their features",
    ),
)
