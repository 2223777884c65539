"""Detection and instance segmentation on a data root, through detectron2: registers the data, trains, tests once.

One process a GPU when there are several; each registers the data for itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm

from benchmarks.data.registration import Registered, register
from benchmarks.records import ResultsStore, RunSpec
from benchmarks.run import Context, Resolved, Result, Source
from benchmarks.tasks.base import TASKS
from pretrain.common.errors import RunError
from pretrain.common.files import digest, write_json
from transfer.checkpoints import converted as proofs
from transfer.checkpoints.converted import ConvertedWeights
from transfer.detection.config import build_cfg, identity, resolved_protocol
from transfer.detection.trainer import precision, require_buildable, train_and_test


def resolve(task: str, protocol: str, profile: str, num_gpus: int | None, opts: tuple[str, ...]) -> Resolved:
    """The protocol's config as it will run, less what checkpoint, data and seed fix."""
    cfg = resolved_protocol(protocol, profile, num_gpus or 0, list(opts))  # type: ignore[arg-type]  # the same three words
    return Resolved(settings=identity(yaml.safe_load(cfg.dump())), precision=precision(cfg))


def run(context: Context) -> Result:
    """Train the protocol's detector from the converted weights and test it on the root's test split."""
    outcome = context.folder / "outcome.json"
    outcome.unlink(missing_ok=True)
    if context.num_gpus > 1:
        launch(_work, context.num_gpus, dist_url="auto", args=(context,))
    else:
        _work(context)
    found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return Result(
        metrics=found["metrics"],
        test_images=found["test_images"],
        config=found["config"] | {"facts": found["facts"]},
        precision=found["facts"]["precision"],
        resumed_at=found["facts"]["resumed_at"],
        notes=tuple(found["notes"]),
    )


def notes(tested: int, classes: int) -> list[str]:
    """What the caption says of an AP that is not the mean over all classes of the data set."""
    return [f"AP is the mean over the {tested} of {classes} classes with a test object"] if tested < classes else []


def check(detectors: list[tuple[Source, RunSpec, int]], num_gpus: int) -> None:
    """InputError for a network or options that a detector (checkpoint, spec, number of classes) cannot have."""
    for source, spec, classes in detectors:
        data = Registered(
            train=("train",), test=("test",), num_classes=classes, classes=(), mask_format="polygon", test_images=0
        )
        cfg = _config(spec, _converted(source.converted), data, ResultsStore().path_for(spec), num_gpus)
        if spec.overrides:
            require_buildable(cfg)


def _converted(pkl: Path | None) -> ConvertedWeights:
    assert pkl is not None  # a plan has no detectors without it
    converted = proofs.load(pkl)
    if converted is None:
        raise RunError(f"{pkl} has no proof beside it any more: delete it and run again")
    return converted


def _config(spec: RunSpec, converted: ConvertedWeights, data: Registered, folder: Path, num_gpus: int) -> CfgNode:
    return build_cfg(
        protocol=spec.protocol,
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


def _work(context: Context) -> None:
    converted = _converted(context.converted)
    data = register(context.root, TASKS[context.spec.task].needs)
    cfg = _config(context.spec, converted, data, context.folder, context.num_gpus)
    settings = identity(yaml.safe_load(cfg.dump()))
    if (digest(settings), precision(cfg)) != (context.spec.protocol_digest, context.spec.precision):
        raise RunError(f"{context.spec.protocol} has changed since this run was planned: run it again")
    metrics = train_and_test(cfg, converted)
    if comm.is_main_process():
        facts = json.loads((context.folder / "facts.json").read_text(encoding="utf-8"))
        config = yaml.safe_load(cfg.dump())
        outcome = {
            "metrics": metrics,
            "test_images": data.test_images,
            "config": config,
            "facts": facts,
            "notes": notes(facts["classes_tested"], data.num_classes),
        }
        write_json(context.folder / "outcome.json", outcome)
