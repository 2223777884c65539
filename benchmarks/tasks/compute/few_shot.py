"""Episodes of few-shot classification on features, many at once (linusericsson/ssl-transfer:few_shot.py, ProtoNet)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.tasks.few_shot import FewShotConfig
from pretrain.common.device import best_device
from pretrain.common.files import replacing

EPISODES_FILE = "episodes.npz"
VALUES = 2**26  # differences of a query and a class mean that exist at once


def usable_classes(y: np.ndarray, shots: int, config: FewShotConfig) -> np.ndarray:
    """The classes with images for ``shots`` and the queries."""
    labels, counts = np.unique(y, return_counts=True)
    return np.asarray(labels[counts >= shots + config.queries])


def draw(y: np.ndarray, shots: int, config: FewShotConfig, seed: int) -> np.ndarray:
    """Row numbers, episodes × ways × (shots + queries): no class and no row twice in an episode.

    Drawn by ``seed`` and ``shots``, so that the episodes of other numbers of shots do not change them.
    """
    generator = np.random.default_rng([seed, zlib.crc32(b"few-shot"), shots])
    labels, each = usable_classes(y, shots, config), shots + config.queries
    rows = {label: np.flatnonzero(y == label) for label in labels.tolist()}
    found = np.empty((config.episodes, config.ways, each), dtype=np.int64)
    for episode in found:
        for place, label in enumerate(generator.choice(labels, config.ways, replace=False).tolist()):
            episode[place] = generator.choice(rows[label], each, replace=False)
    return found


def accuracies(
    x: Sequence[np.ndarray], y: np.ndarray, shots: int, config: FewShotConfig, seed: int
) -> np.ndarray | None:
    """(episodes,) accuracies from 0 to 1 of ``x``, whose parts M×D have N rows together, with labels ``y`` (N,).

    None where fewer than ``ways`` classes are usable.

    A query belongs to the class whose ``shots`` features have the nearest mean, the first of equals.
    """
    if len(usable_classes(y, shots, config)) < config.ways:
        return None
    rows, device = draw(y, shots, config, seed), best_device()
    at_once = max(1, VALUES // (config.ways**2 * config.queries * x[0].shape[1]))
    truth = torch.arange(config.ways, device=device).repeat_interleave(config.queries)
    found = []
    for begun in tqdm(range(0, len(rows), at_once), desc=f"{shots}-shot episodes", mininterval=5):
        some = torch.from_numpy(_taken(x, rows[begun : begun + at_once])).to(device)  # episodes × ways × images × D
        means = some[:, :, :shots].mean(2)
        queries = some[:, :, shots:].flatten(1, 2)
        distances = (queries[:, :, None] - means[:, None]).square().sum(3)
        found.append((distances.argmin(2) == truth).double().mean(1).cpu())
    return torch.cat(found).numpy()


def _taken(parts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """``rows`` of the parts one after the other, which stay where they are: ImageNet's features are 10.9 GB."""
    found, begin = np.empty((*rows.shape, parts[0].shape[1]), dtype=np.float32), 0
    for part in parts:
        inside = (rows >= begin) & (rows < begin + len(part))
        found[inside] = part[rows[inside] - begin]
        begin += len(part)
    return found


def summary(done: Mapping[int, np.ndarray | None], config: FewShotConfig) -> dict[str, float | None]:
    """Mean and half the width of the 95 % interval in percent for each number of shots."""
    metrics: dict[str, float | None] = {}
    for shots, found in done.items():
        metrics[f"shot{shots}"] = None if found is None else 100 * float(found.mean())
        half = None if found is None else 100 * config.interval_factor * float(found.std()) / len(found) ** 0.5
        metrics[f"ci95_{shots}"] = half
    return metrics


def save(done: Mapping[int, np.ndarray | None], folder: Path) -> None:
    """Write the accuracies of all episodes to ``folder``/episodes.npz, an array ``shot5`` for each number of shots."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"shot{shots}": found for shots, found in done.items() if found is not None}
    with replacing(folder / EPISODES_FILE) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # the stub takes them for flags
