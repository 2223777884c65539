"""Take over the folders of runs that were made before settings and log terms had their present names."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.common.files import locked, replacing, write_json
from pretrain.runtime.metrics import read_metrics

SETTINGS = {
    "bias_rate": "bias_lr_ratio",
    "decay_all": "decay_bias_and_norm",
    "reader": "crop_backend",
    "processes": "world_size",
    "grey": "grayscale",
    "solarise": "solarize",
    "rand_colour": "rand_color",
}
TERMS = {"score": "nce_score", "spread": "embedding_std", "z_spread": "z_std", "h_spread": "h_std"}


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """JSON ``value`` with the keys in ``names`` renamed at every depth; others stay."""
    if isinstance(value, Mapping):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list | tuple) else value


def before(value: Any) -> Any:
    """JSON ``value`` under the names that its settings had before."""
    return renamed(value, {new: old for old, new in SETTINGS.items()})


def migrate_run(old: Path, new: Path) -> None:
    """Rename ``old``, the run folder of the same settings under their former names, to ``new``, and the keys in it.

    Nothing is done if there is no such folder or ``new`` exists. Files first, so that an interruption is made up for.
    """
    if new.exists() or not old.is_dir():
        return
    with locked(new.parent):
        if new.exists() or not old.is_dir():  # another process was here first
            return
        for path in (old / "meta.json", old / "settings.json"):
            if path.exists():
                write_json(path, renamed(json.loads(path.read_text(encoding="utf-8")), SETTINGS))
        log = old / "metrics.jsonl"
        if log.exists():
            rows = [json.dumps(renamed(row, TERMS)) + "\n" for row in read_metrics(log)]
            with replacing(log) as temporary:
                temporary.write_text("".join(rows), encoding="utf-8")
        old.rename(new)
    print(f"{old.name}: settings have new names; the run is now {new.name}", file=sys.stderr)
