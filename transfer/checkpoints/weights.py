"""Converted weights: a detectron2 ``.pkl`` and the ``.json`` beside it that proves where it comes from.

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
from pretrain.common.provenance import git_state, package_versions, utc_now
from transfer.checkpoints.reading.detectron2_pkl import parse_detectron2_pkl, read_detectron2_pkl
from transfer.detection.detectron2_version import detectron2_origin

AUTHOR = "transfer-benchmark (python -m transfer convert)"
VERSION = 5  # of the conversion; raised when the same input would give another output or a stronger proof
# 3: source_sha256 has the counters in it. 4: nothing could be given, and OpenMMLab's config was not read.
READABLE = (3, 4, VERSION)
_EARLIER_KEYS = {"family": "source", "reason": "source_reason"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputConvention:
    """How a network wants its images: the same tensors under another one are another checkpoint.

    ``pixel_mean`` and ``pixel_std`` are for inputs in [0, 1], in ``channel_order`` (RGB or BGR).
    """

    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    channel_order: str
    stride_in_1x1: bool

    @classmethod
    def of(cls, network: Any) -> InputConvention:
        """That of anything with these four attributes; 123.675/255 and 0.485 are one number."""
        return cls(
            pixel_mean=tuple(round(float(value), 8) for value in network.pixel_mean),
            pixel_std=tuple(round(float(value), 8) for value in network.pixel_std),
            channel_order=network.channel_order,
            stride_in_1x1=bool(network.stride_in_1x1),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says of a checkpoint because its file does not show it, or shows it otherwise.

    ``drop``: how the names of tensors begin that are no part of the ResNet. Of the input, None is what the family says;
    otherwise as in InputConvention. InputError for pixel statistics of another range than [0, 1].
    """

    drop: tuple[str, ...] = ()
    stride_in_1x1: bool | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    channel_order: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("pixel_mean", 0.0), ("pixel_std", 1e-6)):
            values = getattr(self, name)
            if values and not all(least <= value <= 1 for value in values):
                raise InputError(
                    f"--{name.replace('_', '-')} {' '.join(f'{value:g}' for value in values)}: it is for images in "
                    "[0, 1]; divide what is for 0 to 255 by 255"
                )

    @classmethod
    def read(cls, value: dict[str, Any]) -> Given:
        """From a proof's JSON."""
        plain: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
        return cls(**plain)

    def input(self) -> dict[str, Any]:
        """What is said of the input, by its name in InputConvention."""
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "drop"}
        return {name: value for name, value in said.items() if value is not None}

    def words(self) -> list[str]:
        """As flags of ``python -m transfer convert``."""
        words = [word for prefix in self.drop for word in ("--drop", prefix)]
        for name, value in self.input().items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *([value] if isinstance(value, str) else [f"{one:.8g}" for one in value])]
        return words


NOTHING_GIVEN = Given()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """A backbone in detectron2's format. Exists only when every tensor mapped and the forward pass agreed."""

    path: Path  # of the .pkl
    sha256: str  # of the .pkl file's bytes
    family: str
    reason: str
    assumed: str  # what the family takes for granted because the file does not say it; "" if nothing
    source_path: Path
    source_sha256: str  # of the source's tensors, as Backbone.sha256
    file_sha256: str  # of the source file's bytes
    networks: tuple[str, ...]  # that the source file offers; () for what is not a choice
    network: str  # the one that was taken
    architecture: str
    mapped: int
    expected: int
    dropped: dict[str, str]
    pixel_mean: tuple[float, ...]  # for inputs in [0, 1]
    pixel_std: tuple[float, ...]
    channel_order: str
    stride_in_1x1: bool
    # build ("c4", "fpn") → "res2" … "res5" → relative to the largest value
    forward_difference: dict[str, dict[str, float]]
    given: Given = NOTHING_GIVEN
    version: int = VERSION

    @property
    def json_path(self) -> Path:
        """The proof beside the weights."""
        return self.path.with_suffix(".json")

    @property
    def input(self) -> InputConvention:
        """How the network wants its images."""
        return InputConvention.of(self)

    @property
    def max_difference(self) -> float:
        """The largest of the forward differences."""
        return max(value for maps in self.forward_difference.values() for value in maps.values())

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


def load(path: Path) -> ConvertedWeights | None:
    """What the .json beside ``path`` (a .pkl) says; None if there is none of ours that can be read."""
    try:
        value = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if value.get("author") != AUTHOR or value.get("version") not in READABLE:
            return None
        value.setdefault("given", {})  # before version 5
        for now, before in _EARLIER_KEYS.items():
            value.setdefault(now, value.get(before))
        fields = {field.name: value[field.name] for field in dataclasses.fields(ConvertedWeights)}
        fields |= {"path": path, "source_path": Path(fields["source_path"]), "given": Given.read(fields["given"])}
        fields |= {key: tuple(fields[key]) for key in ("pixel_mean", "pixel_std", "networks")}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return ConvertedWeights(**fields)


def usable(path: Path) -> ConvertedWeights | None:
    """What ``load`` finds, if the .pkl is still the file it speaks of; None when it has to be converted (again)."""
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
    """Bytes of the .pkl: what DetectionCheckpointer takes for detectron2's own format. Equal for equal arrays."""
    content: dict[str, Any] = {"model": arrays, "__author__": AUTHOR, "matching_heuristics": True}
    return pickle.dumps(content, protocol=4)


def write_pkl(path: Path, data: bytes) -> str:
    """Write ``data`` atomically; returns its sha256."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
