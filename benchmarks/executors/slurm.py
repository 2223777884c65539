"""Run jobs through Slurm, submitted by submitit as arrays. Slurm is the queue, the records are the state.

This process submits what can run, waits, and submits what follows. When it ends the jobs stay: the same command finds
them by their work (slurm_queue.py), its own and those of another user's command on the same results. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.executors import slurm_queue
from benchmarks.executors.base import Executor, Job, Outcome, finished
from benchmarks.executors.progress import count_and_time_left, last_line, minutes, say, time_left
from benchmarks.executors.slurm_options import Options
from benchmarks.executors.slurm_queue import Batch, State
from benchmarks.executors.slurm_task import NODES, PER_NODE, Task
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import data_dir, locked, results_dir
from pretrain.common.stand_ins import cpu_processes

POLL_SECONDS = (0.5, 10.0)  # between two looks at the queue: after a change, and at most
SAY_SECONDS = 60.0
GRACE_SECONDS = 15.0  # from a job's leaving the queue to its result being seen, on a slow file system
FORGOTTEN_SECONDS = 600.0  # after a submission that Slurm does not know
SUBMISSIONS = 4  # of a job that Slurm lost, or that was cancelled from outside
GIVEN_BACK = ("CANCELLED", "NODE_FAIL", "PREEMPTED", "TIMEOUT", "BOOT_FAIL", "DEADLINE", "")
NOT_NOW = ("temporarily", "timed out", "Unable to contact", "Socket")  # sbatch's words where the controller is busy
LIMITS = ("limit", "Limit")  # and where it takes more jobs when some have ended
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class _Sent:
    """A job in a task of a batch; ``missed`` since when the queue has no longer known it."""

    job: Job
    batch: Batch
    index: int
    tries: int
    begun: float
    missed: float | None = None

    @property
    def task_id(self) -> str:
        return self.batch.task_id(self.index)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmExecutor:
    """``options`` by kind of job; jobs without a kind, and those of a kind without options, run in ``here``."""

    options: Mapping[str, Options]
    here: Executor

    def run(self, jobs: Iterable[Job], *, say_failures: bool = True, say_done: bool = True) -> Outcome:
        """See executors.base.Executor."""
        return _Run(self, say_failures, say_done).all(list(jobs))

    def is_here(self, job: Job) -> bool:
        """Whether ``job`` runs where this command runs."""
        return job.kind not in self.options

    def request(self, job: Job) -> tuple[int, int, int]:
        """Nodes, GPUs of each, and processes of each. InputError where the job cannot have what it needs."""
        options, stand_ins = self.options[job.kind], cpu_processes()
        have = stand_ins or options.gpus
        wanted = have * options.nodes if job.kind == "pretrain" else job.gpus
        if not have and wanted == 1:  # on nodes without GPUs
            return 1, 0, 1
        nodes = 1 if wanted <= have else options.nodes
        if wanted > have and (job.kind not in ("detector", "pretrain") or wanted != have * nodes):
            raise InputError(
                f"{job.name}: {wanted} GPUs, and a node for {job.kind} has {have}: give --num-gpus {have}, or run "
                "these tasks in a command of their own; only detectors and pretraining take several nodes"
            )
        each = wanted // nodes
        return nodes, 0 if stand_ins else each, each


class _Run:
    """One call of run: what waits to be submitted, what has been, and what has ended."""

    def __init__(self, executor: SlurmExecutor, say_failures: bool, say_done: bool) -> None:
        self.executor, self.say_failures, self.say_done = executor, say_failures, say_done
        self.waiting: list[tuple[Job, int]] = []  # with how often it was submitted
        self.sent: list[_Sent] = []
        self.done, self.outcome = 0, Outcome()
        self.states: dict[str, State] = {}
        self.silent = self.refused = False

    def all(self, jobs: list[Job]) -> Outcome:
        """Until every job and follow-up has ended."""
        pause, said = POLL_SECONDS[0], time.monotonic()
        self._add(jobs)
        try:
            while self.waiting or self.sent:
                self._submit()
                done = self.done
                self._look()
                if self.done > done or (self.waiting and not self.refused):
                    pause, said = POLL_SECONDS[0], time.monotonic()
                    continue
                if time.monotonic() - said > SAY_SECONDS:
                    said = time.monotonic()
                    self._say_running()
                time.sleep(pause)
                pause = min(pause * 1.3, POLL_SECONDS[1])
        except BaseException:
            if self.sent:
                say(f"{len(self.sent)} jobs stay in Slurm's queue: `python -m benchmarks cancel` ends them")
            raise
        return self.outcome

    def _add(self, jobs: Sequence[Job]) -> None:
        """Run the jobs that run here, and queue the others."""
        if here := [job for job in jobs if self.executor.is_here(job)]:
            ran = self.executor.here.run(here, say_failures=self.say_failures, say_done=self.say_done)
            self.outcome.failed.extend(ran.failed)
            for stage, seconds in ran.seconds.items():
                self.outcome.seconds.setdefault(stage, []).extend(seconds)
            self.done += len(here)
        self.waiting += [(job, 0) for job in jobs if not self.executor.is_here(job)]

    def _submit(self) -> None:
        """Follow the jobs that are in the queue already, take kept values, and submit the others by what they need."""
        if not self.waiting:
            return
        with locked(slurm_queue.batches_dir()):  # of two commands one submits, and the other follows its jobs
            batches = slurm_queue.all_batches()
            running = slurm_queue.queued(batch.name for batch in batches if not batch.has_ended())
            self.refused = running is None
            if running is None:
                self._say_silent()
                return
            _close(batches, running)
            waiting, self.waiting = self.waiting, []
            groups: dict[object, list[tuple[Job, int]]] = {}
            for job, tries in self._new(waiting, batches, running):
                groups.setdefault((job.kind, self.executor.request(job)), []).append((job, tries))
            for group in groups.values():
                self._submit_group(group)

    def _say_silent(self) -> None:
        if not self.silent:
            say("Slurm does not answer: waiting for it")
        self.silent = True

    def _new(
        self, jobs: list[tuple[Job, int]], batches: Sequence[Batch], running: Mapping[str, State]
    ) -> list[tuple[Job, int]]:
        """Those of ``jobs`` that no earlier submission makes."""
        known: dict[str, list[tuple[Batch, int]]] = {}
        for batch in batches:
            for index, task in enumerate(batch.tasks):
                for work in task["work"]:
                    known.setdefault(work, []).append((batch, index))
        left = []
        for job, tries in jobs:
            tasks = known.get(job.work[0], []) if job.work else []
            tasks = [one for one in tasks if set(job.work) <= set(one[0].tasks[one[1]]["work"])]
            tasks = [(_with_id(batch, running), index) for batch, index in tasks]
            if there := [one for one in tasks if one[0].task_id(one[1]) in running]:
                self.sent.append(_Sent(job, *there[-1], tries=max(1, tries), begun=time.monotonic()))
            elif not self._kept(job, tasks):
                left.append((job, tries))
        return left

    def _kept(self, job: Job, tasks: list[tuple[Batch, int]]) -> bool:
        """Whether an earlier job of the same work left a value that holds: then it is this job's."""
        for batch, index in reversed(tasks):
            result = batch.result(index)
            alike = batch.tasks[index].get("request") == list(self.executor.request(job))  # GPUs may be part of it
            if alike and result and result[0] and job.still(result[1]):
                self._end(job, True, result[1], 0.0)
                return True
        return False

    def _submit_group(self, group: list[tuple[Job, int]]) -> None:
        most = slurm_queue.most_in_an_array() if len(group) > 1 else 1
        for start in range(0, len(group), most):
            part = group[start : start + most]
            try:
                batch = _submitted([job for job, _ in part], self.executor)
            except RunError as error:
                if not any(word in str(error) for word in (*NOT_NOW, *(LIMITS if self.sent else ()))):
                    raise
                if not self.refused:
                    say(f"Slurm takes no more jobs now ({error}): the rest waits")
                self.refused = True
                self.waiting += group[start:]
                return
            for index, (job, tries) in enumerate(part):
                self.sent.append(_Sent(job, batch, index, tries + 1, time.monotonic()))

    def _look(self) -> None:
        """Take the results that are there, and see to jobs that have left the queue without one."""
        batches = {one.batch.name: one.batch for one in self.sent}
        states = slurm_queue.queued(batches)
        if states is None:
            self._say_silent()
        else:
            self.silent, self.states = False, states
        there = {name: _files(batch.folder) for name, batch in batches.items()}
        for one in list(self.sent):
            name = f"{one.task_id}_0_result.pkl"
            result = one.batch.result(one.index) if name in there[one.batch.name] else None
            if result:
                self.sent.remove(one)
                self._end(one.job, *result)
            elif states is None or one.task_id in states:
                one.missed = None
            else:
                one.missed = one.missed or time.monotonic()
                if time.monotonic() - one.missed > GRACE_SECONDS:
                    self.sent.remove(one)
                    self._lost(one)
        mine = {one.batch.name for one in self.sent}
        for name in batches.keys() - mine:
            results = {f"{batches[name].task_id(index)}_0_result.pkl" for index in range(len(batches[name].tasks))}
            gone = states is not None and not any(state.batch == name for state in states.values())
            if gone or results <= there[name]:  # a task stays in the queue for some seconds after its result
                batches[name].end()

    def _lost(self, one: _Sent) -> None:
        """A job left the queue without a result: submit it again, or it has failed."""
        end = slurm_queue.end_of(one.task_id)
        if one.batch.is_cancelled(one.index):
            job = dataclasses.replace(one.job, crashed=lambda reason: None)  # no attempt has failed
            self._end(job, False, "cancelled", 0.0)
        elif end in GIVEN_BACK and one.tries < SUBMISSIONS:
            words = end or "without a word"
            say(f"{one.job.name}: Slurm ended its job {one.task_id} ({words}): submitting it again")
            self.waiting.append((one.job, one.tries))
        else:
            self._end(one.job, False, f"Slurm ended its job {one.task_id} ({end or 'unknown'}){_why(one)}", 0.0)

    def _end(self, job: Job, good: bool, value: Any, seconds: float) -> None:
        self.done += 1
        reason, new = finished(job, good, value, self.outcome, seconds)
        self._add(new)
        if self.say_failures if reason else self.say_done:
            text = f"FAILED: {reason}" if reason else job.report(value)
            count, _, left = self._progress().partition(" ")
            say(f"[{count}] {job.name}: {text} · {minutes(seconds)}{left and f' {left}'}")

    def _progress(self) -> str:
        jobs = [*(one.job for one in self.sent), *(job for job, _ in self.waiting)]
        to_come = sum(job.follows for job in jobs)
        running = [one for one in self.sent if self._is_running(one)]
        spent = [(one.job.estimate(), time.monotonic() - one.begun) for one in running]
        rest = [one.job.estimate() for one in self.sent if not self._is_running(one)]
        rest += [job.estimate() for job, _ in self.waiting]
        left = None if to_come else time_left(spent, rest, max(1, len(running)))
        return count_and_time_left(self.done, len(running), len(jobs) - len(running) + to_come, left)

    def _is_running(self, one: _Sent) -> bool:
        return one.task_id in self.states and self.states[one.task_id].state == "RUNNING"

    def _say_running(self) -> None:
        running = [one for one in self.sent if self._is_running(one)]
        say(f"  … {len(running)} running, {len(self.sent) - len(running) + len(self.waiting)} queued")
        for one in running[:5]:
            say(f"  … {one.job.name} on {self.states[one.task_id].node}: {last_line(one.job.log)[:120] or 'starting'}")


