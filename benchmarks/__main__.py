"""Evaluate checkpoints on downstream tasks and collate the results.

python -m benchmarks prepare emoji|voc|coco|imagenet …     lay a data root under results/data
python -m benchmarks sheet ROOT                            a picture of it
python -m benchmarks run --task … --checkpoint … --data …  checkpoints × tasks × seeds into run records
python -m benchmarks tables smoke|demo|paper               records into Markdown, CSV and LaTeX
python -m benchmarks show RECORD                           predictions of a detection run beside the truth
python -m benchmarks diagnose CHECKPOINT --data FOLDER     predictive and superfluous nats of its features
python -m benchmarks suite smoke|demo|paper                all of it, what `make benchmark` runs
"""

from __future__ import annotations

import glob
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tyro

from benchmarks.arguments import RunArguments, ShowArguments, SuiteArguments, TablesArguments, default_gpus
from benchmarks.data.root import DataRoot
from benchmarks.tasks.base import TASKS
from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import require_writable, results_dir
from pretrain.common.shell import command

MOST_SEED = 2**31 - 1  # NumPy's generator, which detectron2 seeds, takes no more than 32 bits


def _cells(arguments: RunArguments) -> list[tuple[str, str]]:
    cells, used = [], set()
    asked = dict.fromkeys(arguments.protocol)
    for name in dict.fromkeys(arguments.task):
        if name not in TASKS:
            raise InputError(f"unknown task {name}: choose from {', '.join(TASKS)}")
        known = TASKS[name].protocols
        protocols = [protocol for protocol in asked if protocol in known] or [next(iter(known))]
        used.update(protocols)
        cells += [(name, protocol) for protocol in protocols]
    if unknown := [protocol for protocol in asked if protocol not in used]:
        choice = ", ".join(protocol for name in arguments.task for protocol in TASKS[name].protocols)
        raise InputError(f"unknown protocol {unknown[0]}: for these tasks choose from {choice}")
    return cells


def run_main(argv: list[str]) -> int:
    """``run``: see RunArguments. 1 when a run failed, 2 for bad input before anything is started."""
    from benchmarks.executors.local import run_jobs
    from benchmarks.plan import (
        Cell,
        Plan,
        check_data,
        check_detectors,
        convert_first,
        parse_checkpoints,
        resolve_columns,
    )
    from benchmarks.report.cells import recorded
    from benchmarks.report.summary import finish

    begun = time.monotonic()
    arguments = tyro.cli(RunArguments, args=argv, prog="python -m benchmarks run")
    workers, opts = _workers(arguments.workers), _opts(arguments.opts)
    cells, root = _cells(arguments), DataRoot.load(arguments.data)
    if strange := [seed for seed in arguments.seed if not 0 <= seed <= MOST_SEED]:
        raise InputError(f"--seed {strange[0]}: give 0 to {MOST_SEED}")
    if opts and all(TASKS[task].needs == "imagenet" for task, _ in cells):
        raise InputError("--opts are detectron2's, and none of these tasks trains a detector: leave them out")
    seeds = tuple(dict.fromkeys(arguments.seed))
    plan = Plan(
        profile=arguments.profile,
        cells=tuple(Cell(task=task, protocol=protocol, seeds=seeds) for task, protocol in cells),
        roots={TASKS[task].needs: root for task, _ in cells},
        num_gpus=_gpus(arguments.num_gpus, arguments.profile),
        rerun=arguments.rerun,
        opts=opts,
    )
    checkpoints = parse_checkpoints(arguments.checkpoint)
    check_data(plan, command("benchmarks", "run", *_without_masks(argv)))
    root.check_unchanged()
    plan = resolve_columns(plan, workers)
    sources = convert_first(checkpoints, workers)
    if idle := [source.label for source in sources if not plan.specs(source)]:
        raise InputError(f"{idle[0]}: no detector can have CMC's two encoders; --task takes linear, few-label and knn")
    check_detectors(plan, sources, workers)
    saved: list[str] = []
    jobs = [job for source in sources for job in plan.jobs(source, saved)]
    if jobs:
        require_writable(results_dir() / "runs")
    ran = run_jobs(jobs, workers)
    print(*saved, sep="\n", end="\n" if saved else "")
    asked = [(source.label, spec) for source in sources for spec in plan.specs(source)]
    # With what was recorded on this data before, so that the table grows from one command to the next.
    known = [pair for pair in recorded(arguments.profile, root.name) if pair[1] not in {spec for _, spec in asked}]
    return finish([*asked, *known], arguments.profile, f"{arguments.profile}-{root.name}", saved, ran, begun)


