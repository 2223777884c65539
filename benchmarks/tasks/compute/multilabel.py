"""The images of a prepared VOC root with a label per class, and average precision. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.data.root import DataRoot, Section
from benchmarks.data.vocxml import read_xml
from pretrain.common.errors import InputError

PRESENT, ABSENT, IGNORED = 1, 0, -1
PUBLISHED_YEAR = "VOC2007"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """N image files, sorted by year and id, and their ``labels`` N×C (int8): 1 present, 0 absent, −1 ignored."""

    images: tuple[Path, ...]
    labels: np.ndarray


def image_sets(section: Section, split: str) -> list[tuple[str, str]]:
    """(year folder, image set) of a split's lists: VOC2007's alone where the root has other years beside it.

    The published protocol trains on VOC2007's trainval, also where the root's detectors train on VOC2012's too.
    """
    every = [(folder, name) for folder, name in section[split]]  # type: ignore[literal-required]
    return [one for one in every if one[0] == PUBLISHED_YEAR] or every


def left_out(section: Section) -> tuple[str, ...]:
    """A note on the years that ``image_sets`` leaves out."""
    every = {folder for split in (section["train"], section["test"]) for folder, _ in split}
    used = {folder for split in ("train", "test") for folder, _ in image_sets(section, split)}
    others = ", ".join(sorted(every - used))
    return (
        (f"trained and tested on {PUBLISHED_YEAR} alone, as published, not on the root's {others}",) if others else ()
    )


def labelled(root: DataRoot, split: str) -> Labelled:
    """The images of "train" or "test" and their labels by the annotations.

    Present: the image has an object of the class that is not difficult; ignored: it has only difficult ones. VOC's own
    lists ImageSets/Main/<class>_<set>.txt say 1 and 0 for these, −1 for absent (VOC2007's development kit, section
    4.1). Sorted as facebookresearch/vissl:extra_scripts/datasets/create_voc_data_files.py: the order decides the folds.
    InputError where a list or an annotation cannot be read.
    """
    section, devkit = root.section("voc"), root.folder("voc")
    return _labelled(devkit, tuple(image_sets(section, split)), tuple(section["classes"]), section["fingerprint"])


@functools.lru_cache(maxsize=8)
def _labelled(devkit: Path, sets: Sequence[tuple[str, str]], classes: Sequence[str], _: str) -> Labelled:
    """Read once per process and fingerprint: the task's check has read the same files before its run."""
    column = {name: number for number, name in enumerate(classes)}
    places = sorted((folder, name) for folder, image_set in sets for name in _ids(devkit / folder, image_set))
    labels = np.full((len(places), len(classes)), ABSENT, dtype=np.int8)
    for row, (folder, name) in enumerate(places):
        path = devkit / folder / "Annotations" / f"{name}.xml"
        for one in read_xml(path).objects:
            if one.name not in column:
                raise InputError(f"{path} has an object of class {one.name}, which was not prepared: prepare it again")
            if not one.difficult:
                labels[row, column[one.name]] = PRESENT
            elif labels[row, column[one.name]] == ABSENT:
                labels[row, column[one.name]] = IGNORED
    labels.flags.writeable = False  # it is shared
    return Labelled(
        images=tuple(devkit / folder / "JPEGImages" / f"{name}.jpg" for folder, name in places), labels=labels
    )


def _ids(folder: Path, image_set: str) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{image_set}.txt"
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): prepare the data set again") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocImages:
    """The splits of a root, the ``names`` of its C classes, the numbers of those ``counted``, and notes on the rest."""

    train: Labelled
    test: Labelled
    names: tuple[str, ...]
    counted: tuple[int, ...]
    notes: tuple[str, ...]


def usable(root: DataRoot, folds: int) -> VocImages:
    """Both splits and the classes that ``folds`` can be made of. InputError where there is no such class."""
    section, train, test = root.section("voc"), labelled(root, "train"), labelled(root, "test")
    names, reasons = tuple(section["classes"]), undefined(train.labels, test.labels, folds)
    if len(reasons) == len(names):
        raise InputError(
            f"no class of data set {root.name} can be classified ({names[0]} has {reasons[0]}): "
            f"give {folds} training images and a test image with and without a class, or leave this task out"
        )
    notes = [f"class {names[number]} does not count: {reason}" for number, reason in reasons.items()]
    return VocImages(
        train=train,
        test=test,
        names=names,
        counted=tuple(number for number in range(len(names)) if number not in reasons),
        notes=(*left_out(section), *_shortened(notes)),
    )


def _shortened(notes: list[str], shown: int = 3) -> list[str]:
    rest = len(notes) - shown
    return notes if rest <= 1 else [*notes[:shown], f"{rest} more classes do not count either"]


def undefined(train: np.ndarray, test: np.ndarray, folds: int) -> dict[int, str]:
    """The classes (columns of N×C labels) without a usable number, and the reason of each.

    Every fold needs a present and an absent image to train and to be scored on; ignored images do not count.
    """
    reasons: dict[int, str] = {}
    for number in range(train.shape[1]):
        for labels, split, needed in ((train[:, number], "training", folds), (test[:, number], "test", 1)):
            present, absent = int((labels == PRESENT).sum()), int((labels == ABSENT).sum())
            if min(present, absent) < needed:
                reasons.setdefault(number, f"{present} {split} images with and {absent} without")
    return reasons


def average_precision(target: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve, 0 to 1, of ``target`` (N,) booleans ranked by ``scores`` (N,).

    Precision at a recall is the best one at that recall or above, as VOC's from 2010 on; nan without a positive.
    facebookresearch/vissl:vissl/utils/svm_utils/evaluate.py. Of equal scores the later image ranks first, as there.
    """
    precision, recall = _curve(target, scores)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


def eleven_point_precision(target: np.ndarray, scores: np.ndarray) -> float:
    """Mean of the best precision at recall 0, 0.1, … 1 or above, VOC2007's own measure; arguments as above.

    VOC2007's development kit, VOCevalcls.m.
    """
    precision, recall = _curve(target, scores)
    if np.isnan(recall).any():
        return float("nan")
    return float(np.mean([precision[recall >= step / 10].max(initial=0.0) for step in range(11)]))


def _curve(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (N,) after each image, the highest score first; recall is nan without a positive."""
    hits = np.asarray(target, dtype=bool)[np.argsort(scores, kind="stable")[::-1]].cumsum()
    total = hits[-1] if len(hits) and hits[-1] else np.nan
    return hits / np.arange(1, len(hits) + 1), hits / total
