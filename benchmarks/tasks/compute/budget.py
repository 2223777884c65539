"""The expected cost of a detector's run under profile small, in words, from a few of its own training iterations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from detectron2.config import CfgNode

from benchmarks.data.facts import training_facts
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore, RunSpec
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute.detector import config_of, converted_at
from benchmarks.tasks.compute.timed import timing_of
from transfer.detection.fitted import BATCH, EPOCHS, DataFacts
from transfer.detection.search import search_of

TIMED = 2  # iterations, after one that warms up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What one run of ``task`` will be, in words, and its expected ``seconds``."""

    task: str
    text: str
    seconds: float


def budgets(detectors: list[tuple[Path, RunSpec, DataRoot]], num_gpus: int) -> list[Budget]:
    """The budget of a run of each (converted weights, spec, data) of profile small, timed here one after the other."""
    return [_budget(*one, num_gpus) for one in detectors]


def _budget(pkl: Path, spec: RunSpec, root: DataRoot, num_gpus: int) -> Budget:
    layout = TASKS[spec.task].layout
    data, facts = register(root, layout), training_facts(root, layout)
    cfg = config_of(spec, converted_at(pkl), data, ResultsStore().working_folder(spec), num_gpus, facts)
    timing = timing_of(pkl, spec, root, num_gpus, TIMED)
    search = search_of(spec.overrides)
    text = f"{spec.task} on {root.name}: {described(cfg, facts, timing.seconds_per_iteration)}"
    text += f", {timing.trainings} trainings ({search.title})" if search else ""
    return Budget(task=spec.task, text=text, seconds=timing.seconds)


def described(cfg: CfgNode, facts: DataFacts, pace: float) -> str:
    """Sizes, schedule and pace (seconds per iteration) of a run in one line."""
    anchors = [side for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES for side in level]
    epochs = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / facts.images
    drawn = ", of which it draws some," if "SUBSET" in cfg.TRANSFER else ""
    schedule = f"{epochs:.3g} epochs of {facts.images:,} images{drawn} = {cfg.SOLVER.MAX_ITER:,} iterations"
    usual = "" if round(epochs) == EPOCHS and cfg.SOLVER.IMS_PER_BATCH == BATCH else f" (instead of {EPOCHS} epochs)"
    where = "this GPU" if cfg.MODEL.DEVICE != "cpu" else "one thread of this CPU"
    return (
        f"images of {cfg.INPUT.MIN_SIZE_TEST} px, anchors of {min(anchors)} to {max(anchors)} px, "
        f"{schedule}{usual}, {pace:.2g} s each on {where}"
    )