def _files(folder: Path) -> set[str]:
    """Names in ``folder``: to list it makes NFS look again."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def _close(batches: Sequence[Batch], running: Mapping[str, State]) -> None:
    """Note the end of batches whose command was killed before it saw it."""
    there = {state.batch for state in running.values()}
    for batch in batches:
        if batch.name not in there and not batch.has_ended() and batch.age() > FORGOTTEN_SECONDS:
            batch.end()


def _with_id(batch: Batch, states: Mapping[str, State]) -> Batch:
    """``batch`` with the id that Slurm knows it by, where the command that submitted it was killed meanwhile."""
    if batch.job_id:
        return batch
    ids = {state.task_id.partition("_")[0] for state in states.values() if state.batch == batch.name}
    return dataclasses.replace(batch, job_id=ids.pop()) if ids else batch


def _why(one: _Sent) -> str:
    if line := last_line(one.batch.log(one.index)) or last_line(one.job.log):
        return f": {line[:300]}"
    return f": it said nothing; can its node see {results_dir()}?"


def _submitted(jobs: Sequence[Job], executor: SlurmExecutor) -> Batch:
    """Submit jobs of one kind and request, an array if there are several. RunError in sbatch's words if it refuses."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    options, request = executor.options[jobs[0].kind], executor.request(jobs[0])
    batch = slurm_queue.new_batch(jobs[0].kind, [{**_note(job), "request": request} for job in jobs])
    batch.write()
    python = submitit.SlurmExecutor(batch.folder, max_num_timeout=options.requeues)
    python.update_parameters(**_parameters(batch.name, options, request))
    environment = _environment(request)
    tasks = [Task(one.name, one.target, one.arguments, one.log, environment, _grace(options)) for one in jobs]
    try:
        sent = python.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        batch.end()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunError(f"sbatch: {(lines or ['it failed'])[-1]}") from None
    batch = dataclasses.replace(batch, job_id=sent[0].job_id.partition("_")[0])
    batch.write()
    return batch


