"""Errors that a user can act on, and the one place where they become one line and an exit status."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pretrain.common.files import results_dir
from pretrain.common.signals import Stopped, ignore_signals, raise_on_signals

MOST_LETTERS = 20_000  # of a line
_ELSEWHERE = "choose another folder with RESULTS_DIR"
_SPACE = f"free some space or {_ELSEWHERE}"
_PERMISSIONS = "it cannot be read or written: change its permissions or choose another"
_IN_THE_WAY = f"a file stands where a folder is needed: remove it or {_ELSEWHERE}"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: f"a limit on the size of files (ulimit -f) is reached: raise it or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.ELOOP: "remove the link",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
}
# How torch, NumPy and the dynamic loader say that memory is short.
_MEMORY = ("can't allocate memory", "Cannot allocate memory", "cannot allocate memory", "bad_alloc", "ALLOC_FAILED")
_MEMORY_OR_THREADS = ("can't start new thread", "failed to map segment from shared object")
# How NumPy, torch and safetensors say that a write failed; they drop the system's own words.
_WRITES = re.compile(r"PytorchStreamWriter failed|\d requested and \d+ written|unexpected pos|No space left on device")


def _shortened(text: str) -> str:
    """``text``, without its middle where names in it are longer than anybody reads."""
    half = MOST_LETTERS // 2
    return text if len(text) <= MOST_LETTERS else f"{text[:half]} … {text[-half:]}"


def printable(text: str) -> str:
    """``text`` in one line: control, invisible and undecodable characters as Python escapes, ``\\n`` or ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class _OneLine(Exception):
    """Its text is printable whatever names of files are in it."""

    def __str__(self) -> str:
        return printable(_shortened(super().__str__()))


class InputError(_OneLine, ValueError):
    """Something given is wrong (file, flag, data). The message is one line: what is wrong and what to do."""


class RunError(_OneLine, RuntimeError):
    """The work itself failed (collapse, non-finite loss, weights that did not load). One line, as above."""


def run_cli(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main(argv)`` and exit.

    With its own status, 2 for InputError, 1 for RunError, for files that cannot be used and for too little memory, 130
    for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    raise_on_signals()
    try:
        status = main(sys.argv[1:])
    except Stopped as stopped:
        ignore_signals()
        print(f"{stopped}; the same command continues", file=sys.stderr)
        status = stopped.status
    except BrokenPipeError:
        if _output_is_read():  # then the pipe was one to a process of ours
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        line = in_one_line(error)
        if not line:
            raise
        print(f"error: {line}", file=sys.stderr)
        status = 2 if isinstance(error, InputError) else 1
    sys.exit(status)


def _output_is_read() -> bool:
    """Whether somebody reads stdout: not in `… | head`, where the reader has seen enough."""
    watched = select.poll()
    watched.register(sys.stdout, 0)  # for errors alone, such as the other end being closed
    return not watched.poll(0)


def in_one_line(error: BaseException) -> str | None:
    """An error that a user can act on, with what to do; None for any other, which is a fault of ours."""
    if isinstance(error, InputError | RunError):
        return str(error)
    return _of_memory(error) or _of_files(error)


def _of_memory(error: BaseException) -> str | None:
    first = " ".join(str(error).split("\n")[0].split())[:80]
    if first.startswith("DataLoader worker") and "killed" in first:
        return f"a loader process was killed, as happens when memory runs out ({first}): lower --workers"
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker was killed, as happens when memory runs out: lower --workers"
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if known or getattr(error, "errno", None) == errno.ENOMEM or any(words in str(error) for words in _MEMORY):
        return f"out of memory ({first or type(error).__name__}): lower --workers, --batch-size or --image-size"
    if any(words in str(error) for words in _MEMORY_OR_THREADS):
        return f"out of memory or of threads ({first}): lower --workers, or raise the limit (ulimit -v, ulimit -u)"
    return None


def _of_files(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno:
        advice = _ADVICE.get(error.errno) or _no_results_folder(error)
        what = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{what}: {advice}" if advice else None
    if _WRITES.search(str(error)):
        return f"a file could not be written whole ({' '.join(str(error).split())[:80]}): {_SPACE}"
    return None


def _no_results_folder(error: OSError) -> str | None:
    """Advice where a folder above the results is missing and cannot be made; other missing files are faults of ours."""
    above = (results_dir(), *results_dir().parents)
    missing = error.errno == errno.ENOENT and error.filename and Path(error.filename) in above
    return f"the folder for results cannot be made; {_ELSEWHERE}" if missing else None
