"""Errors that a user can act on, and the one place where they become one line and an exit status."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pretrain.files import results_dir

_ELSEWHERE = "choose another folder with RESULTS_DIR"
_ADVICE = {
    errno.ENOSPC: f"free some space or {_ELSEWHERE}",
    errno.EDQUOT: f"free some space or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.ELOOP: "remove the link",
    errno.EACCES: "it cannot be read or written: change its permissions or choose another",
    errno.EPERM: "it cannot be read or written: change its permissions or choose another",
    errno.EEXIST: f"a file stands where a folder is needed: remove it or {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder is needed: remove it or {_ELSEWHERE}",
}


class _OneLine(Exception):
    """Its text is one line whatever names of files are in it: line ends, escapes and the like are spelt out."""

    def __str__(self) -> str:
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in super().__str__())


class InputError(_OneLine, ValueError):
    """Something given is wrong (file, flag, data). The message is one line: what is wrong and what to do."""


class RunError(_OneLine, RuntimeError):
    """The work itself failed (collapse, non-finite loss, weights that did not load). One line, as above."""


def run_cli(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main(argv)`` and exit.

    With its own status, 2 for InputError, 1 for RunError and for files that cannot be used, 130 for Ctrl-C.
    """
    try:
        status = main(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        status = 130
    except RuntimeError as error:
        if not (line := _of_memory(error)):
            raise
        print(f"error: {line}", file=sys.stderr)
        status = 1
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0) or _no_results_folder(error)
        if not advice:
            raise
        what = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{what}: {advice}", file=sys.stderr)
        status = 1
    sys.exit(status)


def _of_memory(error: RuntimeError) -> str | None:
    """torch's errors for too little memory in a line; None for any other."""
    first = str(error).split("\n")[0]
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in first:
        return f"out of memory ({first[:80]}): lower --batch-size or --image-size"
    if first.startswith("DataLoader worker") and "killed" in first:
        return f"a loader process was killed, as happens when memory runs out ({first[:80]}): lower --workers"
    return None


def _no_results_folder(error: OSError) -> str | None:
    """Advice where a folder above the results is missing and cannot be made; other missing files are faults of ours."""
    above = (results_dir(), *results_dir().parents)
    missing = error.errno == errno.ENOENT and error.filename and Path(error.filename) in above
    return f"the folder for results cannot be made; {_ELSEWHERE}" if missing else None
