"""The sets of ssl-transfer's many-shot suite as torchvision's data set classes read them. Imports no torch at the top.

    python -m benchmarks prepare torchvision DTD SOURCE        (SOURCE is torchvision's root: it holds dtd/)

Splits, metrics and the part of train that is held out to choose by are those of Ericsson et al. (arXiv 2011.13377),
linusericsson/ssl-transfer:linear.py and datasets/*.py: Aircraft, DTD, Flowers and VOC2007 have a published val part,
of the others the first fifth of a shuffle with NumPy's seed 0 is held out. The order of the training images, on which
that shuffle depends, is theirs too.

Two classes of torchvision have no split. Caltech101: 30 images per class drawn with NumPy's seed 0 as
datasets/caltech101.py draws them, with replacement, each image once: that is caltech101-splits/train.txt since October
2023, 2,416 images (the paper's numbers are from all 3,060 draws, 174 of whose 612 held-out rows were also trained on);
BACKGROUND_Google, which torchvision leaves out, is a class. SUN397: the first of the ten published partitions, its
files Training_01.txt and Testing_01.txt, which the user adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.data.checks import fatal
from pretrain.common.errors import InputError

Score = Literal["top1", "mean-per-class"]
HELD_OUT = 0.2
HELD_OUT_SEED = 0
CALTECH_PER_CLASS = 30
CALTECH = "101_ObjectCategories"
PARTITIONS = "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The images of a split and their classes' names, in the published order.

    ``pixels`` gives the image of a number where it is not a file; ``images`` are then names to write it to.
    """

    images: Sequence[Path]
    labels: Sequence[str]
    pixels: Callable[[int], Any] | None = None

    def __add__(self, other: Listed) -> Listed:
        return Listed(images=[*self.images, *other.images], labels=[*self.labels, *other.labels])


@dataclass(frozen=True, kw_only=True)
class Splits:
    """``train`` with its published val part, whose numbers in it are ``held_out``, and ``test``."""

    train: Listed
    held_out: Sequence[int]
    test: Listed


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet:
    """``folder`` in torchvision's root, the metric, and the published numbers of classes and images.

    ``read(root)`` reads it; None: VOC2007, which `prepare voc` lays out.
    """

    folder: str
    score: Score
    classes: int
    train: int
    held_out: int
    test: int
    read: Callable[[Path], Splits] | None = field(repr=False)


def held_out_part(images: int) -> list[int]:
    """The images held out to choose by where no val part is published (ssl-transfer:linear.py, valid_size, seed 0)."""
    order = list(range(images))
    np.random.RandomState(HELD_OUT_SEED).shuffle(order)  # the published generator
    return order[: int(np.floor(HELD_OUT * images))]


def read(name: str, root: Path) -> Splits:
    """The splits of the set ``name`` in torchvision's ``root``. InputError if torchvision cannot read it."""
    one = SETS[name]
    assert one.read
    try:
        return one.read(root)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # torchvision, SciPy and pickle raise whatever a broken file makes them stumble over
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"torchvision's {name} cannot be read from {root} ({text}): unpack it there as {one.folder}/, complete"
        ) from None


def _listed(name: str, root: Path, **options: Any) -> Listed:
    """A split of a class of torchvision that takes a ``loader``."""
    import torchvision

    data = getattr(torchvision.datasets, name)(str(root), loader=Path, **options)
    items = [data[number] for number in range(len(data))]
    return Listed(images=[path for path, _ in items], labels=[data.classes[label] for _, label in items])


def _with_val(name: str) -> Callable[[Path], Splits]:
    def read_splits(root: Path) -> Splits:
        train, val, test = (_listed(name, root, split=split) for split in ("train", "val", "test"))
        held_out = range(len(train.images), len(train.images) + len(val.images))
        return Splits(train=train + val, held_out=held_out, test=test)

    return read_splits


def _without_val(name: str) -> Callable[[Path], Splits]:
    def read_splits(root: Path) -> Splits:
        train, test = (_listed(name, root, split=split) for split in ("train", "test"))
        order = range(len(train.images))
        if name == "Food101":  # torchvision has the order of a JSON's keys, datasets/food.py that of the classes
            order = sorted(order, key=lambda number: train.labels[number])  # type: ignore[assignment]
        train = Listed(images=[train.images[i] for i in order], labels=[train.labels[i] for i in order])
        return Splits(train=train, held_out=held_out_part(len(train.images)), test=test)

    return read_splits


