"""The views that a pretraining run was trained on, and the features of such views, for tasks/view_information.py."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.schema import checked
from benchmarks.tasks.compute.information import two_view_features
from pretrain.augment.pairs import UNPAIRED, PairConfig
from pretrain.augment.views import ViewsConfig
from pretrain.common.errors import InputError
from pretrain.embedding import load_embedding
from pretrain.information.two_views import InformationConfig, Pairing
from pretrain.methods import METHODS
from pretrain.runtime.metrics import read_metrics
from transfer.checkpoints.backbone import Backbone
from transfer.checkpoints.families.superinfo import FAMILY
from transfer.checkpoints.store import StoredBackbone

LAST = 0.9  # share of the steps after which the log's bound is averaged
AT_ONCE = 8192  # rows under a head
H, Z = "h", "z"  # pooled features, and the run's own embedding of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunViews:
    """What a run's two views of an image are made of."""

    image_size: int
    views: ViewsConfig
    pairing: Pairing
    steps: int


def run_views(stored: StoredBackbone) -> RunViews:
    """From the meta.json beside the checkpoint. InputError where there are no two views, or none that are known."""
    if stored.family != FAMILY.name:
        raise InputError(f"{stored.source}: its views are unknown, since it is no pretraining run of this project")
    path = stored.source.parent / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        method, raw = meta["method"], meta["config"]["raw"]
        compared = METHODS[method].views if method in METHODS else 0
        found = _views(raw, meta["config"]["resolved"]["steps"]) if compared == 2 else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: its views cannot be read ({reason}): copy the run's whole folder again") from None
    if found is None:
        raise InputError(
            f"{stored.source}: its views are unknown, since {method} does not compare two views of an image"
        )
    return found


def _views(raw: Mapping[str, Any], steps: int) -> RunViews:
    second = raw.get("views2")
    pairing = Pairing(
        views2=None if second is None else checked(second, ViewsConfig),
        pair=checked(raw["pair"], PairConfig) if "pair" in raw else UNPAIRED,
        crop_backend=raw["crop_backend"],
    )
    views = checked(raw["views"], ViewsConfig)
    return RunViews(image_size=raw["image_size"], views=views, pairing=pairing, steps=steps)


def layers_of(
    stored: StoredBackbone, backbone: Backbone, images: list[Path], data: str, found: RunViews, count: int, seed: int
) -> dict[str, Tensor]:
    """(n, 2, D) float32 of each layer: pooled features of two views of n ≤ ``count`` images, and their embedding.

    ``data`` is the fingerprint of the images' data set; ``seed`` draws images and views.
    """
    config = InformationConfig(images=count, image_size=found.image_size, seed=seed, views=found.views)
    h = two_view_features(backbone, images, data, config, found.pairing)
    embed = load_embedding(stored.source.parent)
    if embed is None:
        return {H: h}
    z = torch.cat([embed(part) for part in h.flatten(0, 1).split(AT_ONCE)])
    return {H: h, Z: z.unflatten(0, (len(h), 2))}


def log_bound(stored: StoredBackbone, steps: int) -> float | None:
    """Mean of the log's predictive nats over the last tenth of the steps; None without such a log or such a term."""
    rows = read_metrics(stored.source.parent / "metrics.jsonl")
    values = [row["predictive"] for row in rows if row["step"] >= LAST * steps and "predictive" in row]
    return sum(values) / len(values) if values else None
