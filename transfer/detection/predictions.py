"""Keep a detector's predictions on its first test images, for `python -m benchmarks show`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as rle

from pretrain.common.files import write_json

IMAGES = 500
SCORE = 0.05  # lower-scored predictions are noise in a picture; the metrics use all


class KeepPredictions(DatasetEvaluator):
    """Writes ``path``: a list of {file_name, image_id, instances: [{class, score, box, mask}]}.

    ``class``: contiguous number; ``box``: left, top, right, bottom in pixels of the image; ``mask``: COCO RLE or null.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reset()

    def reset(self) -> None:
        """Discard the predictions kept so far."""
        self.kept: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Keep one batch of the detector's outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            if len(self.kept) >= IMAGES:
                return
            found = output["instances"].to("cpu")
            found = found[found.scores >= SCORE]
            masks = (
                [_encoded(mask) for mask in found.pred_masks.numpy()]
                if found.has("pred_masks")
                else [None] * len(found)
            )
            rows = zip(
                found.pred_classes.tolist(), found.scores.tolist(), found.pred_boxes.tensor.tolist(), masks, strict=True
            )
            instances = [{"class": c, "score": s, "box": box, "mask": mask} for c, s, box, mask in rows]
            self.kept.append({"file_name": image["file_name"], "image_id": image["image_id"], "instances": instances})

    def evaluate(self) -> dict[str, Any]:
        """Write the file in the first process; adds no metric."""
        kept = list(itertools.chain.from_iterable(comm.gather(self.kept)))
        if comm.is_main_process():
            write_json(self.path, kept)
        return {}


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}
