"""Logistic regression as ssl-transfer's many-shot suite fits it (linusericsson/ssl-transfer:linear.py).

One scikit-learn model for the whole search: each fit starts where the last one ended, from the smallest decay to the
largest, and so does the final fit on train and val, which is tested once. The decay with the best score on the held-out
part wins, on a tie the smaller one. Of several labels per image a binary model is fitted for each class, which starts
where that of the class before it ended. After each decay the model is saved: a killed run continues there.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from tqdm import tqdm

from benchmarks.data.root import DataRoot
from benchmarks.predictions import Predictions
from benchmarks.tasks.compute.features import Features, labelled_images
from benchmarks.tasks.many_shot import ManyShotConfig
from pretrain.common.errors import InputError
from pretrain.common.files import replacing

SEARCH_FILE = "search.npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Percentages, the search for the record, notes for the table, and the predictions on the test images."""

    metrics: dict[str, float | None]
    settings: dict[str, Any]
    notes: tuple[str, ...]
    predictions: Predictions


def decays(config: ManyShotConfig) -> list[float]:
    """The grid of 1/C, the smallest first: ``torch.logspace`` in float32, as published."""
    found: list[float] = torch.logspace(config.wd_log10_first, config.wd_log10_last, config.c_grid_points).tolist()
    return found


def held_out_at_random(rows: int, config: ManyShotConfig) -> np.ndarray:
    """Mask (rows,) of the first fifth of a shuffle by NumPy's legacy generator, as published; one row at least."""
    order = list(range(rows))
    np.random.RandomState(config.val_seed).shuffle(order)
    mask = np.zeros(rows, dtype=bool)
    mask[order[: max(1, int(np.floor(config.val_fraction * rows)))]] = True
    return mask


def held_out_rows(root: DataRoot, config: ManyShotConfig) -> np.ndarray:
    """Mask of the training images to choose by: the published val part, else a random fifth.

    InputError if the published one is gone or is of other images.
    """
    section, folder = root.section("imagenet"), root.folder("imagenet")
    paths = [path.relative_to(folder / "train").as_posix() for path in labelled_images(root, "train")[0]]
    if "held_out" not in section:
        return held_out_at_random(len(paths), config)
    place = folder / Path(section["held_out"]).name
    try:
        listed = set(place.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise InputError(f"{place}, the published val part, cannot be read ({error}): prepare the data again") from None
    mask = np.array([path in listed for path in paths])
    if mask.sum() != len(listed) or not 0 < len(listed) < len(paths):
        raise InputError(f"{place}, the published val part, is not of {folder / 'train'}: prepare the data again")
    return mask


class Model:
    """scikit-learn's logistic regression that starts each fit where the last one ended."""

    def __init__(self, config: ManyShotConfig) -> None:
        self.config = config
        self.model = LogisticRegression(
            solver=config.solver,
            max_iter=config.max_iter,
            warm_start=config.warm_start,
            fit_intercept=config.fit_intercept,
        )

    def fit(self, x: np.ndarray, y: np.ndarray, decay: float) -> int:
        """Fit ``x`` N×D, ``y`` (N,); the number of iterations."""
        classes = np.unique(y)
        if len(getattr(self.model, "classes_", classes)) != len(classes):  # a class only among the held-out images
            self.model = Model(self.config).model
        # scikit-learn 0.22, the published one: the loss is a sum, and two classes have a weight vector each.
        twice = 2 if len(classes) == 2 else 1
        self.model.set_params(C=twice / decay, tol=self.config.tol / len(x))
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # recorded
            self.model.fit(x, y)
        return int(np.max(self.model.n_iter_))

    def save(self, path: Path, tried: list[dict[str, Any]]) -> None:
        """Write the model and the decays tried so far."""
        arrays = {name: getattr(self.model, name) for name in ("coef_", "intercept_", "classes_")}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, tried=np.array(json.dumps(tried)), **arrays)

    def restore(self, path: Path) -> list[dict[str, Any]]:
        """The decays tried before a run was killed, and the model as it was then; none if there is nothing usable."""
        try:
            with np.load(path) as stored:
                tried: list[dict[str, Any]] = json.loads(str(stored["tried"]))
                for name in ("coef_", "intercept_", "classes_"):
                    setattr(self.model, name, stored[name])
            return tried
        except Exception:  # NumPy raises whatever a broken file makes it stumble over
            self.model = Model(self.config).model
            return []


Fitted = tuple[float, list[int]]
"""Score on the held-out part in percent, iterations of each fit."""


def search(
    model: Model, fit_and_score: Callable[[float], Fitted], config: ManyShotConfig, folder: Path
) -> tuple[float, list[dict[str, Any]]]:
    """(the best decay, every one tried); continues the search that was saved in ``folder``."""
    path, grid = folder / SEARCH_FILE, decays(config)
    tried = model.restore(path)
    for decay in tqdm(grid[len(tried) :], desc="decays", initial=len(tried), total=len(grid), mininterval=5):
        score, iterations = fit_and_score(decay)
        tried.append({"decay": decay, "held_out_score": score, "iterations": iterations})
        model.save(path, tried)
    best = max(tried, key=lambda one: one["held_out_score"])  # the first of equals
    return best["decay"], tried


