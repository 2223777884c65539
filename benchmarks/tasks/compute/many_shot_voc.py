"""VOC2007's images with several labels each, as ssl-transfer classifies them (datasets/voc2007.py).

An image counts for a class that it has an object of which is not difficult: difficult ones are negatives, in train, val
and test. Where the root also has VOC2012, VOC2007 alone is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.root import DataRoot
from benchmarks.data.voc_sets import list_of, view_id
from benchmarks.tasks.compute.features import Features, FeatureView, features_of
from benchmarks.tasks.compute.many_shot import held_out_at_random
from benchmarks.tasks.compute.multilabel import PRESENT, labelled
from benchmarks.tasks.many_shot import ManyShotConfig

if TYPE_CHECKING:
    from benchmarks.run import Context


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images of a split, as multilabel.py reads them: files, ids, ``y`` N×C of 0 and 1; ``name`` of the split."""

    name: str
    ids: tuple[str, ...]
    files: tuple[Path, ...]
    y: np.ndarray

    def features(self, context: Context, view: FeatureView) -> Features:
        """Extracted if absent."""
        spec, data = context.spec, context.root.section("voc")["fingerprint"]
        part = f"labelled-{self.name}"
        x = features_of(context.backbone(), self.files, data, part, spec.profile, context.loader_workers, view)
        return Features(x, self.y, self.y.shape[1])


def read_parts(root: DataRoot) -> dict[str, Part]:
    """The parts "train" and "test" of a root's VOC layout. InputError for a list or an annotation that is gone."""
    found = {}
    for split in ("train", "test"):
        images = labelled(root, split)
        y = (images.labels == PRESENT).astype(np.int64)
        found[split] = Part(name=split, ids=tuple(one.stem for one in images.images), files=images.images, y=y)
    return found


def val_rows(root: DataRoot, train: Part, config: ManyShotConfig) -> tuple[np.ndarray, str]:
    """Mask of the rows of ``train`` to choose by, and its name: the source's own val list, else a random fifth.

    The root has one list of train and val together, so that val's is read from the user's devkit.
    """
    source, folder = str(root.config.get("source", "")), root.section("voc")["test"][0][0]
    for inside in (folder, f"VOCdevkit/{folder}", ".") if source else ():  # the embedded set has no source
        base = Path(source) / inside
        try:
            listed = {view_id(line.strip()) for line in list_of(base, "val").read_text(encoding="utf-8").splitlines()}
        except (OSError, ValueError):
            continue
        mask = np.array([one in listed for one in train.ids])
        if 0 < mask.sum() < len(mask):
            return mask, "the source's val list"
    return held_out_at_random(len(train.ids), config), f"a random {config.val_fraction:.0%} of train"
