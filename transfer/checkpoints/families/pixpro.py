"""PixPro: ``ckpt_epoch_N.pth`` and the published copies of it, without the optimiser."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="pixpro",
    title="PixPro",
    known_from=(
        f"zdaxie/PixPro:main_pretrain.py, contrast/models/PixPro.py, transfer/detection/convert_pretrain_to_d2.py; "
        f"{PUBLISHED_CODE}"
    ),
    inside=(("model",),),
    networks={"encoder": "encoder.", "momentum": "encoder_k."},
    drop={"projector": HEAD, "predictor.": HEAD, "value_transform.": HEAD},
    marks=("encoder_k.", "projector_k."),
    absent=("grouping_k.",),  # SlotCon
).family()
