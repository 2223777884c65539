"""The facts about a root's training objects from which profile small takes sizes, anchors and schedule.

python -c "from benchmarks.data.root import DataRoot; from benchmarks.data.facts import training_facts;
print(training_facts(DataRoot.load('results/data/emoji-demo'), 'voc'))"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode

from benchmarks.data.registration import records_of, register
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError
from transfer.detection.fitted import DataFacts, facts_of


def training_facts(root: DataRoot, kind: str) -> DataFacts:
    """The facts about the training split of the detection layout ``kind``, read from its annotations.

    InputError where it has no object.
    """
    return facts_of_records(records_of(register(root, kind).train), root.name)


def facts_of_records(records: Sequence[dict[str, Any]], name: str) -> DataFacts:
    """The facts about detectron2's ``records`` without crowds, as a detector is trained; ``name`` is that of the data.

    InputError where there is no object with an area.
    """
    boxes = [[size for one in record["annotations"] if (size := _size(one))] for record in records]
    if not any(boxes):
        raise InputError(f"data set {name} has no training object: profile small takes its sizes from those")
    return facts_of([(one["width"], one["height"]) for one in records], boxes)


def _size(annotation: dict[str, Any]) -> tuple[float, float] | None:
    """Width and height of an object in pixels, None for a crowd and for a box without area."""
    _, _, width, height = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
    return (width, height) if width > 0 and height > 0 and not annotation.get("iscrowd") else None
