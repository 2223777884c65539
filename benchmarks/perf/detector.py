"""Training iterations of a detector: our trainer beside detectron2's DefaultTrainer, on the same config and batches.

Run: ``python -m benchmarks.perf detector``; on a GPU, at full size: ``--protocol voc_c4_24k --size 0``.

Both sides start from the same weights and see the same images, held in memory; every round times both, in alternating
order, and the ratio is that of each pair. On the CPU they have one thread and seconds are the processor's, since other
work moves the wall clock. Reading is the same code on both sides and is measured by itself. Goal: 1.0 × or more.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from PIL import Image

from benchmarks.perf.timing import processor, write_photographs
from pretrain.common.errors import InputError
from transfer.detection.config import resolved_protocol
from transfer.detection.trainer import Trainer, precision

OBJECTS = 6  # per image, about COCO's mean
CLASSES = 20
FUSED = "ours, SGD fused"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """A detector's training iterations beside detectron2's own. The defaults fit a CPU."""

    protocol: str = "voc_fpn_24k"
    """A protocol of transfer/detection/protocols, profile paper."""
    size: int = 128
    """Shorter side of the images in pixels; 0: the protocol's own sizes."""
    batch: int = 2
    """Images per iteration."""
    images: int = 8
    """Photographs of 500×375; they are drawn anew at other sizes for each batch."""
    iterations: int = 2
    """Per side and round."""
    rounds: int = 7
    fused: bool = False
    """Also time our side with torch's fused SGD."""


def measure(arguments: Arguments) -> str:
    """Seconds per iteration of each side, the ratio of each to detectron2's with its spread, the share of reading."""
    if min(arguments.batch, arguments.images, arguments.iterations, arguments.rounds) < 1 or arguments.size < 0:
        raise InputError("--batch, --images, --iterations and --rounds are 1 or more, --size 0 or more")
    quiet = logging.getLogger("detectron2")
    quiet.setLevel(logging.INFO)  # at any higher level DefaultTrainer sets up a log of its own, on the standard output
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # threads that wait for each other count as work
    with tempfile.TemporaryDirectory() as folder, registered(Path(folder), arguments.images) as name:
        cfg = config(arguments, name, Path(folder))
        trainers = {"detectron2's DefaultTrainer": DefaultTrainer(cfg), "ours": Trainer(cfg)}
        if arguments.fused:
            trainers[FUSED] = _fused(cfg)
        batches, reading = read(trainers["ours"], arguments.iterations)
        seconds, first = time_rounds(trainers, batches, arguments, cfg)
    return report(arguments, cfg, seconds, first, reading)


def config(arguments: Arguments, name: str, folder: Path) -> CfgNode:
    """The protocol's config on one GPU or the CPU, with its SGD at its first rate, as a paper run has it."""
    size = ["INPUT.MIN_SIZE_TRAIN", f"({arguments.size},)", "INPUT.MAX_SIZE_TRAIN", str(arguments.size * 5 // 3)]
    opts = [*(size if arguments.size else []), "SOLVER.IMS_PER_BATCH", str(arguments.batch)]
    opts += ["DATALOADER.NUM_WORKERS", "0"]
    cfg = resolved_protocol(arguments.protocol, "paper", int(torch.cuda.is_available()), opts)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = CLASSES
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, cfg.SEED = "", str(folder), 0
    return cfg


@contextmanager
def registered(folder: Path, images: int) -> Iterator[str]:
    """The name of ``images`` photographs in ``folder`` with OBJECTS random boxes and polygons each."""
    write_photographs(folder, images)
    rng, records = np.random.default_rng(0), []
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        with Image.open(path) as picture:
            width, height = picture.size
        annotations = []
        for _ in range(OBJECTS):
            x, y = rng.uniform(0, 0.7, 2) * (width, height)
            w, h = rng.uniform(0.1, 0.3, 2) * (width, height)
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            box = {"bbox": [x, y, w, h], "bbox_mode": BoxMode.XYWH_ABS, "segmentation": [outline], "iscrowd": 0}
            annotations.append(box | {"category_id": int(rng.integers(CLASSES))})
        about = {"file_name": str(path), "image_id": number, "width": width, "height": height}
        records.append(about | {"annotations": annotations})
    name = f"perf-{os.getpid()}-{folder.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(evaluator_type="coco", thing_classes=[str(one) for one in range(CLASSES)])
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def _fused(cfg: CfgNode) -> Trainer:
    """Our trainer with torch's fused SGD: the same step, in one kernel."""
    trainer = Trainer(cfg)
    for group in trainer.optimizer.param_groups:
        group["foreach"], group["fused"] = False, True
    return trainer


def read(trainer: DefaultTrainer, count: int) -> tuple[list[Any], float]:
    """``count`` batches, and the seconds that a batch takes to be read in this process."""
    loader = iter(trainer.data_loader)
    next(loader)
    began = time.process_time()
    batches = list(islice(loader, count))
    return batches, (time.process_time() - began) / count


def time_rounds(
    trainers: dict[str, DefaultTrainer], batches: list[Any], arguments: Arguments, cfg: CfgNode
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds per iteration of each side by round, after one round that warms up; the first total loss of each."""
    weights = next(iter(trainers.values())).checkpointer.model.state_dict()
    for trainer in trainers.values():
        trainer.checkpointer.model.load_state_dict(weights)
        trainer._trainer.reset_data_loader(lambda: cycle(batches))
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    first: dict[str, float] = {}
    for turn in range(arguments.rounds + 1):
        names = list(trainers)[:: 1 if turn % 2 else -1]
        for name in names:
            torch.manual_seed(turn)  # both draw the same proposals
            with EventStorage(0) as storage:
                taken = _timed(lambda trainer=trainers[name]: _steps(trainer, arguments.iterations), cfg)  # type: ignore[misc]
                first.setdefault(name, storage.history("total_loss").values()[0][0])
            if turn:
                seconds[name].append(taken / arguments.iterations)
        print(f"round {turn} of {arguments.rounds}", file=sys.stderr)
    return seconds, first


def _steps(trainer: DefaultTrainer, count: int) -> None:
    for number in range(count):
        trainer.iter = number
        trainer.run_step()


def _timed(work: Callable[[], None], cfg: CfgNode) -> float:
    on_gpu = cfg.MODEL.DEVICE != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    began = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def report(
    arguments: Arguments, cfg: CfgNode, seconds: dict[str, list[float]], first: dict[str, float], reading: float
) -> str:
    """The table."""
    on_gpu = cfg.MODEL.DEVICE != "cpu"
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} thread(s) of {processor()}"
    size = f"{arguments.size} px" if arguments.size else "the protocol's sizes"
    clock = "of the wall clock" if on_gpu else "of the processor"
    title = f"{arguments.protocol}, {size}, batch {arguments.batch}, {precision(cfg)}, on {where}; seconds {clock}"
    theirs, *_ = seconds
    lines = [title]
    for name, values in seconds.items():
        ratios = sorted(one / own for one, own in zip(seconds[theirs], values, strict=True))
        spread = f"{statistics.median(ratios):6.2f}× ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"{name:32}{statistics.median(values):8.3f} s/iteration {spread}")
    apart = max(abs(one - first[theirs]) / abs(first[theirs]) for one in first.values())
    share = reading / statistics.median(seconds["ours"])
    lines.append(f"first loss {first[theirs]:.4f}, at most {apart:.1e} of it apart")
    lines.append(
        f"reading a batch takes {reading:.3f} s of a processor, {share:.1%} of our iteration, in other processes"
    )
    return "\n".join(lines)
