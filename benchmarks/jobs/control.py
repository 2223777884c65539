"""`retry`, `cancel` and `logs`. Imports no torch."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.executors import slurm_queue
from benchmarks.executors.progress import say
from benchmarks.jobs.commands import Command, all_commands
from benchmarks.jobs.overview import attempt_at, overview
from benchmarks.jobs.status import in_slurm
from pretrain.common.errors import InputError
from pretrain.common.files import results_dir
from pretrain.common.plugins import use_plugins
from pretrain.common.shell import command


def retry(show: bool, main: Callable[[list[str]], int]) -> int:
    """Give the commands again that were stopped or had failures, one after the other; the worst of their statuses.

    ``show``: print them only.
    """
    left = [one for one in all_commands() if one.failed != 0]
    for one in [one for one in left if one.holder()]:
        say(f"runs already ({one.holder()}): {command('benchmarks', *one.words)}")
        left.remove(one)
    if not left:
        say("nothing to try again: every command has ended without a failed run, or runs")
    worst = 0
    for one in left:
        say(f"cd {one.folder}; {command('benchmarks', *one.words)}")
        if not show:
            worst = max(worst, _again(one, main))
    return worst


def _again(one: Command, main: Callable[[list[str]], int]) -> int:
    try:
        os.chdir(one.folder)
    except OSError as error:
        raise InputError(f"{one.folder}: the command's working folder cannot be entered ({error.strerror})") from None
    use_plugins(tuple(one.plugins.split()))
    return main(list(one.words))


def matches(words: Sequence[str], *names: str) -> bool:
    """Whether each word is in one of ``names``, in any case."""
    return all(any(word.casefold() in name.casefold() for name in names) for word in words)


def cancel(words: Sequence[str]) -> int:
    """End the jobs in Slurm whose names have all ``words``; without words also the commands that run on this host."""
    jobs = in_slurm()
    if jobs is None:
        raise InputError("Slurm does not answer: nothing was cancelled")
    chosen = [job for job in jobs if matches(words, job.name, job.state.task_id)]
    for job in chosen:  # before it ends: its command is not to submit it again
        (job.batch.folder / f"{slurm_queue.CANCELLED}-{job.index}").touch()
    if chosen:
        slurm_queue.cancel([job.state.task_id for job in chosen])
    say(*(f"cancelled {job.name} ({job.state.task_id})" for job in chosen))
    ended = 0
    for one in [] if words else all_commands():
        owner = one.holder()
        if owner and owner.host == socket.gethostname():
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGTERM)
                say(f"stopped {command('benchmarks', *one.words)} (process {owner.pid})")
                ended += 1
        elif owner:
            say(f"runs on {owner.host}, stop it there: {command('benchmarks', *one.words)}")
    if not chosen and not ended:
        say("nothing to cancel" + (f" whose name has {' '.join(words)}" if words else ""))
    return 0


def logs(words: Sequence[str], lines: int) -> int:
    """Print the end of the newest log whose job's name, or run's id, has all ``words``. InputError without one."""
    found = [path for name, path in _logs() if matches(words, name, str(path.parent.name)) and path.is_file()]
    if not found:
        raise InputError(f"no log of a job whose name has {' '.join(words) or 'anything'}: `status` has the names")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    print(newest, file=sys.stderr)
    text = newest.read_bytes()[-1_000_000:].decode(errors="replace").replace("\r", "\n")
    print(*text.splitlines()[-lines:], sep="\n")
    return 0


def _logs() -> list[tuple[str, Path]]:
    """(name, log) of jobs in Slurm, of running ones, and of every run."""
    found = [
        (task["name"], Path(path))
        for batch in slurm_queue.all_batches()
        for index, task in enumerate(batch.tasks)
        for path in (task.get("log"), batch.log(index))
        if path
    ]
    found += [(one.owner.about, one.folder / "log.txt") for one in overview().working]
    found += [(path.stem, path) for path in (results_dir() / "logs").glob("*.log")]
    for log in (results_dir() / "runs").glob("*/log.txt"):
        records = sorted(log.parent.glob("*.json"))
        attempt = attempt_at(records[-1]) if records else None
        found.append((attempt.name if attempt else "", log))
    return found
