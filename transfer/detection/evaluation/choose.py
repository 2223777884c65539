"""The evaluator of a data set, by the evaluator_type in its metadata: a further kind is an entry of EVALUATORS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from pretrain.common.errors import InputError
from transfer.detection.evaluation import cityscapes, coco, lvis, voc


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of evaluation."""

    build: Callable[[CfgNode, str, Path], DatasetEvaluator]
    """Of the config, the data set's name and the folder of the run."""
    engine: Callable[[], str | None] = lambda: None
    """The package that evaluates and its version, for the record. InputError where it cannot be used."""


def evaluator(cfg: CfgNode, dataset_name: str, folder: Path) -> DatasetEvaluator:
    """The evaluator of ``dataset_name``. InputError for an unknown kind."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise InputError(f"data set {dataset_name}: evaluator_type is {kind}, expected {' or '.join(EVALUATORS)}")
    return EVALUATORS[kind].build(cfg, dataset_name, folder)


def engine(kind: str) -> str | None:
    """The package that evaluates this kind and its version. InputError where it cannot be used."""
    return EVALUATORS[kind].engine()


def classes_tested(dataset_name: str) -> int:
    """Number of classes with a test object that counts: one that is not difficult (VOC) or not a crowd (others)."""
    meta = MetadataCatalog.get(dataset_name)
    if meta.evaluator_type == "pascal_voc":
        return voc.classes_tested(dataset_name)
    stored = json.loads(Path(meta.json_file).read_text(encoding="utf-8"))
    return len({one["category_id"] for one in stored["annotations"] if not one.get("iscrowd")})


def _tasks(cfg: CfgNode) -> list[str]:
    switches = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return [task for task, on in switches.items() if on]


EVALUATORS = {
    "pascal_voc": Kind(build=lambda _, name, folder: voc.VOCEvaluator(name, folder)),
    "coco": Kind(
        build=lambda cfg, name, folder: coco.COCOEvaluator(name, _tasks(cfg), folder, cfg.TEST.KEYPOINT_OKS_SIGMAS),
        engine=coco.engine_and_version,
    ),
    "cityscapes": Kind(build=lambda _, name, folder: cityscapes.CityscapesEvaluator(name, folder)),
    "lvis": Kind(
        build=lambda cfg, name, folder: lvis.LVISEvaluator(name, _tasks(cfg), folder),
        engine=lvis.engine_and_version,
    ),
}
