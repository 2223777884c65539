"""SwAV, DeepCluster v2 and SeLa v2: torchvision's names with prototypes beside them.

The stem pads by one and convolves with a padding of two: the same weights, the same map.
"""

from __future__ import annotations

import dataclasses

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout, first_match

_WITH_PROTOTYPES = Layout(
    name="swav",
    title="SwAV, DeepCluster v2, SeLa v2",
    known_from=f"facebookresearch/swav:src/resnet50.py, main_swav.py, main_deepclusterv2.py; {PUBLISHED_CODE}",
    inside=(("state_dict",), ()),
    networks={"model": ""},
    drop={"projection_head.": HEAD, "prototypes.": "prototypes, not part of the backbone"},
    marks=("prototypes.", "conv1."),
)
_WITHOUT = dataclasses.replace(_WITH_PROTOTYPES, marks=("projection_head.", "conv1."))  # nmb_prototypes 0

FAMILY = first_match(_WITH_PROTOTYPES, _WITHOUT)
