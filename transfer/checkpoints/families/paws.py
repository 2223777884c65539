"""PAWS and SuNCEt: the encoder with both heads in it; ``pred`` only if trained with a prediction head."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="paws",
    title="PAWS, SuNCEt",
    known_from=f"facebookresearch/suncet:src/paws_train.py, src/suncet_train.py, src/resnet.py; {PUBLISHED_CODE}",
    inside=(("encoder",),),
    networks={"encoder": ""},
    drop={"fc.": HEAD, "pred.": HEAD},
    marks=("fc.fc1.",),
).family()
