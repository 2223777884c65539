"""The suites behind `make benchmark`: data, pretraining, conversion, every task, the table. Done work is skipped.

python -m benchmarks suite smoke --workers 2 --checkpoint mine=/path/a.pth
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

from benchmarks.data.root import DataRoot
from benchmarks.executors.local import Job, run_jobs
from benchmarks.plan import Cell, Plan, check_data, check_detectors, convert_first, resolve_columns
from benchmarks.report.summary import finish
from benchmarks.run import Source, source_of
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir, results_dir
from pretrain.common.shell import command

# And how long the demo's pretraining takes, the row's frozen-feature tasks being 1: for the time left.
METHODS = {"random": 0.05, "supervised": 2.0, "simclr": 7.0, "superinfo": 7.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """Which rows a profile makes itself by pretraining, and which cells it fills."""

    methods: tuple[str, ...]
    cells: tuple[Cell, ...]


def _frozen(seeds: int) -> tuple[Cell, ...]:
    return (
        Cell(task="linear", protocol="lbfgs", seeds=(0,)),
        Cell(task="few-label", protocol="lbfgs-10", seeds=tuple(range(seeds))),
        Cell(task="knn", protocol="knn", seeds=(0,)),
    )


def _detection(*protocols: str, seeds: int = 1) -> tuple[Cell, ...]:
    task = {"voc": "voc-det", "coco": "coco-seg"}
    return tuple(
        Cell(task=task[protocol.split("_")[0]], protocol=protocol, seeds=tuple(range(seeds))) for protocol in protocols
    )


SUITES = {
    "smoke": Suite(
        methods=tuple(METHODS),
        cells=(*_frozen(2), *_detection("voc_c4_24k", "voc_fpn_24k", "coco_c4_1x", "coco_fpn_1x")),
    ),
    "demo": Suite(methods=tuple(METHODS), cells=(*_frozen(5), *_detection("voc_fpn_24k", "coco_fpn_1x"))),
    "paper": Suite(
        methods=(), cells=(*_frozen(5), *_detection("voc_c4_24k", seeds=5), *_detection("coco_fpn_1x", "coco_c4_1x"))
    ),
}


def _method_job(plan: Plan, method: str, sources: dict[str, Source], saved: list[str]) -> Job:
    """Pretrain and convert one method (at once if done), then its row."""

    def then(value: tuple[Path, str]) -> list[Job]:
        source = source_of(method, value[0])
        assert source is not None
        sources[method] = source
        return plan.jobs(source, saved)

    return Job(
        name=f"{method} pretrain",
        stage="pretrain and convert",
        target="benchmarks.suites:pretrain_and_convert",
        arguments={"preset": f"{plan.profile}-{method}", "data": plan.roots["imagenet"].path / "imagenet" / "train"},
        log=results_dir() / "logs" / f"pretrain-{plan.profile}-{method}.log",
        then=then,
        report=lambda value: f"{value[0].parent.name}; converted, {value[1]}",
        weight=METHODS[method],
        follows=plan.weights(),
    )


def pretrain_and_convert(preset: str, data: Path) -> tuple[Path, str]:
    """Finish the preset's pretraining run and its conversion (in a worker); the checkpoint and what was proved."""
    from benchmarks.run import convert_checkpoint
    from pretrain.presets import PRESETS
    from pretrain.train import run

    path = run(preset, PRESETS[preset], data)
    return path, convert_checkpoint(path)


def emoji_roots(profile: str, workers: int) -> dict[str, DataRoot]:
    """The embedded data set of the profile, generated when absent."""
    from benchmarks.data.emoji.generate import PRESETS, generate

    root = DataRoot.load(generate(PRESETS[profile], f"emoji-{profile}", workers))
    return {"imagenet": root, "voc": root, "coco": root}


STANDARD = {
    "imagenet": ("ImageNet-1k (train/ and val/ of 1000 class folders)", "IMAGENET_DIR", "", 1000),
    "voc": ("PASCAL VOC 2007 and 2012 (VOC2007/, VOC2012/)", "DETECTRON2_DATASETS", "", 20),
    "coco": ("COCO 2017 (train2017/, val2017/, annotations/)", "DETECTRON2_DATASETS", "coco", 80),
}


def paper_roots() -> dict[str, DataRoot]:
    """The prepared ImageNet, VOC 2007+2012 and COCO 2017. InputError after a list of what is missing, and where."""
    found, missing = {}, []
    for kind, (title, variable, inside, classes) in STANDARD.items():
        place = data_dir() / kind
        if (place / "data.json").exists():
            root = DataRoot.load(place)
            section = root.section(kind)
            whole = kind != "voc" or [year for year, _ in section["train"]] == ["VOC2007", "VOC2012"]
            if len(section["classes"]) == classes and whole:
                root.check_unchanged()
                print(f"{title}: {place}", file=sys.stderr)
                found[kind] = root
                continue
            print(f"NOT THE STANDARD SET {title}: {place} has {len(section['classes'])} classes", file=sys.stderr)
        else:
            print(f"MISSING {title}: {_where(kind, variable, inside)}", file=sys.stderr)
        missing.append(kind)
    if missing:
        raise InputError(f"profile paper needs {', '.join(missing)}: nothing was started")
    return found


def _where(kind: str, variable: str, inside: str) -> str:
    """Where a standard set was looked for, and the command that prepares it."""
    given = os.environ.get(variable)
    source = Path(given, inside).expanduser() if given else None
    there = f"{variable} is not set" if source is None else f"{source} is {'there' if source.is_dir() else 'not there'}"
    prepare = command("benchmarks", "prepare", kind, source or "FOLDER", "--name", kind)
    return f"not prepared in {data_dir() / kind}; {there}; prepare it with: {prepare}"


def run_suite(profile: str, checkpoints: dict[str, Path], workers: int, num_gpus: int, opts: tuple[str, ...]) -> int:
    """All of a profile; prints the table and where things lie. 0, or 1 when a run failed."""
    begun = time.monotonic()
    suite = SUITES[profile]
    if clash := set(checkpoints) & set(suite.methods):
        raise InputError(
            f"{', '.join(sorted(clash))}: the suite has a row of that name; give your checkpoint another one"
        )
    if profile == "paper" and not checkpoints:
        paper_roots()
        raise InputError('profile paper evaluates checkpoints: give CHECKPOINTS="name=/path/to/checkpoint.pth …"')
    standard = paper_roots() if profile == "paper" else None
    given = convert_first(checkpoints, workers)
    preparing = time.monotonic()
    roots = standard or emoji_roots(profile, workers)
    prepared = time.monotonic() - preparing
    plan = Plan(
        profile=profile,
        cells=suite.cells,
        roots=roots,
        num_gpus=num_gpus,
        opts=opts,
    )
    check_data(plan, "python -m benchmarks run --task coco-det …")
    plan = resolve_columns(plan, workers)
    check_detectors(plan, given, workers)
    sources: dict[str, Source] = {}
    saved: list[str] = []
    jobs = [_method_job(plan, method, sources, saved) for method in suite.methods]
    jobs += [job for source in given for job in plan.jobs(source, saved)]
    ran = run_jobs(jobs, workers)
    ran = dataclasses.replace(ran, seconds={"data": [prepared], **ran.seconds})
    rows = [sources[method] for method in suite.methods if method in sources] + given
    expected = [(source.label, spec) for source in rows for spec in plan.specs(source)]
    return finish(expected, profile, profile, saved, ran, begun)
