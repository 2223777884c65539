"""The training images whose labels a run may use: all, those of a prepared list, or a stratified draw. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.data.labels import names_digest, stored_list
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """``rows`` (n,) are numbers of training images, ascending; ``digest`` is of their paths' sorted list."""

    rows: np.ndarray
    source: Literal["all", "list", "drawn"]
    digest: str

    def summary(self) -> dict[str, Any]:
        """For the record."""
        return {"source": self.source, "images": len(self.rows), "digest": self.digest}

    def notes(self) -> tuple[str, ...]:
        """For the table's caption: how the labels of a part were chosen."""
        how = {"list": "by the root's list", "drawn": "by a draw per class, no list was given"}
        return (f"{len(self.rows):,} labels {how[self.source]}",) if self.source in how else ()


def labelled_rows(root: DataRoot, names: Sequence[str], y: np.ndarray, percent: int, seed: int) -> Labelled:
    """The images with labels among the training images ``names`` (paths below train/), of classes ``y`` (N,).

    By the root's list of ``percent`` where it has one, else drawn by ``seed``. InputError if the list does not fit.
    """
    if percent == 100:
        rows, source = np.arange(len(y)), "all"
    elif (listed := stored_list(root, percent)) is not None:
        number = {name: row for row, name in enumerate(names)}
        if absent := [name for name in listed if name not in number]:
            raise InputError(f"{absent[0]}, a listed image, is not in {root.name}: prepare it again")
        rows, source = np.sort([number[name] for name in listed]), "list"
    else:
        rows, source = stratified(y, percent, seed), "drawn"
    digest = names_digest(sorted(names[int(row)] for row in rows))
    return Labelled(rows=rows, source=source, digest=digest)  # type: ignore[arg-type]  # one of the three words


def stratified(y: np.ndarray, percent: int, seed: int) -> np.ndarray:
    """Ascending row numbers of ``percent`` of each class of ``y`` (N,), to the nearest image, at least one.

    Of one seed a smaller percentage is a part of a larger one.
    """
    chosen = []
    for label in np.unique(y):
        rows = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(y == label))
        chosen.append(rows[: max(1, int(len(rows) * percent / 100 + 0.5))])
    return np.sort(np.concatenate(chosen))


def names_below(images: Sequence[Path], folder: Path) -> list[str]:
    """The images' paths below ``folder``."""
    start = len(f"{folder}/")  # pathlib's relative_to takes 10 s for ImageNet
    return [str(image)[start:] for image in images]
