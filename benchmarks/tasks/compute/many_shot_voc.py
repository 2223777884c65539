"""VOC2007's images with several labels each, as ssl-transfer classifies them (datasets/voc2007.py).

An image counts for a class that it has an object of which is not difficult: difficult ones are negatives, in train, val
and test. Where the root also has VOC2012, only the images of the test split's folder are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.root import DataRoot
from benchmarks.data.voc_sets import list_of, view_id
from benchmarks.data.vocxml import read_xml
from benchmarks.tasks.compute.features import Features, FeatureView, features_of
from benchmarks.tasks.compute.many_shot import held_out_at_random
from benchmarks.tasks.many_shot import ManyShotConfig
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.run import Context


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images of a split: their files, their ids, ``y`` N×C of 0 and 1; ``name`` of their features."""

    name: str
    ids: tuple[str, ...]
    files: tuple[Path, ...]
    y: np.ndarray

    def features(self, context: Context, view: FeatureView) -> Features:
        """Extracted if absent."""
        spec, data = context.spec, context.root.section("voc")["fingerprint"]
        x = features_of(context.backbone(), self.files, data, self.name, spec.profile, context.loader_workers, view)
        return Features(x, self.y, self.y.shape[1])


def read_parts(root: DataRoot) -> dict[str, Part]:
    """The parts "train" and "test" of a root's VOC layout. InputError for a list or an annotation that is gone."""
    section = root.section("voc")
    test = section["test"]
    own = [one for one in section["train"] if one[0] in {folder for folder, _ in test}]
    return {"train": _part(root, "train", own or section["train"]), "test": _part(root, "test", test)}


def _part(root: DataRoot, split: str, lists: list[list[str]]) -> Part:
    number = {name: place for place, name in enumerate(root.section("voc")["classes"])}
    ids, files, labels = [], [], []
    for folder, name in lists:
        base = root.folder("voc") / folder
        try:
            listed = list_of(base, name).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise InputError(f"{list_of(base, name)} cannot be read ({error}): prepare the data again") from None
        for one in listed:
            shown = {item.name for item in read_xml(base / "Annotations" / f"{one}.xml").objects if not item.difficult}
            labels.append([int(kind in shown) for kind in number])
            files.append(base / "JPEGImages" / f"{one}.jpg")
        ids += listed
    about = "-".join(["labels", split, *(f"{folder}-{name}" for folder, name in lists)])
    return Part(name=about, ids=tuple(ids), files=tuple(files), y=np.array(labels, dtype=np.int64))


def val_rows(root: DataRoot, train: Part, config: ManyShotConfig) -> tuple[np.ndarray, str]:
    """Mask of the rows of ``train`` to choose by, and its name: the source's own val list, else a random fifth.

    The root has one list of train and val together, so that val's is read from the user's devkit.
    """
    source, folder = Path(str(root.config.get("source", ""))), root.section("voc")["test"][0][0]
    for base in (source / folder, source / "VOCdevkit" / folder, source):
        try:
            listed = {view_id(line) for line in list_of(base, "val").read_text(encoding="utf-8").splitlines()}
        except (OSError, ValueError):
            continue
        mask = np.array([one in listed for one in train.ids])
        if 0 < mask.sum() < len(mask):
            return mask, "the source's val list"
    return held_out_at_random(len(train.ids), config), f"a random {config.val_fraction:.0%} of train"