def _note(job: Job) -> dict[str, Any]:
    log = str(job.log.absolute()) if job.log else ""
    return {"name": job.name, "work": job.work, "log": log, "estimate": job.estimate(), "follows": job.follows}


def _grace(options: Options) -> float:
    """Seconds for the work to save at the end of its time: what is left then is for Slurm to requeue."""
    return max(1.0, min(60.0, options.warn * 2 / 3))


def _parameters(name: str, options: Options, request: tuple[int, int, int]) -> dict[str, Any]:
    """submitit's. One process on the first node: it starts others there, and those of further nodes by srun."""
    nodes, gpus, _ = request
    given = {
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "gpus_per_node": gpus,
        "cpus_per_task": options.cpus,
        "mem": f"{options.memory_gb * 1024:.0f}MB" if options.memory_gb else "",
    }
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {key: value for key, value in given.items() if value} | {
        "job_name": name,
        "time": options.minutes,
        "nodes": nodes,
        "signal_delay_s": options.warn,
        "array_parallelism": options.at_most,
        "setup": [f"export PYTHONPATH={shlex.quote(path)}", *options.setup],
        "srun_args": ["--nodes=1", "--ntasks=1", *(["--cpus-per-task", str(options.cpus)] if options.cpus else [])],
        "additional_parameters": {"requeue": True, "ntasks-per-node": 1, **options.sbatch},
    }


def _environment(request: tuple[int, int, int]) -> dict[str, str]:
    """Of the work: this command's folders and plugins, whatever sbatch exports, and what the job was given."""
    nodes, _, each = request
    kept = ("TRANSFER_PLUGINS", "CPU_PROCESSES", "COCO_EVAL", "IMAGENET_DIR", "DETECTRON2_DATASETS")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    found |= {"RESULTS_DIR": str(results_dir().absolute()), "DATA_DIR": str(data_dir().absolute())}
    return found | {NODES: str(nodes), PER_NODE: str(each)}
