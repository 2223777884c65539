"""The `run` and `suite` commands given on this results folder, for `status`, `retry` and `cancel`. Imports no torch.

``results/commands/<digest>/command.json`` has the words and how it ended; the command holds the folder while it runs.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pretrain.common import claims
from pretrain.common.claims import Owner
from pretrain.common.files import digest, read_mapping, results_dir, write_json
from pretrain.common.plugins import VARIABLE

NOTE = "command.json"
_given: list[str] = []


@dataclasses.dataclass(kw_only=True)
class Command:
    """``failed``: runs without a number at its end; None while it runs, or if it was killed."""

    words: tuple[str, ...]
    folder: str
    plugins: str = ""
    begun: str = ""
    failed: int | None = None

    @property
    def place(self) -> Path:
        """Folder of its note."""
        return commands_dir() / digest([self.words, self.folder, self.plugins])[:12]

    def holder(self) -> Owner | None:
        """The live process that it runs in, if any."""
        return claims.holder(self.place)


def commands_dir() -> Path:
    """Folder of the commands' notes."""
    return results_dir() / "commands"


def give(words: Sequence[str]) -> None:
    """Note the words that this process was started with."""
    _given[:] = words


@contextmanager
def noted() -> Iterator[Command]:
    """Keep a note of the command of this process while its jobs run; the caller sets ``failed``.

    Nothing is kept where no note can be written, or where another process runs the same command.
    """
    command = Command(
        words=tuple(_given),
        folder=str(Path.cwd()),
        plugins=os.environ.get(VARIABLE, ""),
        begun=datetime.now(UTC).isoformat(),
    )
    claim = None
    with suppress(OSError):
        claim = claims.tried(command.place, " ".join(_given)[:200]) if _given else None
        if claim:
            write_json(command.place / NOTE, dataclasses.asdict(command))
    try:
        yield command
        with suppress(OSError):
            if claim:
                write_json(command.place / NOTE, dataclasses.asdict(command))
    finally:
        if claim:
            claim.release()


def all_commands() -> list[Command]:
    """The commands with a note, the one that was given last at the end."""
    found = []
    for path in commands_dir().glob(f"*/{NOTE}"):
        values = read_mapping(path) or {}
        with suppress(TypeError, KeyError):
            found.append(Command(**{**values, "words": tuple(values["words"])}))
    return sorted(found, key=lambda command: str(command.begun))
