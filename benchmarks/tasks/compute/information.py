"""Predictive and superfluous nats of the features of any checkpoint that can be converted, and of CMC's.

Run: ``python -m benchmarks diagnose CHECKPOINT --data FOLDER``; see pretrain/information/estimate.py.
"""

from __future__ import annotations

import tyro

from benchmarks.tasks.compute.features import build_backbone, read_frozen
from pretrain.information.diagnose import DiagnoseArguments, report
from pretrain.information.load import FrozenBackbone
from transfer.checkpoints.backbone import Backbone
from transfer.checkpoints.reading.read import load_checkpoint


def frozen(backbone: Backbone, name: str) -> FrozenBackbone:
    """The network of a checkpoint as transfer reads it, with the pixels it expects."""
    settings = (backbone.meta or {}).get("config", {}).get("raw", {})
    return FrozenBackbone(
        module=build_backbone(backbone),
        name=name,
        sha256=backbone.sha256,
        pixel_mean=backbone.input.mean,
        pixel_std=backbone.input.std,
        channel_order=backbone.input.order,
        image_size=settings.get("image_size"),
    )


def main(argv: list[str]) -> int:
    """``diagnose``: see DiagnoseArguments. InputError for a checkpoint that conversion refuses, saying why."""
    arguments = tyro.cli(DiagnoseArguments, args=argv, prog="python -m benchmarks diagnose")
    loaded = load_checkpoint(arguments.checkpoint)
    own = loaded.path.name == "backbone.safetensors"
    name = loaded.path.absolute().parent.name if own else loaded.path.stem
    return report(frozen(read_frozen(loaded), name), arguments.data, arguments.config)
