"""Which process works in a folder, also where several hosts share it and file locks end at a host. Imports no torch.

The newest of a folder's files ``.claim-<number>`` says who holds it: host, boot, process, and whether that has let go.
Its time of change is the holder's heartbeat. Whoever follows links the next number, which file systems do for one
process alone, and removes the older ones. What is assumed of clocks and of NFS: docs/cluster.md.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import functools
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 180.0  # without a heartbeat: a holder on another host counts as dead
POLL_SECONDS = (0.1, 2.0)  # between two looks at a folder that another process holds: at first, and at most
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without lockf
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
_NAME = re.compile(r"\.claim-(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """A process: ``born`` is its start in clock ticks since boot, ``spaces`` the namespace of its pid, ``job`` its
    Slurm job as "id restarts", ``about`` its work in words."""

    token: str = ""
    host: str = ""
    boot: str = ""
    spaces: str = ""
    pid: int = 0
    born: str = ""
    since: str = ""
    job: str = ""
    about: str = ""
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "unknown"


def this_process(about: str = "") -> Owner:
    """This process, with a token of its own for each claim."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Owner(
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        boot=_boot(),
        spaces=_spaces(),
        pid=os.getpid(),
        born=_born(os.getpid()),
        since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        job=f"{job} {os.environ.get('SLURM_RESTART_COUNT') or 0}" if job else "",
        about=about,
    )


@functools.cache
def _boot() -> str:
    """Of this boot of this machine; "" where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _spaces() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start of the process in clock ticks; "" if there is none, or only its exit status is left."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if state in (b"Z", b"X") else fields[18].decode()


def ended(owner: Owner, silent: float) -> bool:
    """Whether a holder that has been ``silent`` for that many seconds is dead.

    On this machine its process decides, after another boot it is dead, and so it is where its Slurm job runs again.
    Elsewhere, also in a container beside this one, the heartbeat decides.
    """
    me = this_process()
    if owner.job and me.job and owner.job != me.job and owner.job.split()[0] == me.job.split()[0]:
        return int(owner.job.split()[1]) < int(me.job.split()[1])
    if owner.boot and owner.boot == me.boot:
        if owner.spaces == me.spaces:
            return not owner.born or _born(owner.pid) != owner.born
    elif owner.boot and me.boot and owner.host == me.host != "localhost":
        return True
    return silent > STALE_SECONDS


@dataclasses.dataclass
class Claim:
    """A folder that this process holds, by the file at ``path``."""

    path: Path
    owner: Owner

    @property
    def number(self) -> int:
        """Claims of a folder are counted."""
        return int(_NAME.fullmatch(self.path.name)[1])  # type: ignore[index]

    def taken_over(self) -> Owner | None:
        """Who has taken it over, where this process was believed dead; None as long as it is this process's own."""
        number, owner = newest(self.path.parent)
        return None if number <= self.number and (owner is None or owner.token == self.owner.token) else owner

    def require(self) -> None:
        """RunError if another process has taken it over: what this one has found is not to be kept."""
        from pretrain.common.errors import RunError

        if other := self.taken_over():
            raise RunError(f"{self.path.parent}: {_takeover(other)}")

    def release(self) -> None:
        """Let go: the file stays, and says so."""
        _HELD.pop(self.path, None)
        with suppress(OSError):
            if os.getpid() == self.owner.pid and not self.taken_over():
                _replace(self.path, dataclasses.replace(self.owner, released=True))


def newest(folder: Path) -> tuple[int, Owner | None]:
    """Number and owner of the folder's newest claim; 0 and None without one, an unknown owner of a damaged one."""
    numbers = _numbers(folder)
    for number in reversed(numbers):
        try:
            return number, _read(folder / f".claim-{number}")
        except FileNotFoundError:  # its follower removed it between the two looks
            continue
    return (newest(folder) if _numbers(folder) != numbers else (0, None)) if numbers else (0, None)


def _numbers(folder: Path) -> list[int]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def _read(path: Path) -> Owner:
    text = path.read_bytes()[:4096]
    try:
        values = json.loads(text)
        known = {field.name for field in dataclasses.fields(Owner)}
        return Owner(**{key: value for key, value in values.items() if key in known})
    except (ValueError, TypeError, AttributeError):
        return Owner()


def _replace(path: Path, owner: Owner) -> None:
    temporary = path.with_name(f".claiming-{owner.token}")
    temporary.write_text(json.dumps(dataclasses.asdict(owner)), encoding="utf-8")
    temporary.replace(path)


