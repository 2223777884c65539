"""VOC07 classification by linear support vector machines on few images per class, drawn by the seed, as VISSL.

facebookresearch/vissl@09270ed, configs/config/benchmark/low_shot_transfer/voc07/
eval_resnet_8gpu_transfer_voc07_low_shot_svm.yaml with extra_scripts/create_low_shot_samples.py and
vissl/utils/svm_utils/svm_low_shot_trainer.py: k images with a class and (classes − 1)·k without it, drawn for each
class and k; one cost for all classes, the best on the *test* images. VISSL takes the cost that is best on average over
its five draws; a seed is one draw here and takes its own best: the record's config has the test mAP of every cost, so
that the published aggregate can be computed from five records. The fits are those of voc07-svm, without folds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from benchmarks.tasks.voc07_svm import SvmConfig

if TYPE_CHECKING:
    from benchmarks.run import Context
    from benchmarks.tasks.compute.features import FeatureView
    from benchmarks.tasks.compute.multilabel import VocImages

SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
SHOWN = (1, 4, 16, 96)
DRAWS = 5  # published


def view_of(profile: str) -> FeatureView:
    """224 px squares (of ``paper``) by one resize: unlike voc07-svm's, VISSL's file has no first one to 256."""
    from benchmarks.tasks.compute.features import FeatureView

    size = PROFILES[profile].view.crop
    return FeatureView(resize=size, crop=size, squash=True, layer="res5-2x2")


def settings(setup: Setup) -> Settings:
    """The fits, the draws and the view."""
    fits = dataclasses.asdict(SvmConfig())
    del fits["folds"]
    rest = {"shots": SHOTS, "negatives_per_shot": "classes - 1", "cost_selection": "test", "ignored": "dropped"}
    return Settings(values={**fits, **dataclasses.asdict(view_of(setup.profile)), **rest}, precision="fp32")


def check(root: DataRoot, profile: str) -> None:
    """InputError where no class has an image with and one without it in both splits."""
    from benchmarks.tasks.compute.multilabel import usable

    usable(root, 1)


def run(context: Context) -> Result:
    """mAP in percent for every number of shots that all counted classes have; predictions of the largest."""
    from benchmarks.predictions import Predictions
    from benchmarks.tasks.compute import svm_runs
    from benchmarks.tasks.compute.multilabel import usable

    data, config, resolved = usable(context.root, 1), SvmConfig(), settings(Setup(profile=context.spec.profile))
    x = svm_runs.features(context, data, view_of(context.spec.profile))
    runs = svm_runs.LowShotRuns(x, data, config, context.folder)
    most, negatives = available(data)
    metrics: dict[str, float | None] = dict.fromkeys(map(key, SHOTS))
    details, last, factor = dict[str, Any](), None, factor_of(len(data.names))
    for shots in (one for one in SHOTS if one <= most):
        last = runs.run(shots, factor * shots, context.spec.seed)
        metrics[key(shots)] = float(last.means.max())
        details[str(shots)] = {"cost": last.cost, "mAP": dict(zip(map(str, config.costs), last.means, strict=True))}
    svm_runs.clean(context.folder)
    assert last is not None  # a counted class has an image
    return Result(
        metrics=metrics,
        test_images=len(data.test.images),
        config=resolved.values | {"svm": details},
        precision=resolved.precision,
        notes=(*data.notes, *notes(most, negatives, factor)),
        predictions=Predictions(target=data.test.labels, scores=last.scores),
    )


def key(shots: int) -> str:
    """The metric of a number of shots."""
    return f"{shots}-shot/mAP"


def factor_of(classes: int) -> int:
    """How many images without a class are drawn for each with it."""
    return max(1, classes - 1)


def available(data: VocImages) -> tuple[int, int]:
    """The fewest training images with, and without, a class that counts."""
    labels = data.train.labels[:, data.counted]
    return int((labels == 1).sum(0).min()), int((labels == 0).sum(0).min())


def notes(most: int, negatives: int, factor: int) -> list[str]:
    """The choice of the cost, and the draws that the data are too few for."""
    found = ["the cost of each number of shots is the best on the test images, as published, but of its draw alone"]
    if most < SHOTS[-1]:
        left = ", ".join(str(shots) for shots in SHOTS if shots > most)
        found.append(f"a class has {most} training images: not measured are {left} shots")
    if negatives < factor * min(most, SHOTS[-1]):
        found.append(f"a class has {negatives} training images without it, fewer than {factor} per shot: all are taken")
    return found


TASK = Task(
    name="voc07-low-shot",
    title="VOC07 low-shot",
    kind="frozen",
    layout="voc",
    version=1,
    metrics=tuple(Metric(key=key(shots), label=f"{shots}-shot mAP", shown=shots in SHOWN) for shots in SHOTS),
    deterministic=False,
    reference=f"linear SVM per class on k images with it, (classes - 1)k without; {DRAWS} draws; VISSL's",
    settings=settings,
    run=run,
    check=check,
    data="PASCAL VOC2007 trainval and test; five seeds are the published number of draws",
    settings_table="lowshot.vissl",
    cost=Cost(
        gpu_hours=0.05,
        disk_gb=1.2,
        how="9,963 images at 1,000 images/s and a minute of fits per seed, not measured on a GPU (4 minutes on one CPU "
        "core); VOC2007 0.9 GB, features 0.3",
    ),
)