def evaluate(
    train: Features, test: Features, out: np.ndarray, score: str, config: ManyShotConfig, folder: Path
) -> Evaluated:
    """Choose on the rows ``out`` of ``train``, fit on all, test once; ``score`` is top1 or mean-per-class."""
    if len(np.unique(train.y[~out])) < 2:
        raise InputError("many-shot needs two classes beside the held-out images: add images, or leave it out")
    of = {"top1": top1, "mean-per-class": mean_per_class}
    model = Model(config)
    kept, held_out = (np.ascontiguousarray(train.x[rows]) for rows in (~out, out))

    def fit_and_score(decay: float) -> Fitted:
        iterations = model.fit(kept, train.y[~out], decay)
        return of[score](train.y[out], model.model.predict(held_out)), [iterations]

    decay, tried = search(model, fit_and_score, config, folder)
    last = model.fit(np.asarray(train.x), train.y, decay)
    shares = model.model.predict_proba(np.asarray(test.x))
    predicted = model.model.classes_[shares.argmax(1)]
    metrics: dict[str, float | None] = {
        "score": of[score](test.y, predicted),
        "top1": top1(test.y, predicted),
        "mean_per_class": mean_per_class(test.y, predicted),
    }
    predictions = Predictions(target=test.y, predicted=predicted, confidence=shares.max(1))
    return _evaluated(metrics, predictions, decay, tried, [last], config, folder)


def evaluate_labels(
    train: Features, test: Features, out: np.ndarray, names: Sequence[str], config: ManyShotConfig, folder: Path
) -> Evaluated:
    """As ``evaluate`` with labels N×C of 0 and 1: a model per class, and the mean of their 11-point APs.

    A class on no image or on all of a part cannot be fitted or tested there: it is left out and named.
    """
    model, usable = Model(config), _varied(train.y[~out]) & _varied(train.y)
    if not usable.any():
        raise InputError("many-shot-voc07 needs a class on some but not all images beside the held-out ones")
    classes, kept = np.flatnonzero(usable), np.ascontiguousarray(train.x[~out])

    def scores_of(x: np.ndarray, y: np.ndarray, tested: np.ndarray, decay: float) -> tuple[np.ndarray, list[int]]:
        columns, iterations = np.full((len(tested), len(names)), np.nan), []
        for label in classes:
            iterations.append(model.fit(x, y[:, label], decay))
            columns[:, label] = model.model.decision_function(tested)
        return columns, iterations

    def fit_and_score(decay: float) -> Fitted:
        found, iterations = scores_of(kept, train.y[~out], np.asarray(train.x[out]), decay)
        return _mean(average_precisions(train.y[out], found)) or 0.0, iterations

    decay, tried = search(model, fit_and_score, config, folder)
    found, last = scores_of(np.asarray(train.x), train.y, np.asarray(test.x), decay)
    each = average_precisions(test.y, found)
    absent = [name for name, value in zip(names, each, strict=True) if np.isnan(value)]
    predictions = Predictions(target=test.y, scores=np.nan_to_num(found, nan=-1.0))
    done = _evaluated({"map": _mean(each)}, predictions, decay, tried, last, config, folder)
    ap = {name: None if np.isnan(value) else float(value) for name, value in zip(names, each, strict=True)}
    left_out = (f"mean over {len(names) - len(absent)} of {len(names)} classes, without {absent[0]}",) if absent else ()
    return dataclasses.replace(done, settings=done.settings | {"AP": ap}, notes=(*left_out, *done.notes))


def _evaluated(
    metrics: dict[str, float | None],
    predictions: Predictions,
    decay: float,
    tried: list[dict[str, Any]],
    last: list[int],
    config: ManyShotConfig,
    folder: Path,
) -> Evaluated:
    (folder / SEARCH_FILE).unlink(missing_ok=True)
    iterations = [one for fits in [*(fit["iterations"] for fit in tried), last] for one in fits]
    short = sum(one >= config.max_iter for one in iterations)
    notes = [f"{short} of {len(iterations)} fits ended at {config.max_iter} iterations, as published"] if short else []
    if decay in (tried[0]["decay"], tried[-1]["decay"]):
        notes.append(f"decay {decay:g} is the {'smallest' if decay == tried[0]['decay'] else 'largest'} of its grid")
    fit = {"iterations": last, "converged": max(last) < config.max_iter}
    found = {"decay": decay, "fit": fit, "tried": tried, "not_converged": short}
    return Evaluated(metrics=metrics, settings=found, notes=tuple(notes), predictions=predictions)


def top1(y: np.ndarray, predicted: np.ndarray) -> float:
    """Accuracy in percent."""
    return 100 * float((y == predicted).mean())


def mean_per_class(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes in ``y`` of the accuracy on their images, in percent.

    ssl-transfer divides by zero for a class that is predicted but has no image; it is left out here.
    """
    return 100 * float(np.mean([(predicted[y == label] == label).mean() for label in np.unique(y)]))


def average_precisions(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """VOC2007's 11-point AP in percent of each column of ``scores`` N×C; NaN for a class not scored or on no image.

    The mean over recalls 0, 0.1 … 1 of the best precision at this recall or more. scikit-learn's curve begins with
    precision 1 at recall 0, so that the first of the eleven is always 1, as published.
    """
    found = np.full(y.shape[1], np.nan)
    for label in range(y.shape[1]):
        if y[:, label].any() and not np.isnan(scores[:, label]).any():
            precision, recall, _ = precision_recall_curve(y[:, label], scores[:, label])
            best = [precision[recall >= least].max(initial=0) for least in np.linspace(0, 1, 11)]
            found[label] = 100 * np.mean(best)
    return found


def _varied(y: np.ndarray) -> np.ndarray:
    """(C,) whether a class is on some but not all images."""
    return np.asarray(y.any(0) & ~y.all(0))


def _mean(values: np.ndarray) -> float | None:
    """The mean of those that are defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
