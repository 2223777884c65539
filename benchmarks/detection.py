"""Detection and instance segmentation on a data root, through detectron2: registers the data, trains, tests once."""

from __future__ import annotations

import yaml

from benchmarks.datasets.registration import register
from benchmarks.run import Context, Result
from pretrain.errors import RunError
from transfer import weights
from transfer.detection import build_cfg, train_and_test


def run_detection(context: Context) -> Result:
    """Train the protocol's detector from the converted weights and test it on the root's test split."""
    spec = context.spec
    converted = weights.load(context.converted)
    if converted is None:
        raise RunError(f"{context.converted} has no proof beside it any more: delete it and run again")
    data = register(context.root, "voc" if spec.task == "voc-det" else "coco")
    cfg = build_cfg(
        protocol=spec.protocol,
        profile=spec.profile,
        converted=converted,
        train=data.train,
        test=data.test,
        num_classes=data.num_classes,
        mask_format=data.mask_format,
        seed=spec.seed,
        output_dir=context.folder,
        num_gpus=context.num_gpus,
        opts=list(spec.overrides),
    )
    metrics = train_and_test(cfg, converted)
    return Result(metrics=metrics, test_images=data.test_images, config=yaml.safe_load(cfg.dump()))
