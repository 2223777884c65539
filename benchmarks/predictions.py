"""A classification run's predictions on the test images, in predictions.npz beside its record. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pretrain.common.errors import InputError
from pretrain.common.files import replacing, require_arrays

FILE = "predictions.npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """Of N test images, in the order of the test split.

    One label per image: ``target`` (N,) class numbers, ``predicted`` (N,), ``confidence`` (N,) the score of the
    predicted class on any scale. Several labels: ``target`` N×C of 1, 0 and −1 (not counted), ``scores`` N×C, a class
    being predicted where its score is positive.
    """

    target: np.ndarray
    predicted: np.ndarray | None = None
    confidence: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def correct(self) -> np.ndarray:
        """(N,) or N×C booleans."""
        if self.scores is not None:
            return np.asarray((self.scores > 0) == (self.target > 0))
        return np.asarray(self.predicted == self.target)

    def checked(self) -> Predictions:
        """Itself. ValueError where the arrays are not of the same images, or a target is none."""
        shape = self.target.shape
        names = ("target", *(name for name in ("predicted", "confidence", "scores") if getattr(self, name) is not None))
        if (self.scores is None) != (len(shape) == 1) or (self.predicted is None) != (len(shape) == 2):
            raise ValueError(f"{', '.join(names)} with a target of {len(shape)} dimensions")
        require_arrays(self, dict.fromkeys(names, shape), {})
        if self.scores is not None and not np.isin(self.target, (-1, 0, 1)).all():
            raise ValueError("a target that is not 1, 0 or -1")
        if self.scores is None and self.target.dtype.kind not in "iu":
            raise ValueError("a target that is no class number")
        return self

    def save(self, folder: Path) -> None:
        """Write ``folder``/predictions.npz; ``correct`` has one bit per image (and class)."""
        arrays = {"target": _small(self.target), "correct": np.packbits(self.correct, axis=0)}
        if self.predicted is not None:
            arrays["predicted"] = _small(self.predicted)
        for name in ("confidence", "scores"):
            if (value := getattr(self, name)) is not None:
                arrays[name] = np.asarray(value, dtype=np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FILE) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # the stub takes them for flags


def _small(labels: np.ndarray) -> np.ndarray:
    """Class numbers in 16 bits where they fit."""
    fits = not labels.size or (labels.max() < 2**15 and labels.min() >= -(2**15))
    return labels.astype(np.int16 if fits else np.int64)


def load_predictions(folder: Path) -> Predictions:
    """The predictions in ``folder``. InputError where there are none or they cannot be read."""
    path = folder / FILE
    try:
        with np.load(path) as stored:
            found = {
                field.name: stored[field.name] for field in dataclasses.fields(Predictions) if field.name in stored
            }
        return Predictions(**found).checked()
    except FileNotFoundError:
        raise InputError(f"{folder} has no {FILE}: the run did not finish, or is of an earlier version") from None
    except Exception as error:  # NumPy raises whatever a broken file makes it stumble over
        raise InputError(f"{path} cannot be read ({error}): run it again with --rerun always") from None
