"""A record's checkpoint, data, settings and code against those of today. Imports torch where settings need it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.audit.finding import NOTHING, OK, Finding, changed, unknown
from benchmarks.data.root import DataRoot, Section
from benchmarks.records import RunRecord
from benchmarks.tasks import TASKS, Setup
from pretrain.common.errors import InputError, printable
from pretrain.common.files import data_dir, fingerprint, read_mapping, results_dir
from pretrain.common.provenance import CHECKOUT, short_commit
from transfer.checkpoints.converted import STORED_TENSORS

MOVES = ("pretrain", "transfer", "benchmarks/tasks", "benchmarks/data", "benchmarks/profiles.py")  # numbers
Kept = dict[Hashable, Finding]


class Origins:
    """The four checks. Each checkpoint, data set, protocol and commit is looked at once, however many cells have it."""

    def __init__(self, data: Sequence[Path] = (), *, quick: bool = False) -> None:
        """``data``: roots outside of results/data. ``quick``: neither data nor checkpoints are hashed."""
        self._roots = {root.name: root for root in map(DataRoot.load, data)}
        self._quick = quick
        self._kept: dict[str, Kept] = {}
        self._hashes: dict[tuple[Path, str], str] = {}

    def _once(self, check: str, key: Hashable, make: Callable[[], Finding]) -> Finding:
        found = self._kept.setdefault(check, {})
        if key not in found:
            found[key] = make()
        return found[key]

    def checkpoint(self, record: RunRecord) -> Finding:
        """The tensors of the stored backbone, and those of the source file, against ``checkpoint_sha256``."""
        if self._quick:
            return NOTHING
        about = {} if record.checkpoint is None or record.imported else record.checkpoint
        path, identity = (str(about.get(key, "")) for key in ("path", "backbone"))
        key = record.spec.checkpoint_sha256, path, identity
        return self._once("checkpoint", key, lambda: _checkpoint(record.spec.checkpoint_sha256, path, identity))

    def data(self, record: RunRecord) -> Finding:
        """The fingerprint of the data root computed again, against ``data_fingerprint``."""
        spec = record.spec
        root = self._root(record)
        if isinstance(root, Finding):
            return root
        task = TASKS[spec.task]
        if task.data_fingerprint(root) != spec.data_fingerprint:
            return changed(f"{root.path} holds other data than {spec.data_fingerprint[:12]}: it was prepared again")
        if self._quick:
            return NOTHING
        key = root.path, spec.task, spec.profile, spec.data_fingerprint
        return self._once("data", key, lambda: self._files(root, record))

    def _files(self, root: DataRoot, record: RunRecord) -> Finding:
        """The files under ``root``, and the user's own behind them."""
        spec, task = record.spec, TASKS[record.spec.task]
        try:
            again = self._hashed(root, task.layout)
            if _with_fingerprint(root, task.layout, again, task.data_fingerprint) != spec.data_fingerprint:
                return changed(f"the files of {root.path} are no longer those that it was prepared with")
            if task.check:
                task.check(root, spec.profile)
        except InputError as error:
            return changed(printable(str(error))[:200])
        except (OSError, UnicodeError) as error:
            return unknown(f"{root.path} cannot be read ({printable(str(error))[:100]})")
        try:
            root.check_unchanged()
        except InputError as error:
            why = printable(str(error)).partition(": run `")[0]
            return unknown(f"names, sizes and annotations are as then, but {why}")
        return OK

    def _hashed(self, root: DataRoot, layout: str) -> str:
        """The fingerprint of a layout's files: names, sizes and annotations, of the generated set every byte."""
        if (root.path, layout) not in self._hashes:
            print(f"hashing {root.folder(layout)}", file=sys.stderr)
            self._hashes[root.path, layout] = fingerprint(root.folder(layout), hash_images=root.synthetic)
        return self._hashes[root.path, layout]

    def _root(self, record: RunRecord) -> DataRoot | Finding:
        """The root of the record's data here."""
        spec = record.spec
        if spec.task not in TASKS:
            return unknown(f"the task {printable(spec.task)} is not known here: give --plugin if it is yours")
        if Path(spec.data_name).name != spec.data_name:
            return changed(f"data set {printable(spec.data_name)[:60]} is no name of a root")
        try:
            if spec.data_name not in self._roots:
                self._roots[spec.data_name] = DataRoot.load(data_dir() / spec.data_name)
            root = self._roots[spec.data_name]
            root.section(TASKS[spec.task].layout)
        except InputError:
            return unknown(f"data set {printable(spec.data_name)} is not here: give its root with --data")
        return root

    def settings(self, record: RunRecord) -> Finding:
        """The task's version and settings under today's code against ``task_version`` and ``protocol_digest``."""
        spec = record.spec
        if spec.task not in TASKS:
            return unknown(f"the task {printable(spec.task)} is not known here: give --plugin if it is yours")
        if TASKS[spec.task].version != spec.task_version:
            return changed(f"{spec.task} is v{TASKS[spec.task].version} today, the run was v{spec.task_version}")
        key = (
            spec.task,
            spec.protocol_digest,
            spec.precision,
            spec.profile,
            spec.num_gpus,
            spec.overrides,
            spec.data_name,
        )
        return self._once("settings", key, lambda: self._settings(record))

    def _settings(self, record: RunRecord) -> Finding:
        spec, root = record.spec, self._root(record)
        here = root if isinstance(root, DataRoot) else None
        setup = Setup(profile=spec.profile, num_gpus=spec.num_gpus or 0, opts=spec.overrides, root=here)
        try:
            found = TASKS[spec.task].settings(setup)
        except Exception as error:  # of whatever a plugin or an option of another version raises
            return unknown(f"the settings of {spec.task} cannot be resolved ({printable(str(error))[:120]})")
        if found.digest == spec.protocol_digest:
            return OK
        if here is None and spec.profile == "small":
            return unknown(f"the settings of {spec.task} in profile small follow from data that are not here")
        place = _first_difference(found.values, record.config)
        what = f": {place}" if place else ", in a value that its record does not hold"
        line = f"{spec.task} has other settings today than {spec.protocol_digest[:12]}{what}"
        return unknown(f"{line}, in {found.precision} here") if found.precision != spec.precision else changed(line)

    def code(self, record: RunRecord) -> Finding:
        """The record's commit: whether it is in the repository, and which files that move numbers differ since."""
        state = record.git
        if state is None:
            return unknown("it ran outside git: its code is not known")
        key = str(state["commit"]), bool(state["dirty"])
        return self._once("code", key, lambda: _code(state))


