"""OpenMMLab's libraries and what grew out of them: OpenSelfSup, DenseCL, mmselfsup, mmpretrain.

The trained network is ``backbone.``, in older releases once more in ``encoder_q.0.`` or ``online_net.0.``. After
extract_backbone_weights.py a file has torchvision's layout.
"""

from __future__ import annotations

import dataclasses

from transfer.sources.base import HEAD, OUTSIDE, PUBLISHED_CODE, QUEUE
from transfer.sources.layout import Layout, either

_AGAIN = "the online network once more"
_MOMENTUM = ("encoder_k.0.", "target_net.0.")

_ONE = Layout(
    name="openmmlab",
    title="DenseCL, OpenSelfSup, mmselfsup, mmpretrain",
    known_from=(
        "WXinlong/DenseCL:openselfsup/models/densecl.py, tools/extract_backbone_weights.py; open-mmlab/mmselfsup:"
        f"mmselfsup/models/algorithms; open-mmlab/mmpretrain:mmpretrain/models/selfsup/byol.py; {PUBLISHED_CODE}"
    ),
    inside=(("state_dict",),),
    networks={"online": "backbone."},
    drop={
        "": OUTSIDE,
        "neck.": HEAD,
        "head.": HEAD,
        "queue": QUEUE,
        "encoder_q.": _AGAIN,
        "online_net.": _AGAIN,
    },
    marks=("meta",),
)

SOURCE = either(
    *(
        dataclasses.replace(_ONE, networks={"online": "backbone.", "momentum": prefix}, marks=(prefix,))
        for prefix in _MOMENTUM
    ),
    _ONE,
)
