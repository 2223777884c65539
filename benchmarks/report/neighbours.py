"""Nearest training images of some test images by a checkpoint's frozen features, for show_classification.py."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.pictures import spread
from benchmarks.data.root import DataRoot
from benchmarks.predictions import Predictions
from benchmarks.records import RunRecord
from benchmarks.report.mistakes import nearest
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute import features
from benchmarks.tasks.compute.features import FeatureView
from pretrain.common.errors import InputError, RunError

COUNT = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Of the test images ``rows`` (M numbers) the ``nearest`` training images and their ``cosines``, M×COUNT.

    ``images`` and ``labels`` are those of the training split; ``view`` says how they were cropped.
    """

    rows: Sequence[int]
    nearest: np.ndarray
    cosines: np.ndarray
    images: Sequence[Path]
    labels: np.ndarray
    view: str


def neighbours_of(record: RunRecord, root: DataRoot, found: Predictions, count: int) -> Neighbours | str:
    """Those of ``count`` images that the run classified right and of ``count`` that it did not, spread over the split.

    From the cached features; extracted again where there are none, which is said on stderr. A text says why there are
    no neighbours: the checkpoint is gone or has changed.
    """
    chosen = [row for right in (True, False) for row in spread(np.flatnonzero(found.correct == right).tolist(), count)]
    view = view_of(record, root)
    try:
        x = {split: _features(record, root, split, view) for split in ("train", "val")}
    except (InputError, RunError, OSError) as error:
        print(f"warning: no nearest neighbours: {error}", file=sys.stderr)
        return str(error)
    images, labels = features.labelled_images(root, "train")
    rows, cosines = nearest(x["train"], x["val"], chosen, COUNT)
    crop = f"{view.resize} px, squashed" if view.squash else f"{view.crop} px of {view.resize}"
    if TASKS[record.spec.task].kind == "finetune":
        crop += "; before fine-tuning"
    return Neighbours(rows=chosen, nearest=rows, cosines=cosines, images=images, labels=labels, view=crop)


def view_of(record: RunRecord, root: DataRoot) -> FeatureView:
    """The view that the run has read, as its record says it, if those features are kept; else that of the profile."""
    usual = features.profile_view(record.spec.profile)
    names = {field.name for field in dataclasses.fields(FeatureView)}
    said: dict[str, Any] = {name: value for name, value in record.config.items() if name in names}
    if not {"resize", "crop"} <= set(said):
        return usual
    own = FeatureView(**said)
    return own if all(_file(record, root, split, own).is_file() for split in ("train", "val")) else usual


def _file(record: RunRecord, root: DataRoot, split: str, view: FeatureView) -> Path:
    if record.spec.input is None:
        raise InputError("the record does not say how the checkpoint reads pixels")
    data = root.section("imagenet")["fingerprint"]
    return features.features_file(record.spec.checkpoint_sha256, record.spec.input, data, split, view)


def _features(record: RunRecord, root: DataRoot, split: str, view: FeatureView) -> np.ndarray:
    """Of one split, memory-mapped. InputError where they are neither kept nor can be extracted again."""
    path = _file(record, root, split, view)
    if path.is_file():
        found: np.ndarray = np.load(path, mmap_mode="r")
        return found
    from transfer.checkpoints.store import import_checkpoint

    source = Path((record.checkpoint or {}).get("path") or "")
    if not source.is_file():
        raise InputError(f"the features of {split} are not kept, and the checkpoint {source} is no longer there")
    stored = import_checkpoint(source)
    if stored.sha256 != record.spec.checkpoint_sha256 or stored.input.identity() != record.spec.input.identity():  # type: ignore[union-attr]
        raise InputError(f"the features of {split} are not kept, and {source} is no longer the checkpoint of this run")
    print(f"the features of {split} are not kept: extracting them again from {source}", file=sys.stderr)
    images, _ = features.labelled_images(root, split)
    data = root.section("imagenet")["fingerprint"]
    return features.features_of(stored.load(), images, data, split, record.spec.profile, view=view)
