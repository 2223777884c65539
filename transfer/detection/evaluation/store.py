"""A detector's detections on its test images: each process writes its own as they come, in the folder ``detections``.

They are all that the evaluator saw, so that other metrics need no further run: ``load_detections(folder)``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as rle

from pretrain.common.errors import InputError, RunError
from pretrain.common.files import require_arrays, write_arrays

FOLDER = "detections"  # RANK-NUMBER.npz, in the order of the test set
PART = 2**15  # detections held in memory before they are written


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """N detections on I images, in the order of the test set and, within an image, of the detector's output.

    ``ids`` (I,) as the data set's, ints or strings; ``sizes`` I×2, height and width; ``image`` (N,) places in ``ids``;
    ``category`` (N,) contiguous class numbers; ``score`` (N,) and ``box`` N×4 (left, top, right, bottom in pixels),
    float32 as the detector gave them; ``masks``: the (N,) compressed counts of COCO's RLE, and ``mask_area`` (N,) in
    pixels, or None; ``keypoints``: N×K×3 (x, y, score), or None.
    """

    ids: np.ndarray
    sizes: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    box: np.ndarray
    masks: list[bytes] | None = None
    mask_area: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.score)

    def rles(self) -> list[dict[str, Any]]:
        """COCO's RLE of every mask, its counts as bytes."""
        assert self.masks is not None
        sizes, images = self.sizes.tolist(), self.image.tolist()
        return [{"size": sizes[image], "counts": counts} for image, counts in zip(images, self.masks, strict=True)]

    def rows(self, some: np.ndarray) -> Detections:
        """The detections whose numbers ``some`` has, with all images."""
        per_row = ("image", "category", "score", "box", "mask_area", "keypoints")
        arrays = {name: value[some] for name in per_row if (value := getattr(self, name)) is not None}
        masks = None if self.masks is None else [self.masks[one] for one in some.tolist()]
        return dataclasses.replace(self, masks=masks, **arrays)

    def checked(self) -> Detections:
        """Itself. ValueError where the arrays do not fit one another."""
        n, images = len(self), len(self.ids)
        shapes: dict[str, tuple[int, ...]] = {"ids": (images,), "sizes": (images, 2), "box": (n, 4)}
        shapes |= {
            name: (n,) for name in ("image", "category", "score", "mask_area") if getattr(self, name) is not None
        }
        if self.keypoints is not None:
            shapes["keypoints"] = (n, *self.keypoints.shape[1:2], 3)
        require_arrays(self, shapes, {"image": images})
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f"{len(self.masks)} masks for {n} detections")
        return self

    def save(self, path: Path) -> None:
        """Write ``path``, whole or not at all."""
        arrays = {name: value for name, value in self.__dict__.items() if name != "masks" and value is not None}
        if self.masks is not None:
            arrays["mask_bytes"] = np.frombuffer(b"".join(self.masks), dtype=np.uint8)
            arrays["mask_lengths"] = np.array([len(one) for one in self.masks], dtype=np.int32)
        write_arrays(path, arrays)


def load_detections(folder: Path) -> Detections:
    """The detections of a run, whose files are in ``folder``. InputError where they are absent or cannot be read."""
    paths = sorted((folder / FOLDER).glob("*.npz"))
    if not paths:
        raise InputError(f"{folder} has no {FOLDER}: the run did not finish, or is of an earlier version")
    return joined([_load(path) for path in paths])


