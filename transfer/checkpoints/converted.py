"""Converted weights: a detectron2 ``.pkl`` and the ``.json`` beside it, the proof of its origin.

Imports no torch. To read one: ``python -m transfer verify FILE.pkl``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256, replacing, write_json
from pretrain.common.pixels import PixelInput
from pretrain.common.provenance import git_state, package_versions, utc_now
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading.detectron2_pkl import parse_detectron2_pkl, read_detectron2_pkl
from transfer.detection.detectron2_version import detectron2_origin

AUTHOR = "transfer-benchmark (python -m transfer convert)"
VERSION = 5  # of the conversion; increased when the same input would give another output or a stronger proof
# 3: source_sha256 included the counters. 4: no flags for the input, and OpenMMLab's config was not read.
READABLE = (3, 4, VERSION)
STORED_PKL, STORED_TENSORS = "model.pkl", "backbone.safetensors"  # names in the store, see store.py


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """A backbone in detectron2's format and its proof.

    Written only after every tensor was mapped and detectron2 reproduced torchvision's feature maps.
    """

    path: Path  # of the .pkl
    sha256: str  # of the .pkl file's bytes
    family: str
    reason: str  # why the file was recognised as this family
    source_path: Path
    source_sha256: str  # of the source's tensors, as Backbone.sha256
    file_sha256: str  # of the source file's bytes
    networks: tuple[str, ...]  # in the source file; () where a family has but one
    network: str  # the one that was taken
    architecture: str
    mapped: int
    expected: int
    dropped: dict[str, str]
    input: PixelInput
    forward_difference: dict[str, float]  # "res2" … "res5" → largest difference, relative to the map's largest value
    given: Given = NOTHING_GIVEN
    meta: dict[str, Any] | None = None  # meta.json of a pretraining run of this project
    safetensors_sha256: str = ""  # of the bytes of the store's backbone.safetensors; "" for a .pkl outside of the store
    version: int = VERSION

    @property
    def json_path(self) -> Path:
        """The proof beside the weights."""
        return proof_path(self.path)

    @property
    def max_difference(self) -> float:
        """The largest of the forward differences."""
        return max(self.forward_difference.values(), default=0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors under detectron2's names, read without running code. InputError if the file was changed."""
        data = self.path.read_bytes() if self.path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise InputError(
                f"{self.path}: missing or changed since it was converted; convert {self.source_path} again"
            )
        return parse_detectron2_pkl(data, self.path)["model"]

    def save(self) -> None:
        """Write the .json, with versions, detectron2's origin, git state and time."""
        value = dataclasses.asdict(self) | {"path": self.path.name, "source_path": str(self.source_path)}
        write_json(
            self.json_path,
            {"author": AUTHOR}
            | value
            | {
                "detectron2": detectron2_origin(),
                "versions": package_versions("torch", "torchvision", "numpy"),
                "git": git_state(),
                "created": utc_now(),
            },
        )


def proof_path(path: Path) -> Path:
    """Path of a .pkl's proof: ``<stem>.json`` beside it, ``proof.json`` in the store."""
    stored = path.name == STORED_PKL and path.with_name(STORED_TENSORS).exists()
    return path.with_name("proof.json") if stored else path.with_suffix(".json")


def load(path: Path) -> ConvertedWeights | None:
    """The proof of ``path`` (a .pkl), even if the file has changed since; None without a readable proof of ours."""
    try:
        value = json.loads(proof_path(path).read_text(encoding="utf-8"))
        if value.get("author") != AUTHOR or value.get("version") not in READABLE:
            return None
        value = _in_todays_fields(value) if "input" not in value else value
        value = {"meta": None, "safetensors_sha256": ""} | value
        fields = {field.name: value[field.name] for field in dataclasses.fields(ConvertedWeights)}
        fields |= {"path": path, "source_path": Path(fields["source_path"]), "networks": tuple(fields["networks"])}
        fields |= {"given": Given.read(fields["given"]), "input": PixelInput.from_json(fields["input"])}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return ConvertedWeights(**fields)


def _in_todays_fields(value: dict[str, Any]) -> dict[str, Any]:
    """A proof of an earlier version: separate input fields, and one forward difference per build (C4, FPN)."""
    names = {"mean": "pixel_mean", "std": "pixel_std", "order": "channel_order"}
    images = {now: value[before] for now, before in names.items()}
    builds = list(value["forward_difference"].values())
    return value | {
        "input": images | {"stride_in_1x1": value["stride_in_1x1"], "assumed": value["assumed"]},
        "family": value["source"],
        "reason": value["source_reason"],
        "forward_difference": {name: max(maps[name] for maps in builds) for name in builds[0]},
        "given": value.get("given", {}),  # from version 5 on
    }


def usable(path: Path) -> ConvertedWeights | None:
    """The proof of a .pkl, if the file still has the recorded sha256; None if it must be converted (again)."""
    found = load(path)
    try:
        return found if found and file_sha256(path) == found.sha256 else None
    except OSError:
        return None


def written_here(path: Path) -> bool | None:
    """Whether ``path`` (a .pkl or a .json that exists) was written by this converter; None if it cannot be read."""
    try:
        if path.suffix == ".json":
            value = json.loads(path.read_text(encoding="utf-8"))
            return isinstance(value, dict) and value.get("author") == AUTHOR
        return bool(read_detectron2_pkl(path)["__author__"] == AUTHOR)
    except (OSError, ValueError, RecursionError):  # an InputError is a ValueError
        return None


def pickled(arrays: dict[str, np.ndarray]) -> bytes:
    """Bytes of a .pkl that DetectionCheckpointer reads as detectron2's own format. Equal for equal arrays."""
    content: dict[str, Any] = {"model": arrays, "__author__": AUTHOR, "matching_heuristics": True}
    return pickle.dumps(content, protocol=4)


def write_pkl(path: Path, data: bytes) -> str:
    """Write ``data`` atomically; returns its sha256."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
