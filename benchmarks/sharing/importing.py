"""`python -m benchmarks import FILE.zip --as NAME`: somebody's archive, verified, into results/imported/NAME.

Nothing of an archive is trusted. A member's name has one of archive.py's three forms, which hold no folder but those of
the store; the members are exactly the manifest's; each is unpacked to no more bytes than the manifest says, and has its
sha256; each record is read by records.parsed and is in the folder of its spec. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.root import remove_stale
from benchmarks.records import ResultsStore, RunRecord, imports_dir, parsed
from benchmarks.sharing import archive
from benchmarks.sharing.archive import Manifest, Member, read_manifest
from benchmarks.sharing.imported import MANIFEST
from pretrain.common.errors import InputError, printable
from pretrain.common.files import LARGEST_JSON, file_sha256, read_text

_CHUNK = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", re.ASCII)


class _Refused(ValueError):
    """The reason why an archive is not imported."""


def import_archive(path: Path, name: str) -> str:
    """Verify ``path`` and unpack it into results/imported/``name``; a line that says what it holds.

    InputError in one line for anything that is not as `export` writes it, and where ``name`` holds another archive.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--as {printable(name)[:60]}: give up to 40 letters, digits and ._-, the first no point")
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    place = imports_dir() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(place)
    partial = place.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(path) as packed:
            manifest = _checked(packed, path.stat().st_size)
            if place.exists():
                return _already(place, packed, name)
            partial.mkdir()
            for number, (member, about) in enumerate(manifest.files.items()):
                _unpack(packed, member, about, partial / member)
                if number % 1000 == 999:
                    print(f"{number + 1:,} of {len(manifest.files):,} files", file=sys.stderr)
            (partial / MANIFEST).write_bytes(packed.read(MANIFEST))
        records = _check_records(partial, manifest)
        partial.rename(place)
    except _Refused as error:
        raise InputError(f"{path} is not imported: {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, RuntimeError) as error:
        raise InputError(f"{path} is not imported: it is damaged, or no zip ({printable(str(error))[:100]})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _summary(records, manifest, name)


def _shown(name: str) -> str:
    return printable(name)[:120]


def _checked(packed: zipfile.ZipFile, size: int) -> Manifest:
    """The manifest of an archive of ``size`` bytes whose list of members is as it says."""
    entries = packed.infolist()
    if len(entries) > archive.MOST_MEMBERS:
        raise _Refused(f"it has {len(entries):,} members, more than {archive.MOST_MEMBERS:,}")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.filename.lower() in seen:
            raise _Refused(f"it holds {_shown(entry.filename)} twice")
        seen.add(entry.filename.lower())
    _check_sizes(entries, size, archive.MOST_BYTES)
    by_name = {entry.filename: entry for entry in entries}
    if MANIFEST not in by_name:
        raise _Refused(f"it has no {MANIFEST}: `python -m benchmarks export` writes one")
    if by_name[MANIFEST].file_size > archive.MOST_MANIFEST:
        raise _Refused(f"its {MANIFEST} has {by_name[MANIFEST].file_size:,} bytes")
    try:
        manifest = read_manifest(packed.read(MANIFEST).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else printable(str(error))[:200]
        raise _Refused(f"its {MANIFEST} is not one of this version ({reason})") from None
    for name in sorted(manifest.files.keys() ^ (by_name.keys() - {MANIFEST})):
        where = "is not in its manifest" if name in by_name else "is in its manifest alone"
        raise _Refused(f"{_shown(name)} {where}")
    total, free = sum(member.size for member in manifest.files.values()), shutil.disk_usage(imports_dir()).free
    if total > free:
        raise _Refused(f"it unpacks to {total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    return manifest


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name, mode = entry.filename, entry.external_attr >> 16
    if entry.orig_filename != name or not (
        name == MANIFEST or any(form.fullmatch(name) for form in (archive.RECORD, archive.FILE, archive.LOG))
    ):
        raise _Refused(f"it holds {_shown(entry.orig_filename)!r}, which is no file of a run")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _Refused(f"{_shown(name)} is a link or another special file")
    if entry.flag_bits & 1:
        raise _Refused(f"{_shown(name)} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Refused(f"{_shown(name)} is compressed by another method than deflate")


def _check_sizes(entries: Sequence[zipfile.ZipInfo], size: int, most: int) -> None:
    """Refuse members that claim more bytes than ``most``, or than a zip of ``size`` bytes can hold."""
    total = sum(entry.file_size for entry in entries)
    if total > most:
        raise _Refused(f"it unpacks to {total / 1e9:,.1f} GB, more than {most / 1e9:.0f}")
    if sum(entry.compress_size for entry in entries) > size or total > archive.MOST_RATIO * size:
        raise _Refused(f"it claims to unpack {size:,} bytes to {total:,}: its members overlap")


def _unpack(packed: zipfile.ZipFile, name: str, about: Member, target: Path) -> None:
    """Write one member of exactly the manifest's size and sha256."""
    most = LARGEST_JSON if name.endswith(".json") else archive.MOST_FILE
    if about.size > most:
        raise _Refused(f"{name} has {about.size:,} bytes, more than {most:,}")
    target.parent.mkdir(parents=True, exist_ok=True)
    total, left = hashlib.sha256(), about.size
    with packed.open(name) as source, target.open("xb") as stream:
        while piece := source.read(_CHUNK):
            left -= len(piece)
            if left < 0:
                raise _Refused(f"{name} is longer than its manifest says")
            total.update(piece)
            stream.write(piece)
    if left or total.hexdigest() != about.sha256:
        raise _Refused(f"{name} is not the file that was packed: its sha256 is not that of the manifest")
    if name.endswith(".npz"):
        _check_arrays(target, name)


def _check_arrays(path: Path, name: str) -> None:
    """Refuse predictions whose own zip would fill the memory."""
    try:
        with zipfile.ZipFile(path) as arrays:
            _check_sizes(arrays.infolist(), path.stat().st_size, archive.MOST_FILE)
    except _Refused as error:
        raise _Refused(f"{name}: {error}") from None


def _check_records(folder: Path, manifest: Manifest) -> list[RunRecord]:
    """The records unpacked into ``folder``: each readable, finished, in its run's folder, and with its files."""
    found: dict[tuple[str, str], RunRecord] = {}
    for name in manifest.files:
        if not (match := archive.RECORD.fullmatch(name)):
            continue
        try:
            record = parsed(read_text(folder / name))
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else printable(str(error))[:200]
            raise _Refused(f"{name} is not a run record ({reason})") from None
        if record.spec.spec_id != match["spec"]:
            raise _Refused(f"{name} is a record of run {record.spec.spec_id}, not of its folder's")
        if record.status != "ok":
            raise _Refused(f"{name} is of a run that failed")
        found[match["spec"], match["attempt"]] = record
    if not found:
        raise _Refused("it holds no record")
    for name in manifest.files:
        if match := archive.FILE.fullmatch(name):
            owner = found.get((match["spec"], match["attempt"]))
            if owner is None or match["name"] not in owner.files:
                raise _Refused(f"{name} belongs to no record of it")
    for (spec, attempt), record in found.items():
        for one in record.files:
            if archive.is_kept(one) and f"runs/{spec}/{attempt}/{one}" not in manifest.files:
                raise _Refused(f"it lacks {_shown(one)} of runs/{spec}/{attempt}.json")
    return list(found.values())


def _already(place: Path, packed: zipfile.ZipFile, name: str) -> str:
    """That the same archive is there already. InputError where ``name`` is taken by another."""
    manifest = place / MANIFEST
    if manifest.is_file() and file_sha256(manifest) == hashlib.sha256(packed.read(MANIFEST)).hexdigest():
        return f"it is imported as {name} already"
    raise InputError(f"{place} holds another import: choose another name with --as, or remove that folder first")


def _summary(records: Sequence[RunRecord], manifest: Manifest, name: str) -> str:
    labels = [printable(label) for label in manifest.labels]
    shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} others" if len(labels) > 5 else "")
    own = ResultsStore()
    both = sum(own.has(record.spec) for record in records)
    again = f"; {both} of them were run here too, and tables show those of this machine (--theirs {name}: theirs)"
    return f"imported as {name}: {len(records)} runs of {shown}{again if both else ''}"
