"""The downstream tasks as values: what is measured, its name in tables, the function that runs it. Imports no torch.

A new task is one entry in TASKS and one file with its runner, ``runner(context) -> Result`` (see benchmarks/run.py).
"""

from __future__ import annotations

import dataclasses


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
    """A downstream task. Raise ``version`` with any change that moves its numbers; the first protocol is the default.

    ``needs`` names the section of the data root it reads (imagenet, voc, coco). A deterministic task runs once and
    prints n = 1. ``metrics[0]`` is the primary one. ``runner`` is "module:function", imported where it runs.
    """

    name: str
    title: str
    needs: str
    version: int
    protocols: tuple[str, ...]
    metrics: tuple[Metric, ...]
    deterministic: bool
    reference: str
    runner: str

    def protocol_title(self, protocol: str) -> str:
        """Column heading of this task under ``protocol``, with the detector named where there are several."""
        return f"{self.title} {PROTOCOL_TITLES[protocol]}".strip()


PROTOCOL_TITLES = {
    "lbfgs": "",
    "lbfgs-10": "",
    "knn": "",
    "voc_c4_24k": "C4",
    "voc_fpn_24k": "FPN",
    "coco_fpn_1x": "FPN",
    "coco_c4_1x": "C4",
}

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
        version=1,
        protocols=("lbfgs",),
        metrics=(_TOP1, Metric(key="top5", label="top-5", shown=False)),
        deterministic=True,
        reference="logistic regression on frozen features, L-BFGS, as Kornblith et al. (arXiv 1805.08974), A.1",
        runner="benchmarks.linear:run_linear",
    ),
    Task(
        name="few-label",
        title="10 a class",
        needs="imagenet",
        version=1,
        protocols=("lbfgs-10",),
        metrics=(_TOP1,),
        deterministic=False,
        reference="as linear, on 10 training images a class drawn by the seed",
        runner="benchmarks.linear:run_few_label",
    ),
    Task(
        name="knn",
        title="kNN",
        needs="imagenet",
        version=1,
        protocols=("knn",),
        metrics=(_TOP1,),
        deterministic=True,
        reference="weighted k nearest neighbours of Wu et al. (arXiv 1805.01978), cosine similarity",
        runner="benchmarks.knn:run_knn",
    ),
    Task(
        name="voc-det",
        title="VOC",
        needs="voc",
        version=2,
        protocols=("voc_c4_24k", "voc_fpn_24k"),
        metrics=_BOX,
        deterministic=False,
        reference="He et al., MoCo (arXiv 1911.05722), table 2 and A.1; 11-point AP of VOC 2007, difficult ignored, "
        "mean over the classes with a test object",
        runner="benchmarks.detection:run_detection",
    ),
    Task(
        name="coco-seg",
        title="COCO",
        needs="coco",
        version=1,
        protocols=("coco_fpn_1x", "coco_c4_1x"),
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
        runner="benchmarks.detection:run_detection",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ROWS}
