"""ssl-transfer's many-shot suite: logistic regression on frozen features, its decay chosen on a val part.

Ericsson et al., arXiv 2011.13377; linusericsson/ssl-transfer:linear.py. scikit-learn's L-BFGS at its default 100
iterations with warm starts, as published: most fits of a large set end there without having converged, so that the
numbers are also the solver's. Decays (1/C) are 45 powers of ten from 1e-6 to 1e5. Features are not normalised; images
are resized to 224 px bicubically and cropped. The metric is the set's published one: mean per-class accuracy or top-1
(`prepare torchvision` notes it), 11-point mAP on VOC2007; a user's ImageFolder has top-1. The val part is the published
one where there is one (`prepare torchvision` lists it), else a random fifth of train. It is the same for every seed.

The published numbers were made with scikit-learn 0.22. Of its behaviour two things are kept: it stops at a gradient of
1e-4 of the summed loss, where newer versions mean the average loss (compute/many_shot.py divides ``tol``), and its
multinomial model of two classes has a weight vector for each, so that C counts twice there. It also stopped when the
loss fell by less than 2.2e-9 of itself, which newer versions do not offer.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.run import Context
    from benchmarks.tasks.compute.features import FeatureView

GRID = {"smoke": 4, "demo": 12, "small": 23, "paper": 45}
"""Decays of each profile; the small profiles also have smaller images (profiles.py), and nothing else."""
MOST_IMAGES = 300_000  # of training: 5 GB of features in float64, and a fit takes minutes
SCORES = {"top1": "top-1", "mean-per-class": "mean per-class accuracy"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManyShotConfig:
    """Settings under the names of scikit-learn and of the published table.

    ``c_grid_points`` decays 1/C, from 10 to the power ``wd_log10_first`` to ``wd_log10_last``; ``tol`` of the gradient
    of the summed loss. Without a published val part ``val_fraction`` of train is held out, drawn by ``val_seed``.
    """

    c_grid_points: int
    wd_log10_first: float = -6.0
    wd_log10_last: float = 5.0
    solver: str = "lbfgs"
    penalty: str = "l2"
    max_iter: int = 100
    tol: float = 1e-4
    fit_intercept: bool = True
    warm_start: bool = True
    val_fraction: float = 0.2
    val_seed: int = 0


def config_of(profile: str) -> ManyShotConfig:
    """The settings of the fits under ``profile``."""
    return ManyShotConfig(c_grid_points=GRID[profile])


def settings(setup: Setup) -> Settings:
    """The settings of the fits and of the crop; in fp32, as the features are."""
    size = PROFILES[setup.profile].view.crop
    view = {"resize": size, "crop": size, "interpolation": "bicubic"}
    return Settings(values={**dataclasses.asdict(config_of(setup.profile)), **view}, precision="fp32")


def view_of(profile: str) -> FeatureView:
    """The crop of ``settings``."""
    from benchmarks.tasks.compute.features import FeatureView

    size = PROFILES[profile].view.crop
    return FeatureView(resize=size, crop=size, interpolation="bicubic")


def run(context: Context) -> Result:
    """The published metric, top-1 and mean per-class accuracy in percent on the test split."""
    from benchmarks.tasks.compute.many_shot import evaluate, held_out_rows

    config, profile = config_of(context.spec.profile), context.spec.profile
    resolved, section = settings(Setup(profile=profile)), context.root.section("imagenet")
    score, published = section.get("score", "top1"), "held_out" in section
    if score not in SCORES:
        raise InputError(
            f"{context.root.path}/data.json has the score {score!r}, not {' or '.join(SCORES)}: prepare it again"
        )
    found = context.features(view_of(profile))
    done = evaluate(found["train"], found["val"], held_out_rows(context.root, config), score, config, context.folder)
    chosen_on = "the published val part" if published else f"a random {config.val_fraction:.0%} of train"
    return Result(
        metrics=done.metrics,
        test_images=len(found["val"].y),
        config=resolved.values | {"score": score, "val_part": chosen_on} | done.settings,
        precision=resolved.precision,
        notes=(f"score is {SCORES[score]}, its decay chosen on {chosen_on}", *done.notes),
        predictions=done.predictions,
    )


def run_voc(context: Context) -> Result:
    """11-point mAP in percent on the test split."""
    from benchmarks.tasks.compute.many_shot import evaluate_labels
    from benchmarks.tasks.compute.many_shot_voc import read_parts, val_rows

    config, profile = config_of(context.spec.profile), context.spec.profile
    resolved = settings(Setup(profile=profile))
    parts = read_parts(context.root)
    found = {split: part.features(context, view_of(profile)) for split, part in parts.items()}
    out, chosen_on = val_rows(context.root, parts["train"], config)
    classes = context.root.section("voc")["classes"]
    done = evaluate_labels(found["train"], found["test"], out, classes, config, context.folder)
    return Result(
        metrics=done.metrics,
        test_images=len(found["test"].y),
        config=resolved.values | {"val_part": chosen_on} | done.settings,
        precision=resolved.precision,
        notes=done.notes,
        predictions=done.predictions,
    )


def check(root: DataRoot, profile: str) -> None:
    """InputError for a root of more than MOST_IMAGES training images."""
    count = root.section("imagenet")["counts"]["train"]
    if count > MOST_IMAGES:
        raise InputError(
            f"data set {root.name} has {count:,} training images, and many-shot (46 fits of scikit-learn) takes "
            f"at most {MOST_IMAGES:,}: use linear or linear-sgd there"
        )


def check_voc(root: DataRoot, profile: str) -> None:
    """InputError if no class is on some but not all training images and on a test image: no fit could be tested."""
    from benchmarks.tasks.compute.multilabel import PRESENT, labelled

    train, test = (labelled(root, split).labels == PRESENT for split in ("train", "test"))
    if not (train.any(0) & ~train.all(0) & test.any(0)).any():
        raise InputError(
            f"data set {root.name} has no class that is on some training images, not on all of them, and on a test "
            "image, which many-shot-voc07 needs: leave it out"
        )


CLASSIFICATION = (
    "Aircraft, Caltech101, Cars, CIFAR10, CIFAR100, DTD, Flowers, Food, Pets or SUN397 by `prepare torchvision`; "
    "any ImageFolder"
)
TASKS = (
    Task(
        name="many-shot",
        title="many-shot",
        kind="frozen",
        layout="imagenet",
        version=1,
        metrics=(
            Metric(key="score", label="score"),
            Metric(key="top1", label="top-1", shown=False),
            Metric(key="mean_per_class", label="mean per-class", shown=False),
        ),
        deterministic=True,
        reference="logistic regression by scikit-learn, 45 decays on val: linusericsson/ssl-transfer:linear.py (its "
        "readme.md: DeepCluster-v2 on CIFAR10 94.07, supervised 91.47)",
        settings=settings,
        run=run,
        check=check,
        data=CLASSIFICATION,
        settings_table="manyshot.settings",
        cost=Cost(
            gpu_hours=0.5,
            disk_gb=0.9,
            how="a guess for Food101, the largest: features of 101,000 images in minutes, then 46 fits of 100 steps "
            "on the CPU, 4 hours of one core (scaled from 4.4 s for 8,000 images of 10 classes)",
        ),
    ),
    Task(
        name="many-shot-voc07",
        title="VOC07 many-shot",
        kind="frozen",
        layout="voc",
        version=1,
        metrics=(Metric(key="map", label="mAP"),),
        deterministic=True,
        reference="a logistic regression per class by scikit-learn, 11-point mAP: "
        "linusericsson/ssl-transfer:linear.py, datasets/voc2007.py",
        settings=settings,
        run=run_voc,
        check=check_voc,
        data="PASCAL VOC2007 by `prepare voc` or `prepare torchvision VOC2007`; any VOC root",
        settings_table="manyshot.voc2007",
        cost=Cost(
            gpu_hours=0.1,
            disk_gb=0.1,
            how="a guess: features of 9,963 images in seconds, then 920 fits of 100 iterations on the CPU",
        ),
    ),
)
