"""MoCo v1 and v2 (and PCL, which shares their layout), MoCo v3, and SimSiam, whose code grew out of MoCo's."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE, QUEUE
from transfer.checkpoints.families.layout import Layout

MOCO = Layout(
    name="moco",
    title="MoCo v1 and v2, PCL",
    known_from=f"facebookresearch/moco:main_moco.py, moco/builder.py; {PUBLISHED_CODE}",
    inside=(("state_dict",), ()),
    networks={"query": "encoder_q.", "key": "encoder_k."},
    drop={"encoder_q.fc.": HEAD, "encoder_k.fc.": HEAD, "queue": QUEUE},
    marks=("encoder_q.",),
    absent=("encoder_t.",),  # MSF
).family()

MOCO_V3 = Layout(
    name="moco-v3",
    title="MoCo v3, its ResNets",
    known_from=f"facebookresearch/moco-v3:moco/builder.py, main_moco.py; {PUBLISHED_CODE}",
    inside=(("state_dict",), ()),
    networks={"base": "base_encoder.", "momentum": "momentum_encoder."},
    drop={"base_encoder.fc.": HEAD, "momentum_encoder.fc.": HEAD, "predictor.": HEAD},
    marks=("base_encoder.",),
).family()

SIMSIAM = Layout(
    name="simsiam",
    title="SimSiam",
    known_from=f"facebookresearch/simsiam:simsiam/builder.py, main_simsiam.py; {PUBLISHED_CODE}",
    inside=(("state_dict",), ()),
    networks={"encoder": "encoder."},
    drop={"encoder.fc.": HEAD, "predictor.": HEAD},
    marks=("predictor.", "encoder.fc."),
).family()
