"""lightly's ImageNet benchmarks: a checkpoint of pytorch_lightning whose evaluated network is always ``backbone``.

It depends on the method: the trained network in most, the averaged teacher in DINO, and the averaged key encoder in
earlier releases of MoCo v2.
"""

from __future__ import annotations

import dataclasses

from transfer.checkpoints.families.base import CLASSIFIER, HEAD, OUTSIDE
from transfer.checkpoints.families.layout import Layout, first_match

_ONE = Layout(
    name="lightly",
    title="lightly's ImageNet benchmarks",
    known_from=(
        "lightly-ai/lightly:benchmarks/imagenet/resnet50/{simclr,mocov2,byol,dino,swav}.py; with lightly's own modules "
        "in a test"
    ),
    inside=(("state_dict",),),
    networks={"backbone": "backbone."},
    drop={"": OUTSIDE, "projection_head.": HEAD, "prediction_head.": HEAD, "online_classifier.": CLASSIFIER},
    marks=("projection_head.",),
)


def _two(evaluated: str, name: str, prefix: str) -> Layout:
    """The layout of a method: the evaluated network under ``backbone.`` and a second one, which marks the method."""
    return dataclasses.replace(_ONE, networks={evaluated: "backbone.", name: prefix}, marks=(prefix,))


FAMILY = first_match(
    _two("teacher", "student", "student_backbone."),
    _two("key", "query", "query_backbone."),
    _two("query", "key", "key_backbone."),
    _two("online", "teacher", "teacher_backbone."),
    _ONE,
)
