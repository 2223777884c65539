"""The facts of each run that the drawer shows, each shared one kept once. Imports no torch until a diff is asked for.

Paths are relative to the results folder; of a file outside of it only the name is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import ResultsStore, RunRecord, RunSpec
from benchmarks.report.cells import in_words
from benchmarks.report.published import gpus
from benchmarks.sharing.imported import import_store, imports, theirs
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Setup
from pretrain.common.errors import InputError, printable
from pretrain.common.files import digest, read_mapping, results_dir
from pretrain.common.provenance import short_commit
from pretrain.common.shell import command
from transfer.detection.search import KEY, search_of, without_search

LONG = 200  # characters of a setting's value
OWN = {"OUTPUT_DIR", "SEED", "MODEL.WEIGHTS", "DATASETS.TRAIN", "DATASETS.TEST"}
"""Settings of detectron2 that hold a place or a seed: of the run, not of the protocol."""


class Shared:
    """Values that many runs share, each once; ``of`` gives its place in ``values``."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def of(self, value: Any) -> int:
        """The place of ``value``, a new one at its first time."""
        key = json.dumps(value, sort_keys=True)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


@dataclasses.dataclass
class Facts:
    """What was read of the newest attempt at each spec: the records as outlines, and the rest of each as JSON."""

    newest: dict[RunSpec, RunRecord]
    details: dict[tuple[str, RunSpec], dict[str, Any]]  # of (import or "", spec)
    shared: Shared


def read_facts() -> Facts:
    """All records of this machine and its imports, read once."""
    facts = Facts({}, {}, Shared())
    _read_store(ResultsStore(), "", facts)
    for name in imports():
        _read_store(import_store(name), name, facts)
    return facts


def _read_store(store: ResultsStore, name: str, facts: Facts) -> None:
    """Keep the newest finished attempt of each spec, else the newest failed one; an own finished run hides others'."""
    found: dict[RunSpec, RunRecord] = {}
    for path in store.all_paths():
        for record in store.readable([path]):
            if record.status == "ok" or record.spec not in found or found[record.spec].status != "ok":
                one = theirs(record, name) if name else record
                found[record.spec] = one.outline()
                facts.details[name, record.spec] = details(one, path, facts.shared)
    for spec, record in found.items():
        before = facts.newest.get(spec)
        if before is None or (before.status != "ok" and record.status == "ok"):
            facts.newest[spec] = record


def details(record: RunRecord, path: Path, shared: Shared) -> dict[str, Any]:
    """The facts of one attempt; numbers in place of values that ``shared`` holds."""
    spec = record.spec
    versions = record.environment.get("versions")
    return {
        "run": spec.spec_id,
        "record": relative(path),
        "label": printable(record.label),
        "status": record.status,
        "error": printable(record.error or ""),
        "seed": spec.seed,
        "start": record.start,
        "wall": round(record.wall_seconds, 1),
        "memory": record.peak_memory_mb,
        "log": relative(record.log) if record.log else "",
        "notes": [printable(note) for note in record.notes],
        "spec": shared.of(_spec_facts(record)),
        "checkpoint": shared.of(checkpoint_facts(record)),
        "settings": shared.of(differing(record)),
        "where": shared.of(
            {
                "device": printable(str(record.environment.get("device", "unknown"))),
                "commit": short_commit(record.git),
                **({printable(str(key)): str(one) for key, one in versions.items()} if versions else {}),
            }
        ),
        "repeat": repeat(record),
    }


def _spec_facts(record: RunRecord) -> dict[str, str]:
    spec = record.spec
    values = {
        "task": f"{spec.task} v{spec.task_version}",
        "profile": spec.profile,
        "settings (digest)": spec.protocol_digest[:16],
        "precision": spec.precision,
        "GPUs": "" if spec.num_gpus is None else str(spec.num_gpus),
        "options": " ".join(spec.overrides),
        "reference": TASKS[spec.task].reference if spec.task in TASKS else "",
        "data": f"{spec.data_name}: {record.data['description']}",
        "synthetic data": "yes" if record.data.get("synthetic") else "",
        "data fingerprint": spec.data_fingerprint[:16],
        "test images": "" if record.test_images is None else str(record.test_images),
    }
    return {key: printable(value) for key, value in values.items() if value}


