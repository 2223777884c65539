"""Errors that a user can act on, and the one place where they become one line and an exit status."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(ValueError):
    """Something given is wrong (file, flag, data). The message is one line: what is wrong and what to do."""


class RunError(RuntimeError):
    """The work itself failed (collapse, non-finite loss, weights that did not load). One line, as above."""


def run_cli(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main(argv)`` and exit: its own status, 2 for InputError, 1 for RunError or a full disk, 130 for Ctrl-C."""
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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        what = f" ({error.filename})" if error.filename else ""
        advice = "free some space or choose another folder with RESULTS_DIR"
        print(f"error: {error.strerror}{what}: {advice}", file=sys.stderr)
        status = 1
    sys.exit(status)