def _without_masks(words: list[str]) -> list[str]:
    """The arguments of ``run`` with coco-det in place of coco-seg."""
    boxes = {detector: protocol for protocol, detector in TASKS["coco-det"].protocols.items()}
    protocols = {protocol: boxes[detector] for protocol, detector in TASKS["coco-seg"].protocols.items()}
    return [({"coco-seg": "coco-det"} | protocols).get(word, word) for word in words]


def _gpus(asked: int | None, profile: str) -> int:
    """How many GPUs to use. The small profiles' batches do not divide by more than one."""
    have = default_gpus()
    if asked is None:
        return have if profile == "paper" else min(1, have)
    if not 0 <= asked <= have:
        raise InputError(f"--num-gpus {asked}: this machine has {have}")
    return asked


def _workers(workers: int) -> int:
    if workers < 1:
        raise InputError(f"--workers {workers}: give 1 or more")
    return workers


def _opts(words: tuple[str, ...]) -> tuple[str, ...]:
    """KEY VALUE pairs in the order of their keys, so that the same options are the same run."""
    if len(words) % 2:
        raise InputError(f"--opts takes KEY VALUE pairs, got {len(words)} words: {' '.join(words)}")
    pairs = sorted(zip(words[::2], words[1::2], strict=True))
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"--opts {twice[0]} is given twice")
    return tuple(word for pair in pairs for word in pair)


def suite_main(argv: list[str]) -> int:
    """``suite``: see SuiteArguments."""
    from benchmarks.plan import parse_checkpoints
    from benchmarks.suites import run_suite

    arguments = tyro.cli(SuiteArguments, args=argv, prog="python -m benchmarks suite")
    workers, opts = _workers(arguments.workers), _opts(arguments.opts)
    checkpoints = parse_checkpoints(arguments.checkpoint)
    return run_suite(arguments.profile, checkpoints, workers, _gpus(arguments.num_gpus, arguments.profile), opts)


def tables_main(argv: list[str]) -> int:
    """``tables``: see TablesArguments. 1 when the table was printed but could not be written."""
    from benchmarks.records import ResultsStore
    from benchmarks.report.cells import recorded
    from benchmarks.report.tables import complete, write_tables

    arguments = tyro.cli(TablesArguments, args=argv, prog="python -m benchmarks tables")
    name = arguments.name or f"{arguments.profile}-{arguments.data or 'all'}"
    if arguments.name and (Path(name).name != name or not name.isprintable()):
        raise InputError(f"--name {name!r}: give a file name without folders; tables go to {results_dir() / 'tables'}")
    newest = ResultsStore().all_newest()
    pairs = recorded(arguments.profile, arguments.data, newest)
    if not pairs:
        on = f" on {arguments.data}" if arguments.data else ""
        raise InputError(f"no recorded run of profile {arguments.profile}{on} under {results_dir() / 'runs'}")
    _, paths = write_tables(pairs, arguments.profile, name, newest=newest)
    print(*paths, sep="\n", end="\n" if paths else "")
    return 0 if complete(paths) else 1


def show_main(argv: list[str]) -> int:
    """``show``: see ShowArguments."""
    from benchmarks.records import ResultsStore
    from benchmarks.report.show import show

    arguments = tyro.cli(ShowArguments, args=argv, prog="python -m benchmarks show")
    if arguments.count < 1:
        raise InputError("--count: give 1 or more")
    record = arguments.record
    if not record.is_file():  # its name alone finds one that a migration has moved
        record = next(ResultsStore().root.glob(f"*/{glob.escape(record.name)}"), record)
    if not record.is_file():
        raise InputError(f"{record} is not a file")
    print(show(record, arguments.output, arguments.count))
    return 0


def diagnose_main(argv: list[str]) -> int:
    """``diagnose``: see benchmarks/tasks/information.py."""
    from benchmarks.tasks.information import main

    return main(argv)


def prepare_main(argv: list[str]) -> int:
    """``prepare``: see benchmarks/data/prepare.py."""
    from benchmarks.data.prepare import main

    return main(argv)


def sheet_main(argv: list[str]) -> int:
    """``sheet``: see benchmarks/data/sheet.py."""
    from benchmarks.data.sheet import main

    return main(argv)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "prepare": prepare_main,
    "sheet": sheet_main,
    "run": run_main,
    "tables": tables_main,
    "show": show_main,
    "diagnose": diagnose_main,
    "suite": suite_main,
}


def main(argv: list[str]) -> int:
    """Dispatch to a command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if argv[0] not in COMMANDS:
        raise InputError(f"unknown command {argv[0]}: choose from {', '.join(COMMANDS)}")
    if argv[0] in ("run", "tables", "show", "suite"):
        from benchmarks.migrate import migrate
        from benchmarks.records import ResultsStore

        migrate(ResultsStore())
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are printed as the bytes they are
    run_cli(main)