def checkpoint_facts(record: RunRecord) -> dict[str, str]:
    """Identity of the checkpoint, and the proof that its weights were loaded, as far as the records hold it."""
    about = record.checkpoint or {}
    values = {
        "file": relative(str(about["path"])) if about.get("path") else "",
        "sha256 of its tensors": record.spec.checkpoint_sha256[:16],
        "family": str(about.get("family") or ""),
        "architecture": record.architecture or "",
        "input": in_words(record.spec.input),
        "conversion": _conversion(str(about.get("backbone") or "")),
    }
    facts = record.config.get("facts")
    if isinstance(facts, dict) and facts.get("tensors_equal") is not None:
        values["loaded"] = f"{facts['tensors_equal']} tensors in the detector equal the file bit for bit"
    return {key: printable(value) for key, value in values.items() if value}


@functools.lru_cache(maxsize=4096)
def _conversion(backbone: str) -> str:
    """The proof of a conversion in the store ``results/backbones``, in words; "" where it is not here."""
    if not backbone.isalnum():
        return ""
    proof = read_mapping(results_dir() / "backbones" / backbone / "proof.json") or {}
    gaps = proof.get("forward_difference")
    if not isinstance(gaps, dict) or not gaps:
        return ""
    largest = max(map(float, gaps.values()))
    words = f"{proof.get('mapped')} of {proof.get('expected')} tensors mapped"
    return f"{words}; feature maps of detectron2 and torchvision differ by at most {largest:.2g}"


def relative(path: str | Path) -> str:
    """``path`` from the results folder on; of a place elsewhere only the file's name."""
    place = Path(path)
    if not place.is_absolute():
        return printable(str(place))
    try:
        return printable(str(place.relative_to(results_dir().resolve())))
    except ValueError:
        return printable(place.name)


def repeat(record: RunRecord) -> str:
    """The command that runs the spec again, for a folder above the results folder."""
    spec, about = record.spec, record.checkpoint or {}
    path = Path(str(about["path"])) if about.get("path") else Path("CHECKPOINT.pth")
    shown = relative(path)
    file = f"results/{shown}" if "/" in shown else shown
    words = ["run", "--task", spec.task, "--profile", spec.profile, "--seed", str(spec.seed)]
    words += ["--checkpoint", f"{record.label}={file}", "--data", f"results/data/{spec.data_name}"]
    if spec.num_gpus is not None:
        words += ["--num-gpus", str(spec.num_gpus)]
    if fixed := without_search(spec.overrides):
        words += ["--opts", *fixed]
    if KEY in spec.overrides:
        try:
            search = search_of(spec.overrides)
            words += ["--search", *(f"{key}={','.join(one)}" for key, one in search.values.items())] if search else []
        except InputError:  # somebody else's record
            pass
    return printable(command("benchmarks", *words, "--rerun", "always"))


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``SOLVER.BASE_LR`` → text; a long value ends in …."""
    if isinstance(values, Mapping) and values:
        found: dict[str, str] = {}
        for key, value in values.items():
            found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    text = json.dumps(values, ensure_ascii=False, default=str)
    return {prefix: text if len(text) <= LONG else f"{text[:LONG]}…"}


_DIFFERING: dict[str, list[list[str]]] = {}


def differing(record: RunRecord) -> list[list[str]]:
    """[setting, the published protocol's value, the run's], where the resolved settings of both have it and differ."""
    spec = record.spec
    if record.status != "ok" or spec.task not in TASKS:
        return []
    key = digest([spec.task, spec.num_gpus, record.config])
    if key not in _DIFFERING:
        own, published = flat(record.config), _published(spec.task)
        _DIFFERING[key] = [
            [printable(name), printable(published[name]), printable(own[name])]
            for name in published
            if name in own and own[name] != published[name] and name not in OWN
        ]
    return _DIFFERING[key]


@functools.cache
def _published(task: str) -> dict[str, str]:
    """The resolved settings of profile ``paper`` on the published number of GPUs; {} where they do not resolve."""
    found = TASKS[task]
    try:
        return flat(found.settings(Setup(profile="paper", num_gpus=gpus(found) if found.detects else 0)).values)
    except (InputError, OSError, ImportError):
        return {}


def forget() -> None:
    """Forget what was found absent: a conversion's proof may be there at the next reading."""
    _conversion.cache_clear()


def used(details_of: Iterable[Mapping[str, Any]]) -> set[int]:
    """Places of the shared values that these runs name."""
    return {one[key] for one in details_of for key in ("spec", "checkpoint", "settings", "where")}
