"""The downstream tasks as values: what is measured, its name in tables, the function that runs it. Imports no torch.

A new task is one entry in TASKS and one module with two functions (see benchmarks/run.py): ``run(context) -> Result``,
and ``resolve(task, protocol, profile, num_gpus, opts) -> Resolved``, the settings that decide its numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a task. ``key`` is the evaluator's flattened key; values are percent, 0-100.

    ``shown``: in the table itself; the others are in its CSV only.
    """

    key: str
    label: str
    unit: str = "%"
    higher_is_better: bool = True
    decimals: int = 1
    shown: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A downstream task. Raise ``version`` with any change that moves its numbers; ``protocols`` are names
    with what a heading adds for them, the default first.

    ``needs`` names the section of the data root it reads (imagenet, voc, coco), of which it takes ``images_per_class``
    training images. A deterministic task runs once and prints n = 1. ``metrics[0]`` is the primary one. ``module`` is
    imported where it runs.
    """

    name: str
    title: str
    needs: str
    version: int
    protocols: Mapping[str, str]
    metrics: tuple[Metric, ...]
    deterministic: bool
    reference: str
    module: str
    images_per_class: int = 1

    @property
    def needs_masks(self) -> bool:
        """Whether it is about instance masks too."""
        return any(metric.key.startswith("segm/") for metric in self.metrics)

    def column_title(self, protocol: str) -> str:
        """Column heading of this task under ``protocol``, with the detector named where there are several."""
        return f"{self.title} {self.protocols[protocol]}".strip()


_TOP1 = Metric(key="top1", label="top-1")
_BOX = (
    Metric(key="bbox/AP", label="AP"),
    Metric(key="bbox/AP50", label="AP50"),
    Metric(key="bbox/AP75", label="AP75"),
)

_ROWS = (
    Task(
        name="linear",
        title="linear",
        needs="imagenet",
        version=2,
        protocols={"lbfgs": ""},
        metrics=(_TOP1, Metric(key="top5", label="top-5", shown=False)),
        deterministic=True,
        reference="logistic regression on frozen features, L-BFGS, as Kornblith et al. (arXiv 1805.08974), A.1",
        module="benchmarks.tasks.linear",
    ),
    Task(
        name="few-label",
        title="10 per class",
        needs="imagenet",
        version=2,
        protocols={"lbfgs-10": ""},
        metrics=(_TOP1,),
        deterministic=False,
        reference="as linear, on 10 training images per class drawn by the seed, decay 0.1",
        module="benchmarks.tasks.linear",
        images_per_class=10,
    ),
    Task(
        name="knn",
        title="kNN",
        needs="imagenet",
        version=2,
        protocols={"knn": ""},
        metrics=(_TOP1,),
        deterministic=True,
        reference="weighted k nearest neighbours of Wu et al. (arXiv 1805.01978), cosine similarity",
        module="benchmarks.tasks.knn",
    ),
    Task(
        name="voc-det",
        title="VOC",
        needs="voc",
        version=2,
        protocols={"voc_c4_24k": "C4", "voc_fpn_24k": "FPN"},
        metrics=_BOX,
        deterministic=False,
        reference="He et al., MoCo (arXiv 1911.05722), table 2 and A.1; 11-point AP of VOC 2007, difficult ignored, "
        "mean over the classes with a test object",
        module="benchmarks.tasks.detection",
    ),
    Task(
        name="coco-seg",
        title="COCO",
        needs="coco",
        version=1,
        protocols={"coco_fpn_1x": "FPN", "coco_c4_1x": "C4"},
        metrics=(
            Metric(key="bbox/AP", label="box AP"),
            Metric(key="segm/AP", label="mask AP"),
            *(
                Metric(key=f"{kind}/AP{overlap}", label=f"{word} AP{overlap}", shown=False)
                for kind, word in (("bbox", "box"), ("segm", "mask"))
                for overlap in (50, 75)
            ),
        ),
        deterministic=False,
        reference="He et al., MoCo (arXiv 1911.05722), table 5 and A.2",
        module="benchmarks.tasks.detection",
    ),
    Task(
        name="coco-det",
        title="COCO boxes",
        needs="coco",
        version=1,
        protocols={"coco_det_fpn_1x": "FPN", "coco_det_c4_1x": "C4"},
        metrics=_BOX,
        deterministic=False,
        reference="coco-seg's protocols without masks, for data sets that have none; COCO's box AP",
        module="benchmarks.tasks.detection",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ROWS}
