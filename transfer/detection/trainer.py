"""Fine-tune and test one detector: ``train_and_test`` runs the config of ``config.build_cfg`` and returns flat metrics.

``python -m benchmarks run --task voc-fpn-24k …`` calls both. Output folder: log.txt (detectron2's log), metrics.json
(losses, one line per 20 iterations and one at the end), detections/ and matches-*.npz (evaluation/), predictions.json,
and at paper scale config.yaml and checkpoints. The data sets in cfg.DATASETS must be registered already. For several
GPUs call train_and_test in each process of detectron2's ``launch``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter
from torch import nn

from pretrain.common.device import has_bf16
from pretrain.common.errors import InputError, RunError, in_one_line
from transfer.checkpoints.converted import ConvertedWeights
from transfer.detection.checks import assert_backbone_loaded, assert_trainable
from transfer.detection.evaluation import choose
from transfer.detection.predictions import KeepPredictions
from transfer.detection.progress import Progress
from transfer.detection.resume import clear, clear_checkpoints, latest_readable

Metrics = dict[str, float | None]


class Diverged(RunError):
    """The loss is not finite: a search counts the candidate as the worst."""


class Trainer(DefaultTrainer):
    """detectron2's trainer with the config's optimiser and precision, and without evaluation during training."""

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector; on the CPU in channels_last, and under bf16 autocast if the config and the CPU allow it."""
        model = super().build_model(cfg)
        if precision(cfg) == "bf16":
            # Around forward, not around the step: the backward pass must not run under autocast.
            model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
        # detectron2's loss of keypoints wants their maps in the order of contiguous tensors.
        fits = cfg.MODEL.DEVICE == "cpu" and not cfg.MODEL.KEYPOINT_ON
        return model.to(memory_format=torch.channels_last) if fits else model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SGD as detectron2 builds it, or AdamW with the same parameter groups and clipping."""
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        if cfg.SOLVER.OPTIMIZER != "AdamW":
            raise InputError(f"SOLVER.OPTIMIZER {cfg.SOLVER.OPTIMIZER}: choose SGD or AdamW")
        groups = get_default_optimizer_params(
            model, base_lr=cfg.SOLVER.BASE_LR, weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM
        )
        adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
        return adamw(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY, fused=True)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The data set's evaluator, and KeepPredictions."""
        folder = Path(cfg.OUTPUT_DIR)
        evaluator = choose.evaluator(cfg, dataset_name, folder)
        return DatasetEvaluators([evaluator, KeepPredictions(folder / "predictions.json")])

    def build_hooks(self) -> list[hooks.HookBase]:
        """detectron2's hooks, plus progress on stderr, without evaluation.

        Checkpoints only with KEEP_FILES (all) or RESUME (the last two, until the run has been tested).
        """
        keep, resume = self.cfg.TRANSFER.KEEP_FILES, self.cfg.TRANSFER.RESUME
        found: list[hooks.HookBase] = []
        for hook in super().build_hooks():
            if isinstance(hook, hooks.PeriodicCheckpointer):
                hook.max_to_keep = None if keep else 2
                found += [hook] if keep or resume else []
            elif hook is not None and not isinstance(hook, hooks.EvalHook):
                found.append(hook)
        return [*found, Progress()] if comm.is_main_process() else found

    def build_writers(self) -> list[EventWriter]:
        """Writers of the log and of one JSON line per 20 iterations."""
        return [CommonMetricPrinter(self.max_iter), JSONWriter(str(Path(self.cfg.OUTPUT_DIR) / "metrics.json"))]


def precision(cfg: CfgNode) -> str:
    """The detector's precision: fp16 (GPU, SOLVER.AMP), bf16 (able CPU, TRANSFER.CPU_BF16), tf32 or fp32.

    tf32: torch lets cuDNN's convolutions round fp32 inputs to it on GPUs from Ampere on, and detectron2 leaves it so.
    """
    if cfg.MODEL.DEVICE != "cpu":
        if cfg.SOLVER.AMP.ENABLED:
            return "fp16"
        able = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        return "tf32" if able and torch.backends.cudnn.allow_tf32 else "fp32"
    return "bf16" if cfg.TRANSFER.CPU_BF16 and has_bf16(torch.device("cpu")) else "fp32"