def silence(path: Path) -> float:
    """Seconds since the last heartbeat of the claim at ``path``, both times by the clock that stamps its files.

    0 if it is gone.
    """
    probe = path.with_name(f".claiming-{secrets.token_hex(8)}")
    try:
        with path.open("rb") as claim, probe.open("wb") as now:  # to open a file makes NFS ask for its times
            now.write(b"\n")
            now.flush()
            os.fsync(now.fileno())
            return os.fstat(now.fileno()).st_mtime - os.fstat(claim.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def holder(folder: Path) -> Owner | None:
    """The live process that holds ``folder``, if any."""
    number, owner = newest(folder)
    if owner is None or owner.released or ended(owner, silence(folder / f".claim-{number}")):
        return None
    return owner


@contextmanager
def claimed(folder: Path, about: str = "", lock: IO[str] | None = None) -> Iterator[Claim]:
    """Hold ``folder``; where a live process does, say so and wait for it.

    ``lock``: an open file whose lockf is held too. It wakes waiting processes of one host at once, but a host that
    died may keep it for ever, and not every file system has it: the claim decides.
    """
    claim = _waited_for(folder, about, lock)
    _beat_for(claim)
    try:
        yield claim
    finally:
        claim.release()


def tried(folder: Path, about: str = "") -> Claim | None:
    """A claim of ``folder`` until its ``release`` or this process's end; None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    claim = _taken(folder, about)
    if claim:
        _beat_for(claim)
    return claim


def _waited_for(folder: Path, about: str, lock: IO[str] | None) -> Claim:
    pause, said = POLL_SECONDS[0], False
    while True:
        has_lock = lock is None or _try_lockf(lock)
        if (has_lock or _is_dead(folder)) and (claim := _taken(folder, about)):
            return claim
        if not said:
            _, owner = newest(folder)
            who = f" ({owner})" if owner and not owner.released else ""
            print(f"another process works in {folder}{who}: waiting for it", file=sys.stderr)
            said = True
        time.sleep(pause)
        pause = min(pause * 1.5, POLL_SECONDS[1])


def _try_lockf(lock: IO[str]) -> bool:
    # lockf, not flock: processes forked from this one must not keep the lock of a killed parent.
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def _is_dead(folder: Path) -> bool:
    """Whether the newest claim is that of a dead process, which another host's lock may outlive."""
    number, owner = newest(folder)
    return bool(owner and not owner.released and ended(owner, silence(folder / f".claim-{number}")))


def _taken(folder: Path, about: str) -> Claim | None:
    """The next claim of ``folder``; None if a live process holds it, or was faster."""
    number, owner = newest(folder)
    path = folder / f".claim-{number}"
    if owner and not owner.released and not ended(owner, silence(path)):
        return None
    claim = Claim(folder / f".claim-{number + 1}", this_process(about))
    if not _linked(claim):
        return None
    numbers = _numbers(folder)
    if numbers and numbers[-1] > claim.number:  # the look above was at an old state of the folder
        claim.path.unlink(missing_ok=True)
        return None
    for old in numbers:
        if old < claim.number:
            (folder / f".claim-{old}").unlink(missing_ok=True)
    return claim


def _linked(claim: Claim) -> bool:
    """Make the claim's file, whole or not at all; False if there is one of this number."""
    temporary = claim.path.with_name(f".claiming-{claim.owner.token}")
    text = json.dumps(dataclasses.asdict(claim.owner))
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, claim.path)
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # NFS repeats a request whose answer was lost
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with claim.path.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


_HELD: dict[Path, Claim] = {}
_beating = threading.Lock()
_thread: list[threading.Thread] = []


def _beat_for(claim: Claim) -> None:
    with _beating:
        _HELD[claim.path] = claim
        if not _thread:
            _thread.append(threading.Thread(target=_beat, name="heartbeat", daemon=True))
            _thread[0].start()


def _beat() -> None:
    """Renew the times of all claims, and end this process if one was taken over while it was stopped."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        for path, claim in list(_HELD.items()):
            gone = False
            try:
                os.utime(path)
            except FileNotFoundError:
                gone = True
            except OSError:  # such as a server that does not answer: the next beat tries again
                continue
            with suppress(OSError):
                other = claim.taken_over()
                if path in _HELD and (gone or other):
                    print(f"error: {path.parent}: {_takeover(other)}; ending", file=sys.stderr, flush=True)
                    os._exit(1)


def _takeover(other: Owner | None) -> str:
    return f"taken over by {other or 'another process'}, as this one gave no sign of life for {STALE_SECONDS:.0f} s"


def _forget() -> None:
    """In a forked process, which holds nothing and has no thread."""
    global _beating
    _HELD.clear()
    _thread.clear()
    _beating = threading.Lock()


os.register_at_fork(after_in_child=_forget)
