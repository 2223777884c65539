"""solo-learn: a checkpoint of pytorch_lightning with the network under ``backbone.`` (``encoder.`` in old releases).

The trained network is taken, as solo-learn's own linear evaluation and detection do.
"""

from __future__ import annotations

import dataclasses

from transfer.checkpoints.families.base import CLASSIFIER, HEAD, OUTSIDE, PUBLISHED_CODE, QUEUE
from transfer.checkpoints.families.layout import Layout, first_match

_NEW = Layout(
    name="solo-learn",
    title="solo-learn",
    known_from=(
        "vturrisi/solo-learn:solo/methods/base.py, downstream/object_detection/convert_model_to_detectron2.py; "
        f"{PUBLISHED_CODE}"
    ),
    inside=(("state_dict",),),
    networks={"online": "backbone.", "momentum": "momentum_backbone."},
    drop={"": OUTSIDE, "classifier.": CLASSIFIER, "projector.": HEAD, "predictor.": HEAD, "queue": QUEUE},
    marks=("classifier.",),
)
_OLD = dataclasses.replace(
    _NEW, networks={"online": "encoder.", "momentum": "momentum_encoder."}, absent=("backbone.",)
)

FAMILY = first_match(_NEW, _OLD)
