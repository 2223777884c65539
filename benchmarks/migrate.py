"""Bring run records of schema 1 to schema 2, so that runs finished under schema 1 still count.

``run``, ``suite``, ``tables`` and ``show`` call it first. A record of schema 1 did not say in which precision it was
computed, how its network wanted its images, and what its protocol's file said, but its settings, its environment and
the conversion of its checkpoint do. Records of one old spec that differ in any of these come apart. The old files are
kept under ``results/runs-schema-1``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.records import (
    SCHEMA_VERSION,
    UNKNOWN,
    InputConvention,
    ResultsStore,
    RunRecord,
    RunSpec,
    attempt_files,
    files_of,
    parsed,
    warn,
)
from benchmarks.report.text import shortened
from pretrain.common.errors import printable
from pretrain.common.files import digest, read_text, results_dir, write_json
from pretrain.common.pixels import PixelInput
from transfer.checkpoints import key_map
from transfer.checkpoints.reading.detectron2_pkl import read_detectron2_pkl

HEAD = 64  # bytes: a record is written with its schema version first
# What reading a JSON that anybody may have written can raise.
FAULTS = (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
CHOSEN = ("decay", "held_out_top1", "training_rows")  # in a record's config beside the settings of its task
Conversions = Mapping[str, tuple[str, InputConvention]]


def migrate(store: ResultsStore) -> int:
    """Rewrite every record of schema 1 under ``store`` and say so on stderr; how many there were.

    One that lacks what every record has is named on stderr and stays where it is.
    """
    old = [path for path in store.all_paths() if _schema(path) == 1]
    if not old:
        return 0
    from pretrain.runtime.resume import locked  # with torch, which a folder without old records does not need

    kept, count = store.root.parent / "runs-schema-1", 0
    try:
        with locked(kept):
            conversions = _conversions(results_dir() / "converted")
            for folder in sorted({path.parent for path in old}):
                count += _migrate_attempts(store, folder, kept / folder.name, conversions)
    except OSError as error:  # a read-only folder, a full disk: the other records still count
        where = f" ({printable(str(error.filename))})" if error.filename else ""
        print(f"warning: records of schema 1 cannot be migrated: {error.strerror}{where}", file=sys.stderr)
    if count:
        print(f"migrated {count} run records to schema {SCHEMA_VERSION}; the old ones are in {kept}", file=sys.stderr)
    return count


def _schema(path: Path) -> int | None:
    """The schema version that a record begins with; without parsing it, since every command looks at all of them."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return None
        with path.open("rb") as stream:
            found = re.match(rb'\{\s*"schema_version":\s*(\d+)', stream.read(HEAD))
    except OSError:  # named where it is read
        return None
    return int(found[1]) if found else None


def _migrate_attempts(store: ResultsStore, folder: Path, kept: Path, conversions: Conversions) -> int:
    """How many attempts at one old spec moved. What a killed migration had written is written again, the same."""
    attempts: dict[Path, RunRecord] = {}
    for path in attempt_files(folder):  # another process may have been here meanwhile
        if _schema(path) != 1:
            continue
        try:
            record = migrated(json.loads(read_text(path)), folder.name, conversions)
            attempts[path] = parsed(json.dumps(dataclasses.asdict(record), allow_nan=False))
        except FAULTS as error:
            reason = shortened([printable(repr(error))], 200)[0]
            warn(path, f"{printable(str(path))} is not a run record ({reason}): move it away")
    kept.mkdir(parents=True, exist_ok=True)
    owner = _owner(folder / "files", attempts)
    for path, record in attempts.items():
        target = store.path_for(record.spec) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == owner:
            (folder / "files").rename(files_of(target))
        write_json(target, dataclasses.asdict(record))
        path.rename(kept / path.name)
    return len(attempts)


def _owner(files: Path, attempts: Mapping[Path, RunRecord]) -> Path | None:
    """The attempt that wrote the predictions in ``files``, a folder that all attempts at a spec shared; None: unknown.

    It is the one during which they were written, or the only one that ended well: a copied folder has other times.
    """
    done = [path for path, record in attempts.items() if record.status == "ok"]
    try:
        written = (files / "predictions.json").stat().st_mtime
    except OSError:
        return None
    during = [path for path in done if _seconds(attempts[path].start) <= written <= _seconds(attempts[path].end) + 1]
    return during[-1] if during else done[0] if len(done) == 1 else None


def _seconds(utc: str) -> float:
    return datetime.fromisoformat(utc).timestamp()


def migrated(values: Mapping[str, Any], spec_id: str, conversions: Conversions) -> RunRecord:
    """``values``, the JSON of a record of schema 1, as a record of schema 2."""
    spec, config = dict(values["spec"]), values["config"]
    sha256, convention = conversions.get(spec["checkpoint_sha256"], (spec["checkpoint_sha256"], _convention(config)))
    spec |= {
        "overrides": tuple(spec["overrides"]),
        "checkpoint_sha256": sha256,
        "input": convention,
        "protocol_digest": digest(_settings(config)) if config else UNKNOWN,
        "precision": values["environment"].get("precision") or UNKNOWN,
    }
    about = {"schema_version": 1, "spec_id": spec_id}
    return RunRecord(**{**values, "schema_version": SCHEMA_VERSION, "spec": RunSpec(**spec), "migrated": about})


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a task's ``resolve`` would have given for the config that a record keeps."""
    if "MODEL" not in config:
        return {key: value for key, value in config.items() if key not in CHOSEN}
    from transfer.detection.config import identity

    return identity({key: value for key, value in config.items() if key != "facts"})


def _convention(config: Mapping[str, Any]) -> InputConvention | None:
    """The input that a detector's config names, where no conversion says it; None for other tasks."""
    if "MODEL" not in config:
        return None
    images = PixelInput(
        mean=tuple(value / 255 for value in config["MODEL"]["PIXEL_MEAN"]),
        std=tuple(value / 255 for value in config["MODEL"]["PIXEL_STD"]),
        order=config["INPUT"]["FORMAT"],
        stride_in_1x1=bool(config["MODEL"]["RESNETS"]["STRIDE_IN_1X1"]),
    )
    return InputConvention.of(images)


def _pixel_input(about: Mapping[str, Any]) -> PixelInput:
    """The input in a conversion's proof, whose fields were once its own."""
    names = {"mean": "pixel_mean", "std": "pixel_std", "order": "channel_order", "stride_in_1x1": "stride_in_1x1"}
    return PixelInput.from_json(about.get("input") or {now: about[before] for now, before in names.items()})


def _conversions(folder: Path) -> dict[str, tuple[str, InputConvention]]:
    """Digest with counters, as schema 1 had it → digest without them and input, of every conversion in ``folder``.

    A tensor digest that two conversions read in two ways is left out: the record does not say which was its own.
    """
    import torch

    from transfer.checkpoints.backbone import weights_digest

    found: dict[str, set[tuple[str, InputConvention]]] = {}
    for proof in sorted(folder.glob("*.json")):
        try:
            about = json.loads(read_text(proof))
            arrays = read_detectron2_pkl(proof.with_suffix(".pkl"))["model"]
            table = key_map.to_torchvision(key_map.nearest(arrays))
            state = {table[name]: torch.from_numpy(array.copy()) for name, array in arrays.items()}
            pair = (weights_digest(state), InputConvention.of(_pixel_input(about)))
            found.setdefault(about["source_sha256"], set()).add(pair)
        except FAULTS:
            continue
    return {sha256: pairs.pop() for sha256, pairs in found.items() if len(pairs) == 1}
