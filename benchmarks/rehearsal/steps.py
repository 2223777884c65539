"""The commands of a rehearsal, run as a user runs them, and their outcome per task. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.arguments import visible_gpus
from benchmarks.executors.progress import say
from benchmarks.records import ResultsStore, RunRecord, files_of
from benchmarks.rehearsal import shrink
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from pretrain.common.stand_ins import VARIABLE as CPU_PROCESSES

PLUGIN = "benchmarks.rehearsal.plugin"
KILLED_ITERATIONS = 3 * shrink.KEPT_AT
POLL_SECONDS = 0.05
WORKING = "files"  # ResultsStore.working_folder
PATIENCE_SECONDS = 600.0  # until the first checkpoint of a run that is to be killed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run everything: its name, the processes of a run, and the environment and flags that ask for them."""

    name: str
    processes: int
    environment: Mapping[str, str]
    flags: tuple[str, ...]
    workers: int
    """Jobs side by side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of a task in a variant: ``reason`` is empty where it passed. ``seconds`` are the run's own."""

    seconds: float | None = None
    reason: str = ""
    log: Path | None = None


def variants(gpus: int, cores: int) -> list[Variant]:
    """One GPU and all of them; without GPUs one process on the CPU and two."""
    cpu = {shrink.VARIABLE: "cpu", CPU_PROCESSES: ""}
    if not gpus:
        one = Variant(name="1 process", processes=1, environment=cpu, flags=("--num-gpus", "0"), workers=cores)
        two = Variant(name="2 processes", processes=2, environment=cpu | {CPU_PROCESSES: "2"}, flags=(), workers=1)
        return [one, dataclasses.replace(two, workers=max(1, cores // 2))]
    gpu = {shrink.VARIABLE: "gpu"}
    one = Variant(name="1 GPU", processes=1, environment=gpu, flags=("--num-gpus", "1"), workers=gpus)
    every = Variant(name=f"{gpus} GPUs", processes=gpus, environment=gpu, flags=("--num-gpus", str(gpus)), workers=gpus)
    return [one, every] if gpus > 1 else [one]


def own_variants() -> list[Variant]:
    """Those of this machine."""
    return variants(len(visible_gpus()), len(os.sched_getaffinity(0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a variant's commands write: ``results`` and ``data`` are their RESULTS_DIR and DATA_DIR."""

    results: Path
    data: Path
    logs: Path
    variant: Variant

    def command(self, name: str, *words: object) -> tuple[int, Path, str]:
        """Run `python -m benchmarks …` to its end: status, log, last line that it wrote."""
        with self.started(name, *words) as (process, log):
            last = ""
            assert process.stdout is not None
            with log.open("a", encoding="utf-8") as stream:
                for line in process.stdout:
                    stream.write(line)
                    last = line.strip() or last
                    if line.startswith("["):  # a job is done
                        say(f"    {line.strip()[:200]}")
                        forget_checkpoints(self.results, running=True)
        return process.returncode, log, last

    @contextmanager
    def started(self, name: str, *words: object) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """The process of the command and its log; the process has ended, or is ended, at the end of the block."""
        log = self.logs / f"{self.variant.name} {name}.log".replace(" ", "-")
        log.parent.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "benchmarks", *map(str, words)]
        places = {"RESULTS_DIR": str(self.results), "DATA_DIR": str(self.data)}
        environment = os.environ | places | dict(self.variant.environment)
        process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            yield process, log
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def records(self, checkpoint: str) -> dict[str, RunRecord]:
        """The newest record of each task with the checkpoint NAME=PATH; their logs are relative to ``results``."""
        label = checkpoint.partition("=")[0]
        every = ResultsStore(self.results / "runs").load_all()
        return {record.spec.task: record for record in every if record.label == label}


def words_of_run(
    stage: Stage, tasks: Sequence[str], checkpoint: str, root: Path, iterations: int | None = None
) -> list[str]:
    """The words of `python -m benchmarks`: those of a paper run, with the plugin and the --opts that shrink it."""
    shrunk = shrink.options(stage.variant.environment[shrink.VARIABLE] == "cpu", iterations)
    detects = any(TASKS[name].detects for name in tasks)
    return [
        *("--plugin", PLUGIN, "run", "--profile", "paper", "--task", *tasks, "--checkpoint", checkpoint),
        *("--data", str(root), "--workers", str(stage.variant.workers), *stage.variant.flags),
        *(["--opts", *shrunk] if detects else []),
    ]


def run_tasks(stage: Stage, name: str, tasks: Sequence[str], checkpoint: str, root: Path) -> dict[str, Outcome]:
    """Outcome by task. Where the command refuses its input as a whole, each task is tried by itself."""
    status, log, last = stage.command(name, *words_of_run(stage, tasks, checkpoint, root))
    records = stage.records(checkpoint)
    forget_checkpoints(stage.results)
    if status == 2 and len(tasks) > 1 and not records.keys() & set(tasks):
        alone = [run_tasks(stage, f"{name} {task}", [task], checkpoint, root) for task in tasks]
        return {task: outcome for found in alone for task, outcome in found.items()}
    return {task: outcome_of(records.get(task), stage, log, last) for task in tasks}


def outcome_of(record: RunRecord | None, stage: Stage, log: Path, last: str) -> Outcome:
    """Of a task whose newest record is ``record``; None: the command ended without one, its ``last`` line says why."""
    if record is None:
        return Outcome(reason=last or "it wrote no record", log=log)
    place = stage.results / record.log if record.log else log
    reason = record.error or scaled_wrongly(record, stage.variant.processes)
    return Outcome(seconds=record.wall_seconds, reason=reason, log=place)


def scaled_wrongly(record: RunRecord, processes: int) -> str:
    """The reason if a detector's batch and rate are not the published ones times processes / REFERENCE_WORLD_SIZE."""
    if not TASKS[record.spec.task].detects:
        return ""
    solver, before = record.config["SOLVER"], record.config["TRANSFER"]["UNSCALED"]
    reference = before["SOLVER.REFERENCE_WORLD_SIZE"]
    share = processes / reference if reference else 1.0
    for key in ("IMS_PER_BATCH", "BASE_LR"):
        if abs(solver[key] - before[f"SOLVER.{key}"] * share) > 1e-9:
            published = f"{before[f'SOLVER.{key}']} with {reference}"
            return f"SOLVER.{key} is {solver[key]} with {processes} processes, and {published}"
    return ""


def forget_checkpoints(results: Path, running: bool = False) -> None:
    """Remove the detectors' checkpoints, 0.3 GB each, which nothing reads any more.

    ``running``: other runs still are; theirs, in the working folder, stay.
    """
    for path in results.glob("runs/*/*/model_*.pth"):
        if not (running and path.parent.name == WORKING):
            path.unlink()


def killed_and_resumed(stage: Stage, task: str, checkpoint: str, root: Path) -> Outcome:
    """Kill -9 the command of a detector after its first checkpoint, give it again, and look at its end."""
    begun, words = time.monotonic(), words_of_run(stage, [task], checkpoint, root, KILLED_ITERATIONS)
    with stage.started("killed", *words) as (process, log):
        saved = _wait_for(lambda: list(stage.results.glob("runs/*/*/last_checkpoint")), process)
        process.kill()
        log.write_text(process.communicate()[0], encoding="utf-8")
    if not saved:
        return Outcome(reason="the command ended before it had written a checkpoint", log=log)
    _, log, last = stage.command("resumed", *words)
    record = stage.records(checkpoint).get(task)
    outcome = outcome_of(record, stage, log, last)
    forget_checkpoints(stage.results)
    if record is None or outcome.reason:
        return outcome
    reason = _not_resumed(record, stage)
    return Outcome(seconds=time.monotonic() - begun, reason=reason, log=outcome.log)


def _wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Whether ``found`` gave something before the process ended and PATIENCE_SECONDS were over."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if found():
            return True
        time.sleep(POLL_SECONDS)
    return False


def _not_resumed(record: RunRecord, stage: Stage) -> str:
    """The reason if the run did not continue, or did not end at its last iteration."""
    if not record.resumed_at:
        return "the second command began anew: its record has no resumed_at"
    store = ResultsStore(stage.results / "runs")
    (path,) = [one for one in store.paths(record.spec) if store.load(one) == record]
    lines = (files_of(path) / "metrics.json").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])["iteration"] + 1
    if last != KILLED_ITERATIONS:
        return f"it was resumed at {record.resumed_at} and ended at iteration {last} of {KILLED_ITERATIONS}"
    return ""


def labels_in_table(stage: Stage) -> list[str]:
    """The labels of the rows of the variant's table. InputError if `tables` fails."""
    status, log, last = stage.command("tables", "--plugin", PLUGIN, "tables", "paper", "--name", "rehearsal")
    path = stage.results / "tables" / "rehearsal.csv"
    if status or not path.is_file():
        raise InputError(f"tables ended with status {status}: {last} (log: {log})")
    import pandas as pd

    rows = pd.read_csv(path)
    return [str(one) for one in dict.fromkeys(rows["checkpoint"])]
