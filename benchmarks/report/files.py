"""The files of a table: written whole, or compared with those in a folder. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pretrain.common.errors import printable
from pretrain.common.files import replacing


def write_files(folder: Path, files: Mapping[str, bytes]) -> tuple[list[Path], dict[str, str]]:
    """Write ``files`` (name → content); the paths written, and the reason for each that could not be."""
    written: list[Path] = []
    failed: dict[str, str] = {}
    for name, content in files.items():
        try:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
            written.append(folder / name)
        except OSError as error:
            failed[name] = error.strerror or type(error).__name__
    return written, failed


def say_failed(folder: Path, failed: Mapping[str, str]) -> None:
    """One line on stderr that names the files that could not be written, and why."""
    if failed:
        reasons = ", ".join(dict.fromkeys(failed.values()))
        print(f"warning: not written to {printable(str(folder))}: {', '.join(failed)} ({reasons})", file=sys.stderr)


def stale(folder: Path, files: Mapping[str, bytes]) -> str | None:
    """The first of ``files`` that differs from the one in ``folder``, in words; None where all are equal."""
    for name, content in files.items():
        path = folder / name
        try:
            if path.read_bytes() != content:
                return f"{path} differs from the records: write it again without --check"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}): write it without --check"
    return None
