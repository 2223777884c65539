"""The expected hours, memory and disk of a detector's run: some of its own iterations and test images, at full size.

The weights are the checkpoint's, the data the user's, the processes as many as the run's. Nothing is kept.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from benchmarks.data.registration import Registered, register
from benchmarks.data.root import DataRoot
from benchmarks.estimate import Timing
from benchmarks.executors.process import fork_loaders
from benchmarks.records import RunSpec
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute.detector import config_of, converted_at, facts_for
from pretrain.common.files import write_json
from pretrain.common.plugins import load_plugins
from transfer.detection.search import search_of
from transfer.detection.trainer import Trainer

WARM, LEAST, MOST = 1, 2, 10  # iterations: not timed; timed at least, and at most
LONGEST = 60.0  # seconds after which LEAST are enough
FORWARD = 1 / 3  # of an iteration's time
TESTED = 3  # images, after one that warms up


def time_detectors(detectors: list[tuple[Path, RunSpec, DataRoot]], num_gpus: int) -> list[dict[str, Any]]:
    """The Timing of a run of each (converted weights, spec, data), one after the other, as plain values."""
    return [dataclasses.asdict(timing_of(*one, num_gpus)) for one in detectors]


def timing_of(pkl: Path, spec: RunSpec, root: DataRoot, num_gpus: int, most: int = MOST) -> Timing:
    """The Timing of a run from these converted weights on ``root``, from ``most`` iterations at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if num_gpus <= 1:
            _work(pkl, spec, root, num_gpus, folder, most)
        else:
            launch(_work_of_several, num_gpus, dist_url="auto", args=(pkl, spec, root, num_gpus, folder, most))
        found: dict[str, Any] = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
    return Timing(**found)


def _work_of_several(pkl: Path, spec: RunSpec, root: DataRoot, num_gpus: int, folder: Path, most: int) -> None:
    fork_loaders()
    _work(pkl, spec, root, num_gpus, folder, most)


def _work(pkl: Path, spec: RunSpec, root: DataRoot, num_gpus: int, folder: Path, most: int) -> None:
    """Time one process's part; the first one writes timing.json."""
    load_plugins()
    layout = TASKS[spec.task].layout
    data, facts = register(root, layout), facts_for(spec.profile, root, layout)
    cfg = config_of(spec, converted_at(pkl), data, folder, num_gpus, facts)
    trainer = Trainer(cfg)
    DetectionCheckpointer(trainer.checkpointer.model).load(cfg.MODEL.WEIGHTS)
    training = seconds_per_iteration(trainer, most)
    testing = seconds_per_image(trainer)
    if comm.is_main_process():
        write_json(folder / "timing.json", dataclasses.asdict(_timing(spec, root, trainer, data, training, testing)))
    comm.synchronize()


def _timing(
    spec: RunSpec, root: DataRoot, trainer: Trainer, data: Registered, training: float, testing: float
) -> Timing:
    cfg = trainer.cfg
    search = search_of(spec.overrides)
    trainings = 1 + len(search.candidates()) if search else 1
    tested = data.test_images / comm.get_world_size() * testing
    seconds = training * (cfg.SOLVER.MAX_ITER + FORWARD * cfg.TEST.PRECISE_BN.NUM_ITER) + tested
    saved = cfg.SOLVER.MAX_ITER // cfg.SOLVER.CHECKPOINT_PERIOD + 1 if cfg.TRANSFER.KEEP_FILES else 0
    return Timing(
        task=spec.task,
        data=root.name,
        device=torch.cuda.get_device_name() if cfg.MODEL.DEVICE != "cpu" else "cpu",
        processes=comm.get_world_size(),
        iterations=cfg.SOLVER.MAX_ITER,
        seconds_per_iteration=training,
        seconds_per_test_image=testing,
        trainings=trainings,
        seconds=trainings * seconds,
        memory_gib=peak_memory(cfg),
        disk_gb=trainings * saved * checkpoint_bytes(trainer) / 1e9,
    )


def seconds_per_iteration(trainer: Trainer, most: int) -> float:
    """Mean wall seconds of an iteration, reading images included; LEAST to ``most`` are timed after WARM."""
    count, began = 0, 0.0
    with EventStorage(0):
        for number in range(WARM + most):
            if number == WARM:
                began = _now(trainer.cfg)
            trainer.iter = number
            trainer.run_step()
            count = number + 1 - WARM
            late = count >= LEAST and _now(trainer.cfg) - began > LONGEST
            if any(comm.all_gather(late)):  # together, or one would wait for the others' gradients
                break
    return (_now(trainer.cfg) - began) / count


def seconds_per_image(trainer: Trainer) -> float:
    """Mean wall seconds of one process for a test image, reading included."""
    model, cfg = trainer.checkpointer.model.eval(), trainer.cfg
    images: Iterator[Any] = iter(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]))
    began, count = _now(cfg), 0
    with torch.no_grad():
        for number, batch in enumerate(islice(images, 1 + TESTED)):
            model(batch)
            if number == 0:
                began = _now(cfg)
            count = number
    return (_now(cfg) - began) / max(1, count)


def peak_memory(cfg: CfgNode) -> float:
    """GiB that this process took at most: of its GPU, or of the machine's memory."""
    if cfg.MODEL.DEVICE != "cpu":
        return float(torch.cuda.max_memory_reserved() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def checkpoint_bytes(trainer: Trainer) -> int:
    """Of a saved checkpoint: parameters, buffers, and the optimiser's state after a step."""
    kept = [*trainer.checkpointer.model.state_dict().values()]
    kept += [value for state in trainer.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def _now(cfg: CfgNode) -> float:
    if cfg.MODEL.DEVICE != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()
