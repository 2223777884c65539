"""SlotCon: the averaged encoder, which its own script converts for detection, and the trained one."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="slotcon",
    title="SlotCon",
    known_from=(
        "CVMI-Lab/SlotCon:main_pretrain.py, models/slotcon.py, transfer/detection/convert_pretrain_to_d2.py; "
        f"{PUBLISHED_CODE}"
    ),
    inside=(("model",),),
    networks={"momentum": "encoder_k.", "encoder": "encoder_q."},
    drop={
        "projector_": HEAD,
        "predictor_slot.": HEAD,
        "grouping_": "prototypes, not part of the backbone",
        "center": "mean of earlier assignments, not weights",
    },
    marks=("grouping_k.", "encoder_k."),
).family()