def train_and_test(cfg: CfgNode, converted: ConvertedWeights) -> tuple[Metrics, dict[str, Any]]:
    """Train from ``converted`` as ``cfg`` says, and test once after the last iteration.

    Returns the metrics, {"bbox/AP": percent or None, …}, and the facts of the run: precision, resumed_at,
    tensors_equal, trainable_backbone_tensors, train_seconds, test_seconds, classes_tested (classes with a test object),
    coco_engine (the evaluating package and its version; None on VOC).
    Both are empty on ranks other than 0. InputError when the converted file was replaced.
    RunError when a backbone tensor was not loaded bit for bit or when other parameters train than FREEZE_AT says;
    Diverged when the loss is not finite. A run with TRANSFER.RESUME continues from its last readable checkpoint
    (detectron2 restarts the data order then), which is deleted after the test without KEEP_FILES; others start anew.
    """
    if comm.get_world_size() != max(1, cfg.TRANSFER.NUM_GPUS):
        raise RunError(f"the config is for {cfg.TRANSFER.NUM_GPUS} GPUs, but {comm.get_world_size()} processes run")
    output = Path(cfg.OUTPUT_DIR)
    output.mkdir(parents=True, exist_ok=True)
    engine = choose.engine(MetadataCatalog.get(cfg.DATASETS.TEST[0]).evaluator_type)  # InputError before the training
    with _logging_to(output / "log.txt"):
        seed_all_rng(cfg.SEED + comm.get_rank() if cfg.SEED >= 0 else None)
        started = time.perf_counter()
        arrays = converted.arrays()  # InputError if the file is not the converted one: detectron2 would run its code
        resume = bool(cfg.TRANSFER.RESUME and latest_readable(output))
        comm.synchronize()  # every rank has looked before rank 0 clears
        if comm.is_main_process() and not resume:
            clear(output)
        trainer = Trainer(cfg)  # opens metrics.json
        if comm.is_main_process() and cfg.TRANSFER.KEEP_FILES:
            (output / "config.yaml").write_text(cfg.dump(), encoding="utf-8")  # records the input that the weights need
        facts = _start(trainer, arrays, resume)
        _train(trainer)
        trained = time.perf_counter()
        results = Trainer.test(cfg, trainer.model)
    if not comm.is_main_process():
        return {}, {}
    if not cfg.TRANSFER.KEEP_FILES:
        clear_checkpoints(output)
    facts |= {"train_seconds": trained - started, "test_seconds": time.perf_counter() - trained}
    facts |= {"classes_tested": choose.classes_tested(cfg.DATASETS.TEST[0]), "coco_engine": engine}
    return flat_metrics(results), facts


def require_buildable(cfg: CfgNode) -> None:
    """InputError where detectron2 cannot build the detector, its optimiser and its schedule from --opts."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    try:
        model = Trainer.build_model(cfg)
        Trainer.build_lr_scheduler(cfg, Trainer.build_optimizer(cfg, model))
    except Exception as error:  # wrong values raise many types
        if in_one_line(error):  # an InputError, or too little memory
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"--opts: detectron2 rejects them for {cfg.TRANSFER.PROTOCOL} ({reason[:200]})") from error


def flat_metrics(results: Mapping[str, Mapping[str, float]]) -> Metrics:
    """{"bbox/AP": percent, …} without the values per category; undefined values (NaN, −1) are None.

    COCO's evaluator gives only NaN if there is no detection at all: AP, AP50 and AP75 are then 0, since prepared test
    sets have ground truth, and those by object size stay None.
    """
    metrics: Metrics = {}
    for task, values in results.items():
        nothing_found = all(math.isnan(value) for value in values.values())
        for key, value in flatten_results_dict({task: values}).items():
            if "-" in key:
                continue
            undefined = math.isnan(value) or value < 0
            zero = nothing_found and key.split("/")[1] in ("AP", "AP50", "AP75")
            metrics[key] = 0.0 if zero else None if undefined else float(value)
    return metrics


def _start(trainer: Trainer, arrays: dict[str, np.ndarray], resume: bool) -> dict[str, Any]:
    """Load the weights, whose tensors are ``arrays``, or the last checkpoint; return the facts of the run."""
    cfg, model = trainer.cfg, trainer.checkpointer.model
    facts: dict[str, Any] = {"precision": precision(cfg), "resumed_at": None, "tensors_equal": None}
    if resume:
        trainer.resume_or_load(resume=True)
        facts["resumed_at"] = trainer.start_iter
    else:
        DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
        facts["tensors_equal"] = assert_backbone_loaded(model, arrays, cfg.MODEL.WEIGHTS)
    facts["trainable_backbone_tensors"] = len(assert_trainable(model, cfg))
    return facts


def _train(trainer: Trainer) -> None:
    try:
        trainer.train()
    except FloatingPointError as error:
        reason = str(error).splitlines()[0]
        raise Diverged(f"{trainer.cfg.OUTPUT_DIR}: {reason} Lower SOLVER.BASE_LR or check the checkpoint") from None


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send detectron2's and fvcore's log, and pycocotools' output, to ``path`` instead of the terminal."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "py.warnings", "torch.fx._symbolic_trace")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    name = path if comm.is_main_process() else path.with_name(f"{path.name}.rank{comm.get_rank()}")
    with name.open("a", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, (level, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate
