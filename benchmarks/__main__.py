"""Evaluate checkpoints on downstream tasks and collate the results.

python -m benchmarks prepare emoji|voc|coco|…              write a data root under results/data
python -m benchmarks sheet ROOT                            a picture of it
python -m benchmarks run --task … --checkpoint … --data …  checkpoints × tasks × seeds into run records
python -m benchmarks tables PROFILE|LAYOUT|FILE            records into Markdown, CSV, LaTeX and HTML
python -m benchmarks list [TASK]                           the tasks: protocol, data, published numbers, cost
python -m benchmarks show RECORD                           a run's mistakes: pictures of its test images
python -m benchmarks compare A B --profile PROFILE         two checkpoints: paired differences with intervals
python -m benchmarks audit TABLE.csv                       a table's cells against records, files, data and code
python -m benchmarks export FILE.zip                       runs in one file, for another machine's import
python -m benchmarks import FILE.zip --as NAME             somebody's runs as rows of your tables
python -m benchmarks suite smoke|demo|small|paper|FILE     all of it, what `make benchmark` runs
python -m benchmarks rehearsal                             profile paper in minutes, before it takes days
python -m benchmarks status|retry|cancel|logs              the jobs of `run` and `suite`, also in Slurm

--plugin MODULE imports a module of yours first, which registers tasks, suites, methods, presets or families.
"""

from __future__ import annotations

import gc
import glob
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from benchmarks.arguments import (
    CancelArguments,
    CompareArguments,
    ListArguments,
    LogsArguments,
    RehearsalArguments,
    RetryArguments,
    RunArguments,
    ShowArguments,
    StatusArguments,
    SuiteArguments,
    TablesArguments,
    require_seeds,
    visible_gpus,
)
from benchmarks.data.root import DataRoot
from benchmarks.jobs.commands import give, noted
from benchmarks.profiles import PROFILES
from benchmarks.tasks import TASKS, named
from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import require_writable, results_dir
from pretrain.common.plugins import plugin_arguments, use_plugins
from pretrain.common.shell import command
from pretrain.common.stand_ins import cpu_processes
from transfer.detection.search import with_search

if TYPE_CHECKING:
    from benchmarks.executors.base import Executor
    from benchmarks.plan import Column


def _columns(arguments: RunArguments) -> tuple[Column, ...]:
    """Each task on each data root that has its layout. InputError for an unknown task or one without data."""
    from benchmarks.plan import Column

    require_seeds(arguments.seed, "--seed")
    seeds = tuple(dict.fromkeys(arguments.seed))
    names = dict.fromkeys(task.name for name in arguments.task for task in named(name))
    roots = [DataRoot.load(path) for path in dict.fromkeys(arguments.data)]
    columns = []
    for name in names:
        layout = TASKS[name].layout
        fitting = [root for root in roots if layout in root.sections] or roots[:1]
        try:
            fitting[0].section(layout)  # says which layouts it has
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        columns += [Column(task=name, root=root, seeds=seeds) for root in fitting]
    if idle := [root.name for root in roots if root not in [column.root for column in columns]]:
        raise InputError(f"none of the tasks reads data set {idle[0]}: leave it out")
    return tuple(columns)


def run_main(argv: list[str]) -> int:
    """``run``: see RunArguments. 1 when a run failed, 2 for bad input before anything is started."""
    from benchmarks.budget import say_budget
    from benchmarks.checkpoints import import_all, parse_checkpoints, with_series
    from benchmarks.estimate import estimate, say_forecast
    from benchmarks.plan import Plan, check_data, check_detectors, resolve_columns
    from benchmarks.report.cells import recorded
    from benchmarks.report.summary import finish

    begun = time.monotonic()
    arguments = tyro.cli(RunArguments, args=argv, prog="python -m benchmarks run")
    given = {
        "--task": arguments.task,
        "--checkpoint": arguments.checkpoint or arguments.series,
        "--data": arguments.data,
    }
    if empty := [flag for flag, values in given.items() if not values]:
        raise InputError(f"{empty[0]} has no value: give one or more")
    executor, columns = _executor(arguments), _columns(arguments)
    opts = _opts(arguments.opts, arguments.search)
    if opts and not any(TASKS[column.task].detects for column in columns):
        given_for = "--search applies" if arguments.search else "--opts apply"
        raise InputError(f"{given_for} only to detectors, and none of these tasks trains a detector: leave them out")
    plan = Plan(
        profile=arguments.profile,
        columns=columns,
        num_gpus=_gpus(arguments.num_gpus, arguments.profile, executor),
        rerun=arguments.rerun,
        opts=opts,
    )
    checkpoints = with_series(parse_checkpoints(arguments.checkpoint), arguments.series)
    check_data(plan, command("benchmarks", "run", *(BOXES_ONLY.get(word, word) for word in argv)))
    for root in {column.root.path: column.root for column in columns}.values():
        root.check_unchanged()
    plan = resolve_columns(plan, executor)
    ready = import_all(checkpoints, executor)
    if idle := [one.label for one in ready if not plan.specs(one)]:
        raise InputError(f"{idle[0]}: CMC's two encoders cannot be used in a detector; give --task linear low-shot knn")
    check_detectors(plan, ready, executor)
    if arguments.estimate:
        print(estimate(plan, ready, executor))
        return 0
    say_budget(plan, ready, executor, arguments.workers)
    say_forecast(plan, ready)
    saved: list[Path] = []
    jobs = [job for one in ready for job in plan.jobs(one, saved)]
    if jobs:
        require_writable(results_dir() / "runs")
    with noted() as note:
        ran = executor.run(jobs)
        note.failed = len(ran.failed)
    print(*saved, sep="\n", end="\n" if saved else "")
    asked = [(one.label, spec) for one in ready for spec in plan.specs(one)]
    # With earlier records on these data, so that the table grows from one command to the next.
    names = dict.fromkeys(column.root.name for column in columns)
    before = [pair for name in names for pair in recorded(arguments.profile, name)]
    known = [pair for pair in before if pair[1] not in {spec for _, spec in asked}]
    table = "-".join([arguments.profile, *names])
    return finish([*asked, *known], arguments.profile, table, saved, ran, begun, series=bool(arguments.series))


BOXES_ONLY = {"coco-fpn-1x": "coco-det-fpn-1x", "coco-c4-1x": "coco-det-c4-1x"}
"""Task with masks → the same task without, for data without masks."""


def _gpus(asked: int | None, profile: str, executor: Executor | None = None) -> int:
    """Number of GPUs that a detector uses, or of processes on the CPU in their place."""
    from benchmarks.executors.slurm import SlurmExecutor

    have = len(visible_gpus())
    stand_ins = cpu_processes()
    if isinstance(executor, SlurmExecutor):
        detector = executor.options["detector"]
        have = (stand_ins or detector.gpus) * detector.nodes
    elif stand_ins:
        if have:
            raise InputError(f"CPU_PROCESSES={stand_ins} is for machines without GPUs, and here are {have}: unset it")
        have = stand_ins
    if asked is None:
        return have if PROFILES[profile].every_gpu else min(1, have)
    if not 0 <= asked <= have:
        where = "this machine has" if executor is None or not isinstance(executor, SlurmExecutor) else "--slurm gives"
        raise InputError(f"--num-gpus {asked}: {where} {have}")
    return asked


def _executor(arguments: RunArguments | SuiteArguments) -> Executor:
    """The executor that the flags ask for. InputError for flags that do not fit it."""
    from benchmarks.executors.local import LocalExecutor

    if arguments.workers < 1:
        raise InputError(f"--workers {arguments.workers}: give 1 or more")
    here = LocalExecutor(workers=arguments.workers, gpus=visible_gpus())
    if arguments.executor == "local":
        if arguments.slurm:
            raise InputError(f"--slurm {arguments.slurm[0]}: give --executor slurm with it")
        return here
    from benchmarks.executors.slurm import SlurmExecutor
    from benchmarks.executors.slurm_options import parse_options
    from benchmarks.executors.slurm_queue import require_slurm

    options = parse_options(arguments.slurm)
    require_slurm()
    return SlurmExecutor(options=options, here=here)


def _opts(words: tuple[str, ...], search: tuple[str, ...] = ()) -> tuple[str, ...]:
    """KEY VALUE pairs in the order of their keys, so that the same options are the same run; the search is one more."""
    if len(words) % 2:
        raise InputError(f"--opts takes KEY VALUE pairs, got {len(words)} words: {' '.join(words)}")
    pairs = sorted(zip(words[::2], words[1::2], strict=True))
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"--opts {twice[0]} is given twice")
    return with_search(tuple(word for pair in pairs for word in pair), search)


def suite_main(argv: list[str]) -> int:
    """``suite``: see SuiteArguments."""
    from benchmarks.checkpoints import parse_checkpoints
    from benchmarks.suite_run import run_suite
    from benchmarks.suites import SUITES, changed, find_suite

    known = "\n\n".join(f"{one.name}: {one.title}" for one in SUITES.values())
    about = f"{SuiteArguments.__doc__}\n\n{known}"
    arguments = tyro.cli(SuiteArguments, args=argv, prog="python -m benchmarks suite", description=about)
    executor, suite = _executor(arguments), find_suite(arguments.suite)
    suite = changed(
        suite,
        arguments.profile,
        arguments.preset,
        arguments.flags,
        arguments.pretrain_seeds,
        own=bool(arguments.data),
    )
    opts = _opts(arguments.opts, arguments.search)
    checkpoints, gpus = parse_checkpoints(arguments.checkpoint), _gpus(arguments.num_gpus, suite.profile, executor)
    return run_suite(suite, checkpoints, executor, arguments.workers, gpus, opts, arguments.data)


def tables_main(argv: list[str]) -> int:
    """``tables``: see TablesArguments. 1 when the table was printed but could not be written, or is stale."""
    from benchmarks.report.collate import collate
    from benchmarks.report.paper.spec import SPECS

    known = "\n".join(sorted(path.stem for path in SPECS.glob("*.toml")))
    about = f"{TablesArguments.__doc__}\n\nBuilt-in layouts:\n\n{known}"
    gc.disable()  # ten thousand records hold no cycles, and looking for some takes a tenth of the time
    return collate(tyro.cli(TablesArguments, args=argv, prog="python -m benchmarks tables", description=about))


def list_main(argv: list[str]) -> int:
    """``list``: see ListArguments."""
    from benchmarks.report.listing import listing

    arguments = tyro.cli(ListArguments, args=argv, prog="python -m benchmarks list")
    if arguments.markdown and arguments.json:
        raise InputError("--markdown and --json exclude each other: leave one out")
    tasks = named(arguments.task) if arguments.task is not None else None
    print(listing(tasks, markdown=arguments.markdown, as_json=arguments.json))
    return 0


def compare_main(argv: list[str]) -> int:
    """``compare``: see CompareArguments."""
    from benchmarks.report.compare import compare
    from benchmarks.tasks import named

    arguments = tyro.cli(CompareArguments, args=argv, prog="python -m benchmarks compare")
    tasks = [task.name for name in arguments.task for task in named(name)]
    print(
        *compare(arguments.a, arguments.b, arguments.profile, tasks, sizes=arguments.sizes, force=arguments.force),
        sep="\n",
    )
    return 0


def show_main(argv: list[str]) -> int:
    """``show``: see ShowArguments."""
    from benchmarks.records import ResultsStore
    from benchmarks.report.show import show

    arguments = tyro.cli(ShowArguments, args=argv, prog="python -m benchmarks show")
    if arguments.count < 1:
        raise InputError("--count: give 1 or more")
    record = arguments.record
    if not record.is_file():  # a record that a migration has moved is found by its name
        record = next(ResultsStore().root.glob(f"*/{glob.escape(record.name)}"), record)
    if not record.is_file():
        raise InputError(f"{record} is not a file")
    print(*show(record, arguments.output, arguments.count, arguments.class_name), sep="\n")
    return 0


def prepare_main(argv: list[str]) -> int:
    """``prepare``: see benchmarks/data/prepare.py."""
    from benchmarks.data.prepare import main

    return main(argv)


def sheet_main(argv: list[str]) -> int:
    """``sheet``: see benchmarks/data/sheet.py."""
    from benchmarks.data.sheet import main

    return main(argv)


def status_main(argv: list[str]) -> int:
    """``status``: see StatusArguments."""
    from benchmarks.jobs.status import status_lines

    print(*status_lines(tyro.cli(StatusArguments, args=argv, prog="python -m benchmarks status").all), sep="\n")
    return 0


def retry_main(argv: list[str]) -> int:
    """``retry``: see RetryArguments. The worst status of the commands that are given again."""
    from benchmarks.jobs.control import retry

    return retry(tyro.cli(RetryArguments, args=argv, prog="python -m benchmarks retry").show, main)


def cancel_main(argv: list[str]) -> int:
    """``cancel``: see CancelArguments."""
    from benchmarks.jobs.control import cancel

    return cancel(tyro.cli(CancelArguments, args=argv, prog="python -m benchmarks cancel").words)


def logs_main(argv: list[str]) -> int:
    """``logs``: see LogsArguments."""
    from benchmarks.jobs.control import logs

    arguments = tyro.cli(LogsArguments, args=argv, prog="python -m benchmarks logs")
    return logs(arguments.words, max(1, arguments.lines))


def audit_main(argv: list[str]) -> int:
    """``audit``: see benchmarks/audit/command.py."""
    from benchmarks.audit.command import main

    return main(argv)


def export_main(argv: list[str]) -> int:
    """``export``: see benchmarks/sharing/commands.py."""
    from benchmarks.sharing.commands import export_main as main

    return main(argv)


def import_main(argv: list[str]) -> int:
    """``import``: see benchmarks/sharing/commands.py."""
    from benchmarks.sharing.commands import import_main as main

    return main(argv)


def rehearsal_main(argv: list[str]) -> int:
    """``rehearsal``: see RehearsalArguments."""
    from benchmarks.rehearsal.command import rehearse

    return rehearse(tyro.cli(RehearsalArguments, args=argv, prog="python -m benchmarks rehearsal"))


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "prepare": prepare_main,
    "sheet": sheet_main,
    "run": run_main,
    "tables": tables_main,
    "list": list_main,
    "show": show_main,
    "compare": compare_main,
    "audit": audit_main,
    "export": export_main,
    "import": import_main,
    "suite": suite_main,
    "rehearsal": rehearsal_main,
    "status": status_main,
    "retry": retry_main,
    "cancel": cancel_main,
    "logs": logs_main,
}


def main(argv: list[str]) -> int:
    """Dispatch to a command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    plugins, argv = plugin_arguments(argv)
    if not argv or argv[0] not in COMMANDS:
        raise InputError(f"unknown command {' '.join(argv[:1])}: choose from {', '.join(COMMANDS)}")
    use_plugins(plugins)
    if argv[0] in ("run", "tables", "show", "suite", "compare", "audit", "export"):
        from benchmarks.migrate import migrate
        from benchmarks.records import ResultsStore

        migrate(ResultsStore())
    give(argv)
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are printed as the bytes they are
    run_cli(main)
