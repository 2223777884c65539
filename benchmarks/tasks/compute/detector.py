"""Detection and instance segmentation on a data root, with detectron2: register the data, train, test once.

One process per GPU if there are several; each registers the data itself.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm

from benchmarks.data import parts
from benchmarks.data.facts import training_facts
from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.registration import Registered, register
from benchmarks.data.root import DataRoot
from benchmarks.data.subsets import hold_out, ids_digest
from benchmarks.executors.nodes import on_every_node
from benchmarks.executors.process import fork_loaders
from benchmarks.executors.slurm_task import allotted
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
from transfer.detection.fitted import FROM_DATA, KEYS, DataFacts
from transfer.detection.profiles import FITTED
from transfer.detection.search import search_of
from transfer.detection.trainer import Diverged, precision, require_buildable, train_and_test

OUTCOME = "outcome.json"  # from several processes to the one that started them: the first's result, or a divergence


def settings(protocol: Path, layout: str, setup: Setup) -> Settings:
    """The protocol's config as it will run, without the keys that checkpoint, data and seed set.

    Where they are fitted to data and ``setup`` names none, FROM_DATA stands for the values of KEYS.
    """
    facts = facts_for(setup.profile, setup.root, layout) if setup.root else None
    cfg = resolved_protocol(protocol, setup.profile, setup.num_gpus, list(setup.opts), facts)  # type: ignore[arg-type]
    found = settings_of(cfg)
    for key in KEYS if setup.profile == FITTED and facts is None else ():
        *parents, last = key.split(".")
        node = found.values
        for part in parents:
            node = node[part]
        node[last] = FROM_DATA
    return found


def facts_for(profile: str, root: DataRoot, layout: str) -> DataFacts | None:
    """The facts about the training objects of ``root`` where ``profile`` is fitted to them."""
    return training_facts(root, layout) if profile == FITTED else None


def settings_of(cfg: CfgNode) -> Settings:
    """The part of a config that identifies a protocol."""
    return Settings(values=identity(yaml.safe_load(cfg.dump())), precision=precision(cfg))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a run: with further options (of a search), on all images or without those held out."""

    opts: tuple[str, ...]
    folder: Path
    held_out: bool = False


def run(context: Context) -> Result:
    """Train the protocol's detector from the converted weights and test it on the root's test split.

    With a search in the options, the best candidate on held-out training images decides first.
    """
    from benchmarks.tasks.compute import detector_search

    chosen, about = detector_search.choose(context, train)
    result = train(context, Training(opts=chosen, folder=context.folder))
    return dataclasses.replace(result, config=result.config | about)


def train(context: Context, training: Training) -> Result:
    """Train and test once, in a process per GPU. Diverged if the loss is not finite."""
    if context.num_gpus <= 1:
        result = _work(context, training)
        assert result is not None  # the only process is the first
        return result
    outcome = training.folder / OUTCOME
    outcome.unlink(missing_ok=True)
    try:
        if allotted()[0] > 1:
            arguments = {"context": context, "training": training}
            on_every_node(f"{__name__}:work_on_node", arguments, training.folder / "nodes.pkl")
        else:
            launch(_work_of_several, context.num_gpus, dist_url="auto", args=(context, training))
    except Exception:
        if outcome.is_file() and (reason := json.loads(outcome.read_text(encoding="utf-8")).get("diverged")):
            raise Diverged(reason) from None
        raise
    found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return Result(**found | {"notes": tuple(found["notes"])})


def work_on_node(context: Context, training: Training, node: int, url: str) -> None:
    """The processes of one of several nodes; ``url`` is the first node's."""
    nodes, each = allotted()
    launch(_work_of_several, each, num_machines=nodes, machine_rank=node, dist_url=url, args=(context, training))


def notes(tested: int, classes: int) -> list[str]:
    """A note for the caption if AP is not the mean over all classes of the data set."""
    return [f"AP is the mean over the {tested} of {classes} classes with a test object"] if tested < classes else []


def check(detectors: list[tuple[Path, RunSpec, DataRoot]], num_gpus: int) -> None:
    """InputError for a network, options or COCO_EVAL that a detector (converted weights, spec, data) cannot use."""
    for kind in {LAYOUTS[TASKS[spec.task].layout].evaluator for _, spec, _ in detectors}:
        choose.engine(kind)
    for converted, spec, root in detectors:
        layout = TASKS[spec.task].layout
        classes = len(root.section(layout)["classes"])
        data = Registered(
            train=("train",), test=("test",), num_classes=classes, classes=(), mask_format="polygon", test_images=0
        )
        facts, search = facts_for(spec.profile, root, layout), search_of(spec.overrides)
        for candidate in search.candidates() if search else [()]:
            folder = ResultsStore().path_for(spec)
            cfg = config_of(spec, converted_at(converted), data, folder, num_gpus, facts, candidate)
            if spec.overrides:
                require_buildable(cfg)


