"""Classes one after the other, each kept on disk as soon as it is fitted: a killed run continues after the last one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.tasks.compute.features import FeatureView, features_of
from benchmarks.tasks.compute.multilabel import ABSENT, IGNORED, PRESENT, VocImages, average_precision
from benchmarks.tasks.compute.svm import Fit, Rows, choose_and_fit, fit, normalised, signs
from benchmarks.tasks.voc07_svm import SvmConfig
from pretrain.common.device import best_device
from pretrain.common.files import replacing

if TYPE_CHECKING:
    from benchmarks.run import Context

SUFFIX = ".svm.npz"  # of the files of a run that is not finished
Split = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classified:
    """``mean`` average precision in percent, ``scores`` N×C (0 where a class does not count), and the details."""

    mean: float
    scores: np.ndarray
    details: dict[str, Any]
    notes: tuple[str, ...]


def features(context: Context, data: VocImages, view: FeatureView) -> dict[str, np.ndarray]:
    """Features N×D of "train" and "test"."""
    return {
        split: features_of(
            context.backbone(),
            part.images,
            context.spec.data_fingerprint,
            f"labelled-{split}",
            context.spec.profile,
            context.loader_workers,
            view,
        )
        for split, part in (("train", data.train), ("test", data.test))
    }


def classify(x: Split, data: VocImages, config: SvmConfig, folder: Path, name: str) -> Classified:
    """Choose a cost and fit for every class that counts, on features ``x`` N×D of "train" and "test".

    ``folder`` keeps a file per class whose names begin with ``name``.
    """
    device, rows = best_device(), None
    tested = normalised(x["test"], config.normalise_eps, device)
    scores = np.zeros(data.test.labels.shape)
    details: dict[str, dict[str, Any]] = {}
    for number in tqdm(data.counted, desc=f"SVM {name}", unit="class"):
        path = folder / f"{name}-{number}{SUFFIX}"
        if (kept := _load(path)) is None:
            rows = rows or Rows.of(normalised(x["train"], config.normalise_eps, device))
            # Ignored images are negatives here, as in VISSL, and left out in the test alone.
            chosen = choose_and_fit(rows, data.train.labels[:, number] == PRESENT, config)
            kept = dataclasses.asdict(chosen) | {"weight": chosen.weight.cpu().numpy()}
            _save(path, kept)
        scores[:, number] = (tested @ torch.from_numpy(kept["weight"]).to(device)).cpu().numpy()
        details[data.names[number]] = {
            "AP": tested_precision(data, number, scores[:, number]),
            "cost": float(kept["cost"]),
            "cross_validation": [round(100 * value, 3) for value in kept["tried"].mean(1).tolist()],
            "iterations": int(kept["iterations"]),
            "gradient": float(kept["gradient"]),
            "unconverged": int(kept["unconverged"]),
        }
    return Classified(
        mean=float(np.mean([one["AP"] for one in details.values()])),
        scores=scores,
        details=details,
        notes=_unconverged(sum(one["unconverged"] for one in details.values())),
    )


def tested_precision(data: VocImages, number: int, scores: np.ndarray) -> float:
    """Average precision in percent of class ``number`` on the test images that are not ignored."""
    labels = data.test.labels[:, number]
    return 100 * average_precision(labels[labels != IGNORED] == PRESENT, scores[labels != IGNORED])


def _unconverged(count: int) -> tuple[str, ...]:
    return (f"{count} fits did not converge",) if count else ()


def draw(labels: np.ndarray, shots: int, negatives: int, seed: int, number: int) -> np.ndarray:
    """Rows of ``shots`` present and at most ``negatives`` absent images of class ``number``, drawn by ``seed``.

    ``labels`` (N,). Independently for each class, number of shots and seed, without replacement, as
    facebookresearch/vissl:extra_scripts/create_low_shot_samples.py (which has no seed).
    """
    generator = np.random.default_rng([seed, shots, number])
    present, absent = (np.flatnonzero(labels == value) for value in (PRESENT, ABSENT))
    chosen = generator.choice(present, shots, replace=False)
    others = generator.choice(absent, min(negatives, len(absent)), replace=False)
    return np.sort(np.concatenate([chosen, others]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowShot:
    """``table`` classes × costs of test AP in percent, ``scores`` N×C at ``cost``, the best on average over classes."""

    table: np.ndarray
    scores: np.ndarray
    cost: float
    unconverged: int

    @property
    def means(self) -> np.ndarray:
        """mAP in percent of every cost."""
        found: np.ndarray = self.table.mean(0)
        return found


class LowShotRuns:
    """Fits on a few images per class; ``folder`` keeps a file per number of shots."""

    def __init__(self, x: Split, data: VocImages, config: SvmConfig, folder: Path) -> None:
        self.data, self.config, self.folder = data, config, folder
        self.rows, self.tested = (
            normalised(x[split], config.normalise_eps, best_device()) for split in ("train", "test")
        )

    def run(self, shots: int, negatives: int, seed: int) -> LowShot:
        """Draw ``shots`` images with each class and ``negatives`` without, fit every cost, test on all test images."""
        path = self.folder / f"shots-{shots}{SUFFIX}"
        if (kept := _load(path)) is None:
            kept = self._fit(shots, negatives, seed)
            _save(path, kept)
        return LowShot(
            table=kept["table"],
            scores=kept["scores"],
            cost=float(kept["cost"]),
            unconverged=int(kept["unconverged"]),
        )

    def _fit(self, shots: int, negatives: int, seed: int) -> dict[str, Any]:
        data, costs = self.data, self.config.costs
        scores = np.zeros((len(costs), *data.test.labels.shape))
        table, unconverged = np.zeros((len(data.counted), len(costs))), 0
        for place, number in enumerate(tqdm(data.counted, desc=f"SVM {shots} shots", unit="class")):
            fits = self._class(number, draw(data.train.labels[:, number], shots, negatives, seed, number))
            unconverged += sum(not one.converged for one in fits)
            scores[:, :, number] = (self.tested @ torch.stack([one.weight for one in fits], 1)).T.cpu().numpy()
            table[place] = [tested_precision(data, number, one) for one in scores[:, :, number]]
        best = int(np.argmax(table.mean(0)))
        return {"table": table, "scores": scores[best], "cost": costs[best], "unconverged": unconverged}

    def _class(self, number: int, chosen: np.ndarray) -> list[Fit]:
        """The fit of every cost on the rows ``chosen``, each from where the one before ended."""
        rows = Rows.of(self.rows[torch.from_numpy(chosen).to(self.rows.device)])
        present, fits = self.data.train.labels[chosen, number] == PRESENT, list[Fit]()
        for cost in self.config.costs:
            y, c = signs(present, cost, self.config, rows.x.device)
            fits.append(fit(rows, y, c, self.config, fits[-1].weight if fits else None))
        return fits


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file that was written whole, or None."""
    try:
        with np.load(path) as stored:
            return dict(stored)
    except FileNotFoundError:
        return None


def clean(folder: Path) -> None:
    """Remove the files that a killed run would continue from."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink()
