"""The file that `export` writes and `import` reads: a zip of records with their predictions and a manifest.

    manifest.json                              sha256 and size of every other member, and the runs' origin
    runs/<spec_id>/<attempt>.json              a record, byte for byte as on the machine that ran it
    runs/<spec_id>/<attempt>/predictions.npz   or matches-<task>.npz; with --logs its logs too
    runs/<spec_id>/log.txt                     with --logs

No other member is read. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from benchmarks.schema import parse, reader

FORMAT = "transfer-benchmark runs"
VERSION = 1  # raised when an older version could not read the file

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
RECORD = re.compile(rf"runs/(?P<spec>[0-9a-f]{{12}})/(?P<attempt>{_WORD})\.json", re.ASCII)
FILE = re.compile(rf"runs/(?P<spec>[0-9a-f]{{12}})/(?P<attempt>{_WORD})/(?P<name>{_WORD})", re.ASCII)
LOG = re.compile(r"runs/(?P<spec>[0-9a-f]{12})/log\.txt", re.ASCII)

MOST_MEMBERS = 200_000
MOST_BYTES = 64 * 2**30  # unpacked, of a whole archive
MOST_MANIFEST = 64 * 2**20
MOST_FILE = 4 * 2**30  # of predictions or matches
MOST_RATIO = 1032  # of deflate: an archive that unpacks to more holds a member twice


def is_kept(name: str) -> bool:
    """Whether a file of an attempt is always packed: statistics are made of it."""
    return name == "predictions.npz" or bool(re.fullmatch(r"matches-.*\.npz", name))


def is_log(name: str) -> bool:
    """Whether a file of an attempt is packed with --logs."""
    return name.startswith("log.txt") or name.endswith(".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A member besides the manifest: sha256 hex and bytes."""

    sha256: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """``files`` are verified; the rest says in short where the runs are from, for people.

    ``labels``: of each the sha256 of its checkpoints. ``data``: of each set a description and its fingerprints by
    layout. ``versions``: of each library those that ran something.
    """

    format: str = FORMAT
    version: int = VERSION
    schema_version: int
    written_by: str | None  # version of this project
    labels: dict[str, tuple[str, ...]]
    profiles: tuple[str, ...]
    tasks: tuple[str, ...]
    data: dict[str, Any]
    commits: tuple[str, ...]
    devices: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    files: dict[str, Member]


def read_manifest(text: str) -> Manifest:
    """The manifest in ``text``. ValueError that names the first invalid field."""
    found: Manifest = parse(text, reader(Manifest), {"format": FORMAT, "version": VERSION})
    for name, member in found.files.items():
        if not re.fullmatch("[0-9a-f]{64}", member.sha256) or member.size < 0:
            raise ValueError(f"files.{name[:80]} has no sha256 and size")
    return found