def _cifar(name: str) -> Callable[[Path], Splits]:
    def read_splits(root: Path) -> Splits:
        import torchvision

        def split(train: bool) -> Listed:
            data = getattr(torchvision.datasets, name)(str(root), train=train)
            names = [Path(f"{number:05d}.png") for number in range(len(data))]
            labels = [data.classes[label] for label in data.targets]
            return Listed(images=names, labels=labels, pixels=lambda number: data[number][0])

        train = split(True)
        return Splits(train=train, held_out=held_out_part(len(train.images)), test=split(False))

    return read_splits


def _pets(root: Path) -> Splits:
    import torchvision

    def split(name: str) -> Listed:
        data = torchvision.datasets.OxfordIIITPet(str(root), split=name)
        # The class has no public list of its files, nor a loader that would show them.
        return Listed(images=data._images, labels=[data.classes[label] for label in data._labels])

    train = split("trainval")
    return Splits(train=train, held_out=held_out_part(len(train.images)), test=split("test"))


def _caltech(root: Path) -> Splits:
    import torchvision

    torchvision.datasets.Caltech101(str(root))  # says whether it is there and complete
    data = torchvision.datasets.ImageFolder(str(root / "caltech101" / CALTECH))
    generator, targets = np.random.RandomState(0), np.array(data.targets)  # the published generator
    train: list[int] = []
    for label in range(len(data.classes)):
        train += sorted(set(generator.choice(np.flatnonzero(targets == label), CALTECH_PER_CLASS).tolist()))
    test = sorted(set(range(len(targets))) - set(train))

    def part(numbers: Sequence[int]) -> Listed:
        some = [data.samples[number] for number in numbers]
        return Listed(images=[Path(path) for path, _ in some], labels=[data.classes[label] for _, label in some])

    return Splits(train=part(train), held_out=held_out_part(len(train)), test=part(test))


def _sun(root: Path) -> Splits:
    data = _listed("SUN397", root)
    folder = root / "SUN397"
    label_of = {
        path.relative_to(folder).as_posix(): label for path, label in zip(data.images, data.labels, strict=True)
    }

    def part(name: str) -> Listed:
        places = [inside / name for inside in (folder, folder / "Partitions")]
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            raise InputError(f"{places[0]} is missing, the published split: unpack {PARTITIONS} into {folder}")
        lines = [line.strip().lstrip("/") for line in found.read_text().splitlines() if line.strip()]
        fatal(f"absent image of {found}", [line for line in lines if line not in label_of], "unpack SUN397 again")
        return Listed(images=[folder / line for line in lines], labels=[label_of[line] for line in lines])

    train = part("Training_01.txt")
    return Splits(train=train, held_out=held_out_part(len(train.images)), test=part("Testing_01.txt"))


def _set(
    folder: str, score: Score, counts: tuple[int, int, int, int], reader: Callable[[Path], Splits] | None
) -> TorchvisionSet:
    classes, train, held_out, test = counts
    return TorchvisionSet(
        folder=folder, score=score, classes=classes, train=train, held_out=held_out, test=test, read=reader
    )


SETS: Mapping[str, TorchvisionSet] = {
    "FGVCAircraft": _set("fgvc-aircraft-2013b", "mean-per-class", (100, 6667, 3333, 3333), _with_val("FGVCAircraft")),
    "Caltech101": _set("caltech101", "mean-per-class", (102, 2416, 483, 6728), _caltech),
    "StanfordCars": _set("stanford_cars", "top1", (196, 8144, 1628, 8041), _without_val("StanfordCars")),
    "CIFAR10": _set("cifar-10-batches-py", "top1", (10, 50_000, 10_000, 10_000), _cifar("CIFAR10")),
    "CIFAR100": _set("cifar-100-python", "top1", (100, 50_000, 10_000, 10_000), _cifar("CIFAR100")),
    "DTD": _set("dtd/dtd", "top1", (47, 3760, 1880, 1880), _with_val("DTD")),
    "Flowers102": _set("flowers-102", "mean-per-class", (102, 2040, 1020, 6149), _with_val("Flowers102")),
    "Food101": _set("food-101", "top1", (101, 75_750, 15_150, 25_250), _without_val("Food101")),
    "OxfordIIITPet": _set("oxford-iiit-pet", "mean-per-class", (37, 3680, 736, 3669), _pets),
    "SUN397": _set("SUN397", "top1", (397, 19_850, 3970, 19_850), _sun),
    "VOC2007": _set("VOCdevkit", "top1", (20, 5011, 2510, 4952), None),
}