def converted_at(pkl: Path | None) -> ConvertedWeights:
    """The converted weights at ``pkl``. RunError if their proof is gone."""
    assert pkl is not None  # a plan without it has no detectors
    converted = proofs.load(pkl)
    if converted is None:
        raise RunError(f"{pkl} no longer has a proof beside it: delete it and run again")
    return converted


def config_of(
    spec: RunSpec,
    converted: ConvertedWeights,
    data: Registered,
    folder: Path,
    num_gpus: int,
    facts: DataFacts | None,
    more: tuple[str, ...] = (),
) -> CfgNode:
    """detectron2's config of the run ``spec``, with its files in ``folder``, and ``more`` options than the spec's."""
    protocol = TASKS[spec.task].protocol
    assert protocol is not None
    return build_cfg(
        protocol=protocol,
        profile=spec.profile,  # type: ignore[arg-type]  # the same words
        converted=converted,
        train=data.train,
        test=data.test,
        num_classes=data.num_classes,
        mask_format=data.mask_format,
        seed=spec.seed,
        output_dir=folder,
        num_gpus=num_gpus,
        opts=[*spec.overrides, *more],
        facts=facts,
    )


def _work_of_several(context: Context, training: Training) -> None:
    fork_loaders()
    outcome = training.folder / OUTCOME
    try:
        if result := _work(context, training):
            write_json(outcome, dataclasses.asdict(result))
    except Diverged as error:
        write_json(outcome, {"diverged": str(error)})  # whichever process meets it first: it ends the others
        raise


def _work(context: Context, training: Training) -> Result | None:
    """The result in the first process, None in others."""
    load_plugins()  # in a process of its own where there are several GPUs
    converted = converted_at(context.checkpoint.detectron2)
    layout = TASKS[context.spec.task].layout
    data, fitted_to = register(context.root, layout), facts_for(context.spec.profile, context.root, layout)
    planned = config_of(context.spec, converted, data, training.folder, context.num_gpus, fitted_to)
    found = settings_of(planned)
    if (found.digest, found.precision) != (context.spec.protocol_digest, context.spec.precision):
        raise RunError(f"{context.spec.task} has changed since this run was planned: run it again")
    data, drawn = training_part(context, planned, data, training)
    cfg = config_of(context.spec, converted, data, training.folder, context.num_gpus, fitted_to, training.opts)
    metrics, facts = train_and_test(cfg, converted)
    if not comm.is_main_process():
        return None
    facts |= {key: value for key, value in drawn.items() if key != "notes"}
    return Result(
        metrics=metrics,
        test_images=data.test_images,
        config=yaml.safe_load(cfg.dump()) | {"facts": facts},
        precision=facts["precision"],
        resumed_at=facts["resumed_at"],
        notes=(*notes(facts["classes_tested"], data.num_classes), *drawn.get("notes", ())),
    )


def training_part(
    context: Context, cfg: CfgNode, data: Registered, training: Training
) -> tuple[Registered, dict[str, Any]]:
    """``data`` restricted to the protocol's draw and, in a search, to the images to train on and those held out.

    The ids go to subset.json and held_out.json in the folder; returned are their numbers and digests, and notes.
    """
    if "SUBSET" not in cfg.TRANSFER and not training.held_out:
        return data, {}
    layout, seed = TASKS[context.spec.task].layout, context.spec.seed
    images, facts = parts.objects(data), dict[str, Any]()
    pool = parts.trainable(images)
    if "SUBSET" in cfg.TRANSFER:
        subset = cfg.TRANSFER.SUBSET
        drawn = parts.draw(images, data.classes, subset, seed)
        pool = {image: pool[image] for image in drawn.images}
        facts["subset"] = _listed(
            training.folder / "subset.json",
            drawn.images,
            {key.lower(): value for key, value in subset.items() if value},
            seed,
        )
        facts["notes"] = drawn.notes
    trained = tuple(pool)
    if training.held_out:
        trained, held = hold_out(pool, seed)
        facts["held_out"] = _listed(training.folder / "held_out.json", held, {}, seed)
        main = comm.is_main_process()
        data = parts.hold_out(context.root, layout, data, held, training.folder / "held", write=main)
        comm.synchronize()  # the others read what the first has written
    return parts.keep(data, trained), facts


def _listed(path: Path, ids: Sequence[Any], about: dict[str, Any], seed: int) -> dict[str, Any]:
    """Write the ids of a draw to ``path``; their number and digest."""
    facts = {"images": len(ids), "sha256": ids_digest(ids)}
    if comm.is_main_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**about, "seed": seed, **facts, "ids": list(ids)})
    return facts
