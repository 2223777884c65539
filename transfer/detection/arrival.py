"""Load converted weights into a real detector as training does, and say what in it is from the file and what is not.

python -m transfer verify FILE.pkl --detector PROTOCOL
"""

from __future__ import annotations

import collections
import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from transfer.checkpoints import converted, key_map
from transfer.detection.checks import detector_names, require_arrival
from transfer.detection.config import detector_cfg


def arrival(arrays: Mapping[str, np.ndarray], stride_in_1x1: bool, protocol: str, path: Path) -> list[str]:
    """Two lines: how many backbone tensors of the detector equal those of ``path``, and which parameters are not of it.

    The detector is built from ``protocol`` (a name of ours or a file) and loaded by detectron2's DetectionCheckpointer.
    RunError if a backbone tensor did not arrive bit for bit, InputError for a protocol that does not fit.
    """
    architecture = key_map.nearest(arrays)
    cfg = detector_cfg(protocol, architecture, stride_in_1x1)
    model = build_model(cfg)
    with tempfile.TemporaryDirectory() as folder, _without_log():
        copy = Path(folder) / "weights.pkl"  # detectron2 would run what is in the file; in the copy are arrays alone
        copy.write_bytes(converted.pickled(dict(arrays)))
        DetectionCheckpointer(model).load(str(copy))
    count = require_arrival(model, arrays, path)
    here = set(detector_names(model, architecture).values())
    own = [name for name, _ in model.named_parameters() if name not in here]
    return [
        f"proved: all {count} backbone tensors of {cfg.TRANSFER.PROTOCOL}'s detector equal the file bit for bit after "
        "DetectionCheckpointer has loaded it",
        f"not from the file, trained from scratch: {len(own)} parameters: {_grouped(own)}",
    ]


def _grouped(parameters: list[str]) -> str:
    """Names without their last part but one, with how many of each."""
    modules = (".".join(name.split(".")[:2]) if "res5" not in name else "roi_heads.res5.norm" for name in parameters)
    return ", ".join(f"{module}.* ({count})" for module, count in collections.Counter(modules).items())


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """The checkpointer warns of each missing parameter; the second line of ``arrival`` says it shorter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