def _with_fingerprint(root: DataRoot, layout: str, found: str, identity: Callable[[DataRoot], str]) -> str:
    """The ``identity`` of ``root`` if its layout had the fingerprint ``found``."""
    section: Section = {**root.sections[layout], "fingerprint": found}
    return identity(dataclasses.replace(root, sections={**root.sections, layout: section}))


def _checkpoint(sha256: str, path: str, identity: str) -> Finding:
    from transfer.checkpoints.store import stored_tensors_sha256, tensors_sha256

    folder, source = _stored(sha256, identity), Path(path)
    stored = stored_tensors_sha256(folder) if folder else None
    if folder and stored != sha256:
        found = f"other tensors ({stored[:12]})" if stored else "tensors that cannot be read"
        return changed(f"{folder.relative_to(results_dir())}/{STORED_TENSORS} holds {found} than {sha256[:12]}")
    if path and source.exists():
        try:
            now = tensors_sha256(source)
        except InputError as error:
            return changed(f"{printable(path)} is no longer the checkpoint ({printable(str(error))[-100:]})")
        if now != sha256:
            return changed(f"{printable(path)} holds other tensors ({now[:12]}) than {sha256[:12]}")
        return OK
    gone = f"neither {printable(path) or 'its file'} nor its stored tensors are here"
    return OK if stored else unknown(f"{gone} (checkpoint {sha256[:12]})")


def _stored(sha256: str, identity: str) -> Path | None:
    """The folder of the store that should hold these tensors."""
    store = results_dir() / "backbones"
    if re.fullmatch("[0-9a-f]{16}", identity):
        return store / identity if (store / identity / STORED_TENSORS).exists() else None
    proofs = sorted(store.glob("*/proof.json"))
    return next((one.parent for one in proofs if (read_mapping(one) or {}).get("source_sha256") == sha256), None)


def _first_difference(today: Mapping[str, Any], then: Mapping[str, Any], above: str = "") -> str:
    """``SOLVER.MAX_ITER is 200, it was 100``; "" where all values that both have are equal."""
    for key, value in today.items():
        if key not in then:
            continue
        other, place = then[key], f"{above}{key}"
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if found := _first_difference(value, other, f"{place}."):
                return found
        elif json.dumps(value, default=str) != json.dumps(other, default=str):
            return printable(f"{place} is {value!r:.40}, it was {other!r:.40}")
    return ""


def _code(state: Mapping[str, Any]) -> Finding:
    commit, shown = str(state["commit"]), short_commit(state)
    if state["dirty"]:
        return unknown(f"its code was {shown}: changes that were not committed are not known")
    if not re.fullmatch("[0-9a-f]{7,64}", commit):
        return unknown(f"its commit is {printable(commit)[:40]}")
    if _git("rev-parse", "HEAD") is None:
        return unknown(f"here is no git: commit {shown} cannot be looked up")
    if _git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        shallow = (_git("rev-parse", "--is-shallow-repository") or "").strip() == "true"
        return unknown(f"commit {shown} is not in this repository{', a shallow clone' if shallow else ''}")
    names = (_git("diff", "--name-only", commit, "--", *MOVES) or "").splitlines()
    if names:
        return unknown(f"{len(names)} files that can move numbers differ from commit {shown}, first {names[0]}")
    return OK


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout; None where it fails, or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
