"""Detection and instance segmentation on a data root, with detectron2: register the data, train, test once.

One process per GPU if there are several; each registers the data itself.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm

from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.registration import Registered, register
from benchmarks.records import ResultsStore, RunSpec
from benchmarks.run import Context
from benchmarks.tasks import TASKS, Result, Settings, Setup
from pretrain.common.errors import RunError
from pretrain.common.files import write_json
from pretrain.common.plugins import load_plugins
from transfer.checkpoints import converted as proofs
from transfer.checkpoints.converted import ConvertedWeights
from transfer.detection.config import build_cfg, identity, resolved_protocol
from transfer.detection.evaluation import choose
from transfer.detection.trainer import precision, require_buildable, train_and_test

OUTCOME = "outcome.json"  # from the first of several processes to the one that started them


def settings(protocol: Path, setup: Setup) -> Settings:
    """The protocol's config as it will run, without the keys that checkpoint, data and seed set."""
    cfg = resolved_protocol(protocol, setup.profile, setup.num_gpus, list(setup.opts))  # type: ignore[arg-type]
    return settings_of(cfg)


def settings_of(cfg: CfgNode) -> Settings:
    """The part of a config that identifies a protocol."""
    return Settings(values=identity(yaml.safe_load(cfg.dump())), precision=precision(cfg))


def run(context: Context) -> Result:
    """Train the protocol's detector from the converted weights and test it on the root's test split."""
    if context.num_gpus <= 1:
        result = _work(context)
        assert result is not None  # the only process is the first
        return result
    outcome = context.folder / OUTCOME
    outcome.unlink(missing_ok=True)
    launch(_work_of_several, context.num_gpus, dist_url="auto", args=(context,))
    found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return Result(**found | {"notes": tuple(found["notes"])})


def notes(tested: int, classes: int) -> list[str]:
    """A note for the caption if AP is not the mean over all classes of the data set."""
    return [f"AP is the mean over the {tested} of {classes} classes with a test object"] if tested < classes else []


def check(detectors: list[tuple[Path, RunSpec, int]], num_gpus: int) -> None:
    """InputError for a network, options or COCO_EVAL that a detector (converted weights, spec, classes) cannot use."""
    for kind in {LAYOUTS[TASKS[spec.task].layout].evaluator for _, spec, _ in detectors}:
        choose.engine(kind)
    for converted, spec, classes in detectors:
        data = Registered(
            train=("train",), test=("test",), num_classes=classes, classes=(), mask_format="polygon", test_images=0
        )
        cfg = _config(spec, _converted(converted), data, ResultsStore().path_for(spec), num_gpus)
        if spec.overrides:
            require_buildable(cfg)


def _converted(pkl: Path | None) -> ConvertedWeights:
    assert pkl is not None  # a plan without it has no detectors
    converted = proofs.load(pkl)
    if converted is None:
        raise RunError(f"{pkl} no longer has a proof beside it: delete it and run again")
    return converted


def _config(spec: RunSpec, converted: ConvertedWeights, data: Registered, folder: Path, num_gpus: int) -> CfgNode:
    protocol = TASKS[spec.task].protocol
    assert protocol is not None
    return build_cfg(
        protocol=protocol,
        profile=spec.profile,  # type: ignore[arg-type]  # the same three words
        converted=converted,
        train=data.train,
        test=data.test,
        num_classes=data.num_classes,
        mask_format=data.mask_format,
        seed=spec.seed,
        output_dir=folder,
        num_gpus=num_gpus,
        opts=list(spec.overrides),
    )


def _work_of_several(context: Context) -> None:
    if result := _work(context):
        write_json(context.folder / OUTCOME, dataclasses.asdict(result))


def _work(context: Context) -> Result | None:
    """The result in the first process, None in others."""
    load_plugins()  # in a process of its own where there are several GPUs
    converted = _converted(context.checkpoint.detectron2)
    data = register(context.root, TASKS[context.spec.task].layout)
    cfg = _config(context.spec, converted, data, context.folder, context.num_gpus)
    found = settings_of(cfg)
    if (found.digest, found.precision) != (context.spec.protocol_digest, context.spec.precision):
        raise RunError(f"{context.spec.task} has changed since this run was planned: run it again")
    metrics, facts = train_and_test(cfg, converted)
    if not comm.is_main_process():
        return None
    return Result(
        metrics=metrics,
        test_images=data.test_images,
        config=yaml.safe_load(cfg.dump()) | {"facts": facts},
        precision=facts["precision"],
        resumed_at=facts["resumed_at"],
        notes=tuple(notes(facts["classes_tested"], data.num_classes)),
    )
