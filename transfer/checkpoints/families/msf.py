"""Mean shift (MSF): the query encoder, and the target encoder beside it."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE, QUEUE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="msf",
    title="MSF (mean shift)",
    known_from=f"UMBCvision/MSF:train_msf.py, eval_linear.py; {PUBLISHED_CODE}",
    inside=(("state_dict",), ("model",)),
    networks={"query": "encoder_q.", "target": "encoder_t."},
    drop={"encoder_q.fc.": HEAD, "encoder_t.fc.": HEAD, "predict_q.": HEAD, "queue": QUEUE, "labels": QUEUE},
    marks=("encoder_t.",),
).family()
