"""`status`: what is done, running where, queued and failed, and the time left. Imports no torch."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.executors import slurm_queue
from benchmarks.executors.progress import last_line, minutes
from benchmarks.executors.slurm_queue import Batch, State
from benchmarks.jobs.commands import all_commands
from benchmarks.jobs.overview import Working, overview
from pretrain.common.errors import printable
from pretrain.common.files import results_dir
from pretrain.common.shell import command

MOST_LINES = 20  # of a kind, unless all are asked for
MOST_LETTERS = 160


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queued:
    """A job in Slurm's queue: its task of a batch, and what Slurm says of it."""

    batch: Batch
    index: int
    state: State

    @property
    def name(self) -> str:
        """As in progress lines."""
        return str(self.batch.tasks[self.index]["name"])

    @property
    def log(self) -> Path | None:
        """Of its work."""
        log = self.batch.tasks[self.index].get("log")
        return Path(log) if log else None

    @property
    def is_running(self) -> bool:
        """Or it waits."""
        return self.state.state in ("RUNNING", "COMPLETING")

    @property
    def estimate(self) -> float | None:
        """Expected seconds."""
        return self.batch.tasks[self.index].get("estimate")


def in_slurm() -> list[Queued] | None:
    """The jobs of this results folder in Slurm's queue, in its order; None if it does not answer."""
    batches = {batch.name: batch for batch in slurm_queue.all_batches(open_only=True)}
    states = slurm_queue.queued(batches) if batches else {}
    if states is None:
        return None
    found = []
    for state in states.values():
        number = state.task_id.partition("_")[2] or "0"
        batch = batches[state.batch]
        if number.isdigit() and int(number) < len(batch.tasks):
            known = batch if batch.job_id else dataclasses.replace(batch, job_id=state.task_id.partition("_")[0])
            found.append(Queued(batch=known, index=int(number), state=state))
    return found


def status_lines(every: bool = False) -> list[str]:
    """The lines of `status`; with ``every`` also those beyond MOST_LINES of a kind."""
    found, jobs = overview(), in_slurm()
    running = [job for job in jobs or [] if job.is_running]
    waiting = [job for job in jobs or [] if not job.is_running]
    local = [one for one in found.working if jobs is None or not one.owner.job]
    numbers = f"{found.done:,} done, {len(running) + len(local):,} running, {len(waiting):,} queued"
    lines = [f"{results_dir()}: {numbers}, {len(found.failed):,} failed{_left(running, waiting)}"]
    if jobs is None:
        lines.append("Slurm does not answer: its jobs are left out")
    lines += _cut([_of_slurm(job) for job in running] + [_of_claim(one) for one in local], every)
    lines += _cut([f"queued   {job.name} ({job.state.task_id}, {job.state.reason})" for job in waiting], every)
    failed = [f"failed   {one.name}: {one.error}" for one in reversed(found.failed)]
    lines += _cut(failed, every)
    if found.unreadable:
        lines.append(f"{found.unreadable} folders of results/runs have no readable record")
    return [printable(line) for line in [*lines, *_commands()]]


def _cut(lines: list[str], every: bool) -> list[str]:
    if every or len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"         … and {len(lines) - MOST_LINES:,} more: --all"]


def _of_slurm(job: Queued) -> str:
    where = f"{job.state.task_id} on {job.state.node}, {job.state.spent} of its time gone, {job.state.left} left"
    said = last_line(job.log) or last_line(job.batch.log(job.index)) or "starting"
    return f"running  {job.name} ({where}): {said[:MOST_LETTERS]}"


def _of_claim(one: Working) -> str:
    begun = datetime.fromisoformat(one.owner.since)
    spent = minutes(max(0.0, (datetime.now(UTC) - begun).total_seconds()))
    said = last_line(one.folder / "log.txt") or last_line(one.folder / "metrics.jsonl")
    name = one.owner.about or one.folder.name
    return f"running  {name} ({one.owner}, {spent}){said and f': {said[:MOST_LETTERS]}'}"


def _left(running: list[Queued], waiting: list[Queued]) -> str:
    """``, about 2.0 min left`` if the seconds of all jobs in Slurm are known, as many at a time as run now."""
    jobs = [*running, *waiting]
    if not jobs or any(job.estimate is None for job in jobs):
        return ""
    rest = [max(0.0, (job.estimate or 0.0) - _seconds(job.state.spent)) for job in running]
    rest += [job.estimate or 0.0 for job in waiting]
    return f", about {minutes(max([sum(rest) / max(1, len(running)), *rest]))} left in Slurm"


def _seconds(text: str) -> float:
    """Of Slurm's [days-]hours:minutes:seconds; 0 of another text."""
    days, _, clock = text.rpartition("-")
    try:
        seconds = 86400.0 * int(days or 0)
        for place, part in enumerate(reversed(clock.split(":"))):
            seconds += int(part) * 60**place
    except ValueError:
        return 0.0
    return seconds


def _commands() -> list[str]:
    """The commands that run, and those that `retry` would give again."""
    lines = []
    for one in all_commands():
        words = command("benchmarks", *one.words)
        if owner := one.holder():
            lines.append(f"command  {words} ({owner})")
        elif one.failed is None:
            lines.append(f"stopped  {words}: `{command('benchmarks', 'retry')}` goes on")
        elif one.failed:
            lines.append(f"ended    {words}: {one.failed} failed; `{command('benchmarks', 'retry')}` tries them again")
    return lines
