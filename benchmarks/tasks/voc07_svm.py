"""VOC07 classification: one linear support vector machine per class on frozen features, as VISSL.

facebookresearch/vissl@09270ed, configs/config/benchmark/linear_image_classification/voc07/
eval_resnet_8gpu_transfer_voc07_svm.yaml with vissl/utils/svm_utils: the cost of each class is chosen by the average
precision over three folds of the training images; the metric is the mean over classes of the area under the
precision-recall curve. Images with only difficult objects of a class are trained on as negatives, in the folds too,
and are not tested on, as in train_cls and test there. Two departures: every fit goes to the optimum of LinearSVC's
problem (compute/svm.py) instead of liblinear's tolerance 1e-4 or 2,000 passes, and of VISSL's five layers there are the
last, res5 (8,192 numbers at 224 px), and the usual average pool. Goyal et al., arXiv 1905.01235, section 6.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task

if TYPE_CHECKING:
    from benchmarks.run import Context
    from benchmarks.tasks.compute.features import FeatureView

COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)
LAYERS = {"res5-2x2": "mAP", "avgpool": "avgpool/mAP"}
"""The metric of each layer; the first is VISSL's res5."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SvmConfig:
    """The settings of the fits, named as in VISSL and LinearSVC; a class's cost is multiplied by its weight.

    ``penalty``, ``loss`` and ``intercept_scaling`` say which problem is solved: compute/svm.py has no other. Features
    are divided by their norm + ``normalise_eps``. A fit ends when the gradient's norm is
    ``gradient_tolerance`` of that at weight 0, or unconverged after ``max_iterations`` steps of Newton's method.
    """

    costs: tuple[float, ...] = COSTS
    folds: int = 3
    penalty: str = "l2"
    loss: str = "squared_hinge"
    intercept_scaling: float = 1.0
    class_weight_positive: float = 2.0
    class_weight_negative: float = 1.0
    normalise_eps: float = 1e-5
    gradient_tolerance: float = 1e-8
    max_iterations: int = 200


def view_of(profile: str, layer: str) -> FeatureView:
    """The shorter side to 256 px, then both to 224 (of ``paper``; smaller in the others), as VISSL's two resizes."""
    from benchmarks.tasks.compute.features import FeatureView

    view = PROFILES[profile].view
    return FeatureView(resize=view.resize, crop=view.crop, squash_to_crop=True, layer=layer)  # type: ignore[arg-type]


def settings(setup: Setup) -> Settings:
    """The fits and the view, the same for both layers."""
    view = dataclasses.asdict(view_of(setup.profile, next(iter(LAYERS))))
    del view["layer"]
    rest = {"layers": tuple(LAYERS), "ignored_in_training": "negative", "ignored_in_test": "dropped"}
    return Settings(values={**dataclasses.asdict(SvmConfig()), **view, **rest}, precision="fp32")


def check(root: DataRoot, profile: str) -> None:
    """InputError where no class has enough images with and without it."""
    from benchmarks.tasks.compute.multilabel import usable

    usable(root, SvmConfig().folds)


def run(context: Context) -> Result:
    """Mean average precision in percent on the test images of both layers; predictions of the first."""
    from benchmarks.predictions import Predictions
    from benchmarks.tasks.compute import svm_runs
    from benchmarks.tasks.compute.multilabel import usable
    from transfer.checkpoints.two_encoders import PREFIX

    config, resolved = SvmConfig(), settings(Setup(profile=context.spec.profile))
    data = usable(context.root, config.folds)
    metrics: dict[str, float | None] = dict.fromkeys(LAYERS.values())
    notes, details, scores = list(data.notes), dict[str, Any](), None
    for layer, metric in LAYERS.items():
        if layer != "avgpool" and context.checkpoint.stored.architecture.startswith(PREFIX):
            notes.append("two encoders have no res5: only the average pool is measured")
            continue
        x = svm_runs.features(context, data, view_of(context.spec.profile, layer))
        found = svm_runs.classify(x, data, config, context.folder, layer)
        metrics[metric], details[layer] = found.mean, found.details
        notes += [f"{layer}: {note}" for note in found.notes]
        scores = found.scores if scores is None else scores
    svm_runs.clean(context.folder)
    return Result(
        metrics=metrics,
        test_images=len(data.test.images),
        config=resolved.values | {"svm": details},
        precision=resolved.precision,
        notes=tuple(notes),
        predictions=Predictions(target=data.test.labels, scores=scores),
    )


TASK = Task(
    name="voc07-svm",
    title="VOC07 SVM",
    kind="frozen",
    layout="voc",
    version=1,
    metrics=(
        Metric(key="mAP", label="mAP"),
        Metric(key="avgpool/mAP", label="mAP (avgpool)", shown=False),
    ),
    deterministic=True,
    reference="linear SVM per class on L2-normalised res5 features, facebookresearch/vissl (Goyal et al., 1905.01235)",
    settings=settings,
    run=run,
    published=Published(detector="linear SVM", schedule="", headings={"VOC07 SVM mAP": ("voc07_cls", "mAP")}),
    check=check,
    data="PASCAL VOC2007 trainval and test",
    settings_table="svm.vissl",
    cost=Cost(
        gpu_hours=0.15,
        disk_gb=1.3,
        how="2 x 9,963 images at 1,000 images/s and a minute of fits, not measured on a GPU (20 to 70 s per class "
        "and layer on one CPU core, perf svm); VOC2007 0.9 GB, features 0.4",
    ),
)
