"""PyContrast: InsDis, PIRL, MoCo, InfoMin and their relatives, which train one ResNet on RGB images.

Its CMC files are recognised and refused: its two networks of half the width see one and two channels of another
colour space, which no ResNet of detectron2 computes.
"""

from __future__ import annotations

import dataclasses

from pretrain.common.errors import InputError
from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE, RawBackbone, find, unwrap
from transfer.checkpoints.families.layout import Layout
from transfer.checkpoints.reading.read import CheckpointFile

_LAYOUT = Layout(
    name="pycontrast",
    title="PyContrast (InsDis, PIRL, MoCo, InfoMin)",
    known_from=(
        "HobbitLong/PyContrast:pycontrast/learning/contrast_trainer.py, pycontrast/networks/build_backbone.py; "
        f"{PUBLISHED_CODE}"
    ),
    networks={"query": "model/encoder.", "ema": "model_ema/encoder."},
    drop={f"{model}/{head}": HEAD for model in ("model", "model_ema") for head in ("head", "linear.", "jigsaw.")},
    absent=("model/encoder_k.", "model/projector.", "model/predictor."),
)


def recognise(file: CheckpointFile) -> str | None:
    """The layout above, or CMC's two encoders."""
    return "keys encoder1.* and encoder2.*, as CMC has them" if _is_cmc(file) else _LAYOUT.recognise(file)


def extract(file: CheckpointFile, network: str | None) -> RawBackbone:
    """The query encoder, or the averaged one (ema). InputError for CMC."""
    if _is_cmc(file):
        raise InputError(
            f"{file.path}: PyContrast's CMC has two ResNets of half the width (encoder1, encoder2) on one and two "
            "channels of another colour space; that cannot become a backbone of detectron2"
        )
    return _LAYOUT.extract(file, network)


def _is_cmc(file: CheckpointFile) -> bool:
    state, _ = unwrap(find(file.content, ("model",)) or {})
    return all(any(key.startswith(prefix) for key in state) for prefix in ("encoder1.", "encoder2."))


FAMILY = dataclasses.replace(_LAYOUT.family(), recognise=recognise, extract=extract)
