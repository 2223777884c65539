"""`python -m benchmarks export FILE.zip`: finished runs of this machine into one file for another. Imports no torch.

The same runs give the same bytes: members are sorted, without times, owners or this machine's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import SCHEMA_VERSION, ResultsStore, RunRecord, files_of
from benchmarks.sharing import archive
from benchmarks.sharing.imported import MANIFEST
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import replacing
from pretrain.common.provenance import package_versions

Run = tuple[RunRecord, Path]
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which runs: of a profile, of labels, of tasks; empty for all."""

    profile: str | None = None
    labels: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def has(self, record: RunRecord) -> bool:
        """Whether ``record`` is wanted. A label stands for all pretraining runs of a suite's row too."""
        spec = record.spec
        row = record.label.rpartition(" #")[0] if record.label.rpartition(" #")[2].isdigit() else record.label
        return (
            self.profile in (None, spec.profile)
            and (not self.labels or record.label in self.labels or row in self.labels)
            and (not self.tasks or spec.task in self.tasks)
        )


def finished(wanted: Wanted) -> list[Run]:
    """The newest finished attempt at each wanted spec of this machine's own, sorted by spec. InputError without any.

    InputError too for a label that no run has.
    """
    store, found = ResultsStore(), {}
    for path in store.all_paths():
        for record in store.readable([path]):
            if record.status == "ok" and wanted.has(record):
                found[record.spec.spec_id] = (dataclasses.replace(record, config={}), path)  # most of its memory
    runs = [found[spec] for spec in sorted(found)]
    for label in wanted.labels:
        if not any(dataclasses.replace(wanted, labels=(label,)).has(record) for record, _ in runs):
            raise InputError(f"no finished run of {printable(label)} under {store.root}: it has {_labels(store)}")
    if not runs:
        asked = " ".join([*([wanted.profile] if wanted.profile else []), *wanted.tasks]) or "at all"
        raise InputError(f"no finished run ({asked}) under {store.root}")
    return runs


def _labels(store: ResultsStore) -> str:
    labels = sorted({printable(record.label) for record in store.load_all() if record.status == "ok"})
    return ", ".join(labels[:10]) + (f" and {len(labels) - 10} others" if len(labels) > 10 else "") or "none"


def export(target: Path, wanted: Wanted, *, logs: bool = False) -> str:
    """Write ``target``, whole or not at all; a line about it. InputError if another kind of file is there."""
    if target.is_dir() or (target.is_file() and not zipfile.is_zipfile(target)):
        raise InputError(f"{target} is there and is no archive: choose another name")
    runs = finished(wanted)
    members = {name: path for run in runs for name, path in _members(*run, logs=logs)}
    hashed = {name: _about(path) for name, path in sorted(members.items())}
    manifest = _manifest(runs, hashed)
    with replacing(target) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as packed:
        packed.writestr(_entry(MANIFEST), manifest.encode())
        for name, path in sorted(members.items()):
            _pack(packed, name, path, hashed[name].sha256)
    size = target.stat().st_size / 1e6
    labels = len({record.label for record, _ in runs})
    return f"{len(runs)} runs of {labels} checkpoints, {len(members) - len(runs)} files beside them, {size:.1f} MB"


def _members(record: RunRecord, path: Path, *, logs: bool) -> Iterable[tuple[str, Path]]:
    """Name in the archive and file of all that is packed of a run. InputError for predictions that are gone."""
    spec, folder = record.spec.spec_id, files_of(path)
    yield f"runs/{spec}/{path.name}", path
    for name in record.files:
        if not archive.is_kept(name) and not (logs and archive.is_log(name)):
            continue
        if (folder / name).is_file() and not (folder / name).is_symlink():
            yield f"runs/{spec}/{path.stem}/{name}", folder / name
        elif archive.is_kept(name):
            raise InputError(f"{folder / name} is gone, which its record names: run it again with --rerun always")
    if logs and (log := path.parent / "log.txt").is_file():
        yield f"runs/{spec}/log.txt", log


def _about(path: Path) -> archive.Member:
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return archive.Member(sha256=sha256, size=os.fstat(stream.fileno()).st_size)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_TIME)
    # Arrays are compressed already.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".npz") else zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o100644 << 16
    return entry


def _pack(packed: zipfile.ZipFile, name: str, path: Path, sha256: str) -> None:
    total, entry = hashlib.sha256(), _entry(name)
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, packed.open(entry, "w") as stream:
        while piece := source.read(_CHUNK):
            total.update(piece)
            stream.write(piece)
    if total.hexdigest() != sha256:
        raise InputError(f"{path} changed while it was packed: run the same command again")


def _manifest(runs: Sequence[Run], hashed: dict[str, archive.Member]) -> str:
    """JSON of the manifest."""
    records = [record for record, _ in runs]
    versions: dict[str, set[str]] = {}
    for record in records:
        known = record.environment.get("versions")
        for name, version in (known if isinstance(known, dict) else {}).items():
            versions.setdefault(str(name), set()).add(str(version))
    labels: dict[str, list[str]] = {}
    for record in records:
        some = labels.setdefault(record.label, [])
        some += [record.spec.checkpoint_sha256] if record.spec.checkpoint_sha256 not in some else []
    data: dict[str, dict[str, Any]] = {}
    for record in records:
        about = data.setdefault(record.spec.data_name, {"description": record.data["description"], "fingerprints": {}})
        layout = TASKS[record.spec.task].layout if record.spec.task in TASKS else record.spec.task
        prints = about["fingerprints"].setdefault(layout, [])
        prints += [record.spec.data_fingerprint] if record.spec.data_fingerprint not in prints else []
    manifest = archive.Manifest(
        schema_version=SCHEMA_VERSION,
        written_by=package_versions("transfer-benchmark")["transfer-benchmark"],
        labels={label: tuple(some) for label, some in labels.items()},
        profiles=tuple(sorted({record.spec.profile for record in records})),
        tasks=tuple(sorted({f"{record.spec.task} v{record.spec.task_version}" for record in records})),
        data=data,
        commits=tuple(sorted({str((record.git or {}).get("commit", "outside git")) for record in records})),
        devices=tuple(sorted({str(record.environment.get("device", "unknown")) for record in records})),
        versions={name: tuple(sorted(found)) for name, found in versions.items()},
        files=hashed,
    )
    return json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True) + "\n"