def _load(path: Path) -> Detections:
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        masks = None
        if "mask_bytes" in arrays:
            data, ends = arrays.pop("mask_bytes").tobytes(), np.cumsum(arrays.pop("mask_lengths")).tolist()
            masks = [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
        return Detections(masks=masks, **arrays).checked()
    except Exception as error:  # NumPy raises whatever a broken file makes it stumble over
        raise InputError(f"{path} cannot be read ({error}): run it again with --rerun always") from None


class Recorder:
    """Keeps the detections of this process in ``folder``/detections, all of them also in memory if it is the only one.

    Of several processes each holds some PART in memory. Without a folder they hold all.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written, self.held = 0, 0
        self.batch: list[Detections] = []
        self.all: list[Detections] = []  # a million masks take 0.2 GB, and their files a second to read

    def reset(self) -> None:
        """Discard everything recorded, and the matches of it, also by an attempt that was killed."""
        self.written, self.held, self.batch, self.all = 0, 0, [], []
        comm.synchronize()
        if self.folder and comm.is_main_process():
            shutil.rmtree(self.folder / FOLDER, ignore_errors=True)
            for path in self.folder.glob("matches-*.npz"):
                path.unlink()
        comm.synchronize()

    def add(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Record one batch of the detector's outputs. RunError for a score or box that is not finite."""
        for image, output in zip(inputs, outputs, strict=True):
            self.keep(_of_image(image["image_id"], output["instances"].to("cpu")))

    def keep(self, more: Detections) -> None:
        """Record detections on images that follow those recorded before."""
        self.batch.append(more)
        self.held += len(more)
        if self.held >= PART:
            self._write()

    def join(self) -> Detections | None:
        """All processes' detections in the first process, None in the others."""
        if self.folder is None:
            gathered = comm.gather(joined(self.batch))
            return joined(gathered) if comm.is_main_process() else None
        self._write()
        comm.synchronize()
        if comm.get_world_size() == 1:
            return joined(self.all)
        return load_detections(self.folder) if comm.is_main_process() else None

    def _write(self) -> None:
        if self.folder and (self.batch or not self.written):
            # Processes have consecutive shares of the test set: by rank and number, the files are in its order.
            path = self.folder / FOLDER / f"{comm.get_rank():04d}-{self.written:06d}.npz"
            part = joined(self.batch)
            part.save(path)
            if comm.get_world_size() == 1:
                self.all.append(part)
            self.written, self.held, self.batch = self.written + 1, 0, []


class Recording(DatasetEvaluator):
    """An evaluator that records a detector's outputs, and with a ``folder`` keeps them there."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.recorder = folder, Recorder(folder)

    def reset(self) -> None:
        """Discard the detections so far."""
        self.recorder.reset()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Record one batch of the detector's outputs."""
        self.recorder.add(inputs, outputs)


def joined(parts: Sequence[Detections]) -> Detections:
    """The detections of all parts, one after the other."""
    parts = [part for part in parts if len(part.ids)]
    if not parts:
        none = np.zeros(0, np.float32)
        whole = none.astype(np.int32)
        return Detections(
            ids=whole, sizes=whole.reshape(0, 2), image=whole, category=whole, score=none, box=none.reshape(0, 4)
        )
    starts = np.cumsum([0, *(len(part.ids) for part in parts[:-1])])
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "sizes", "category", "score", "box")
    }
    image = np.concatenate([part.image + start for part, start in zip(parts, starts, strict=True)]).astype(np.int32)
    masks = None if parts[0].masks is None else [one for part in parts for one in part.masks or ()]
    areas = None if parts[0].mask_area is None else np.concatenate([part.mask_area for part in parts])
    keypoints = None if parts[0].keypoints is None else np.concatenate([part.keypoints for part in parts])
    return Detections(image=image, masks=masks, mask_area=areas, keypoints=keypoints, **arrays)


def _of_image(image_id: int | str, found: Any) -> Detections:
    score, box = found.scores.float().numpy(), found.pred_boxes.tensor.float().numpy()
    if not (np.isfinite(score).all() and np.isfinite(box).all()):
        raise RunError(f"image {image_id}: the detector gives scores or boxes that are not finite")
    masks = None
    if found.has("pred_masks"):
        # One at a time: N masks of an image at once are N × height × width bytes more.
        masks = [rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in found.pred_masks]
    return Detections(
        ids=np.array([image_id]),
        sizes=np.array([found.image_size], dtype=np.int32),
        image=np.zeros(len(found), np.int32),
        category=found.pred_classes.numpy().astype(np.int32),
        score=score,
        box=box,
        masks=None if masks is None else [one["counts"] for one in masks],
        mask_area=None if masks is None else np.array([rle.area(one) for one in masks], np.uint32),
        keypoints=found.pred_keypoints.float().numpy() if found.has("pred_keypoints") else None,
    )
