"""What a checkpoint or a run record says of the code and machine that made it. Imports no torch."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CODE = ("pretrain", "transfer", "benchmarks")
CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def git_state() -> dict[str, Any] | None:
    """``{"commit": sha, "dirty": bool}`` of the checkout's tracked files but results/; None outside git.

    Files of the code that git does not track count as changes too.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        tracked = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        added = git("ls-files", "--others", "--exclude-standard", "--", *CODE)
        dirty = bool((tracked + added).strip())
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": dirty}


def short_commit(state: Mapping[str, Any] | None) -> str:
    """What tables say of a ``git_state``: 12 digits, "+changes" where files had changed; "outside-git" for None."""
    if state is None:
        return "outside-git"
    return str(state["commit"])[:12] + ("+changes" if state["dirty"] else "")


def package_versions(*names: str) -> dict[str, str | None]:
    """Installed version of Python and of each distribution named (None where it is absent)."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def utc_now() -> str:
    """UTC time to the second, ISO 8601 with Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
