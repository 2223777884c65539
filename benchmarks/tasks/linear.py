"""Linear evaluation: logistic regression on frozen features, L-BFGS to its optimum (compute/logistic.py)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Result, Settings, Setup, Task

if TYPE_CHECKING:
    from benchmarks.run import Context

TOP1 = Metric(key="top1", label="top-1")
IMAGENET = "ImageNet-1k: train (1,281,167 images), val (50,000); 144 GB"
EXTRACTION = "1.33 million images at an assumed 1,000 images/s (ResNet-50, 224 px, fp32, A100)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """``decays`` are L2 weights on ½‖W‖² beside the mean cross-entropy, the largest first; a single one is fixed.

    A fit ends when no entry of the gradient exceeds ``tolerance``, nor ``tolerance_per_decay`` times the decay (at the
    optimum the two parts of the gradient cancel, and the decay's part is decay·W: an absolute tolerance above it would
    call any start converged; float64 does not reach a hundredth of the smallest decays), or unconverged after
    ``max_iterations``. The search for a decay ends after ``patience`` decays in a row that are not better than the best
    before them. ``labels_per_class``: as many rows per class, drawn by the seed; None: all.
    """

    decays: tuple[float, ...]
    tolerance: float = 1e-5
    tolerance_per_decay: float = 0.05
    max_iterations: int = 2000
    patience: int = 4
    labels_per_class: int | None = None

    def gradient_at(self, decay: float) -> float:
        """The largest entry of the gradient at which a fit with ``decay`` ends."""
        return min(self.tolerance, self.tolerance_per_decay * decay)


def linear_config(profile: str) -> LinearConfig:
    """The grid of decays and the tolerance of ``profile``, on all labels."""
    return LinearConfig(decays=PROFILES[profile].decays, tolerance=PROFILES[profile].tolerance)


def logistic_settings(config: LinearConfig, profile: str) -> Settings:
    """The settings of a fit and of the evaluation crop; in fp32, as the features are."""
    return Settings(
        values={**dataclasses.asdict(config), **dataclasses.asdict(PROFILES[profile].view)}, precision="fp32"
    )


def evaluate_features(context: Context, config: LinearConfig) -> Result:
    """Fit ``config`` on the features of the training split, and test on those of the val split."""
    from benchmarks.tasks.compute.logistic import evaluate

    found, settings = context.features(), logistic_settings(config, context.spec.profile)
    done = evaluate(found["train"], found["val"], config, context.spec.seed)
    return Result(
        metrics=done.metrics,
        test_images=len(found["val"].y),
        config=settings.values | done.settings,
        precision=settings.precision,
        notes=done.notes,
        predictions=done.predictions,
    )


def settings(setup: Setup) -> Settings:
    """On all labels."""
    return logistic_settings(linear_config(setup.profile), setup.profile)


def run(context: Context) -> Result:
    """Top-1 and, with more than five classes, top-5 in percent."""
    return evaluate_features(context, linear_config(context.spec.profile))


TASK = Task(
    name="linear",
    title="linear",
    kind="frozen",
    layout="imagenet",
    version=3,
    metrics=(TOP1, Metric(key="top5", label="top-5", shown=False)),
    deterministic=True,
    reference="logistic regression on frozen features, L-BFGS, as Kornblith et al. (arXiv 1805.08974), A.1",
    settings=settings,
    run=run,
    data=IMAGENET,
    cost=Cost(
        gpu_hours=1.9,
        disk_gb=10.9,
        how=f"0.4 h: {EXTRACTION}; 1.5 h: 5,000 evaluations of 1.05e13 float64 operations at an assumed 1e13/s (A100), "
        "as many as the demo takes; nothing measured; disk: the features, shared by all tasks of this view",
    ),
)
