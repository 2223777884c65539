"""Frozen features of a checkpoint on an ImageFolder split, extracted once and memory-mapped for every task after.

``results/features/<checkpoint 12 hex>-<its input 6 hex>-<data 12 hex>-<resize>-<crop>-fp32/{train,val}.npy``
(N×512 or 2048, float32: a randomly initialised ResNet exceeds float16's range) with ``{train,val}.labels.npy``. They
are computed in fp32 everywhere, on a GPU without TF32, so that a cell does not depend on what a processor is fast at.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from benchmarks.data.root import DataRoot
from pretrain.common.device import best_device
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import digest, replacing, results_dir
from pretrain.data import IMAGE_SUFFIXES, decode
from pretrain.runtime.resume import locked
from transfer.checkpoints import architecture, key_map
from transfer.checkpoints.backbone import Backbone, backbone_of, weights_digest
from transfer.checkpoints.reading.read import CheckpointFile
from transfer.checkpoints.two_encoders import PREFIX, build_two_encoders, read_two_encoders


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Evaluation crop: shorter side to ``resize`` px, then the central ``crop`` px square."""

    resize: int
    crop: int


PRECISION = "fp32"
COPIED_ROWS = 8192
VIEWS = {"smoke": View(resize=48, crop=48), "demo": View(resize=64, crop=64), "paper": View(resize=256, crop=224)}


@dataclasses.dataclass(frozen=True)
class Features:
    """``x`` N×D float32, ``y`` (N,) int64, ``classes`` how many."""

    x: np.ndarray
    y: np.ndarray
    classes: int

    def tensor(self, rows: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
        """``x[rows]`` on ``device``, of which the host never holds more than a chunk: ImageNet's are 10.5 GB."""
        found = torch.empty(len(rows), self.x.shape[1], dtype=dtype, device=device)
        for begun in range(0, len(rows), COPIED_ROWS):
            some = rows[begun : begun + COPIED_ROWS]
            found[begun : begun + len(some)] = torch.from_numpy(self.x[some])
        return found


def read_frozen(file: CheckpointFile) -> Backbone:
    """What features can be taken from: any checkpoint that can be converted, and CMC's two encoders."""
    return read_two_encoders(file) or backbone_of(file)


def build_backbone(backbone: Backbone) -> nn.Module:
    """The frozen network in eval mode, N×3×H×W → N×D. RunError unless every tensor in it is the checkpoint's."""
    if backbone.architecture.startswith(PREFIX):
        model = build_two_encoders(backbone.architecture, backbone.meta or {})
        zeros: dict[str, Tensor] = {}  # our own files have the counters
    else:
        model = architecture.build(backbone.architecture, stride_in_1x1=backbone.input.stride_in_1x1)
        zeros = {name: torch.zeros((), dtype=torch.int64) for name in key_map.counters(backbone.architecture)}
    missing, unexpected = model.load_state_dict(zeros | dict(backbone.state), strict=False, assign=True)
    if unexpected or missing:
        raise RunError(f"the backbone did not load: missing {missing[:3]}, unexpected {unexpected[:3]}")
    state = {name: tensor for name, tensor in model.state_dict().items() if name in backbone.state}
    if weights_digest(state) != backbone.sha256:
        raise RunError("the backbone in memory is not the checkpoint's: its tensors' sha256 differs")
    return model.eval().requires_grad_(False)


def eval_transform(view: View, backbone: Backbone) -> v2.Compose:
    """From an RGB image to what the network was trained on: 3×crop×crop, its channel order, its mean and std."""
    return v2.Compose(
        [
            v2.Resize(view.resize, antialias=True),
            v2.CenterCrop(view.crop),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            *([v2.Lambda(_swap_red_and_blue)] if backbone.input.order == "BGR" else []),
            v2.Normalize(backbone.input.mean, backbone.input.std),
        ]
    )


def _swap_red_and_blue(image: Tensor) -> Tensor:
    return image.flip(0)


def _loader(root: DataRoot, split: str, view: View, backbone: Backbone, workers: int) -> DataLoader[tuple[Tensor, int]]:
    transform = eval_transform(view, backbone)
    folder = root.path / "imagenet" / split
    # torchvision's ImageFolder has a shorter list of suffixes, and would pass over images that were prepared.
    dataset = torchvision.datasets.DatasetFolder(
        str(folder), lambda path: decode(Path(path)), tuple(IMAGE_SUFFIXES), transform
    )
    expected = root.section("imagenet")["classes"]
    count = root.section("imagenet")["counts"][split]
    if dataset.classes != expected or len(dataset) != count:
        raise InputError(f"{folder} is not what was prepared ({len(dataset)} images, not {count}): prepare it again")
    return DataLoader(dataset, batch_size=64, num_workers=workers)


@torch.inference_mode()
def _extract(model: nn.Module, loader: DataLoader[tuple[Tensor, int]], target: Path) -> None:
    device = best_device()
    model = model.to(device).to(memory_format=torch.channels_last)
    count = len(loader.dataset)  # type: ignore[arg-type]
    x: np.memmap | None = None
    labels: list[Tensor] = []
    begun = 0
    with replacing(target) as partial:
        for images, y in tqdm(loader, desc=f"features {target.stem}", mininterval=5):
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
                rows = model(images.to(device, memory_format=torch.channels_last)).float().cpu().numpy()
            if x is None:
                x = np.lib.format.open_memmap(partial, "w+", np.float32, (count, rows.shape[1]))
                _reserve(partial)
            x[begun : begun + len(rows)] = rows
            begun += len(rows)
            labels.append(y)
        assert x is not None
        if not np.isfinite(x).all():
            raise RunError("features are not finite: the checkpoint's weights or statistics are broken")
        x.flush()
        np.save(target.with_name(f"{target.stem}.labels.npy"), torch.cat(labels).numpy())


def _reserve(path: Path) -> None:
    """Take the room of a file with holes; OSError on a full disk, where writing to mapped memory would kill."""
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # others: the file system cannot
                raise OSError(error.errno, error.strerror, str(path)) from None


def features(backbone: Backbone, root: DataRoot, profile: str, workers: int = 0) -> dict[str, Features]:
    """Features of both splits, ``{"train": …, "val": …}``; computed when absent. Safe to call from two processes."""
    view, data = VIEWS[profile], root.section("imagenet")
    input_digest = digest(dataclasses.asdict(backbone.input))[:6]
    key = f"{backbone.sha256[:12]}-{input_digest}-{data['fingerprint'][:12]}-{view.resize}-{view.crop}-{PRECISION}"
    folder = results_dir() / "features" / key
    found = {}
    with locked(folder):
        for split in ("train", "val"):
            target = folder / f"{split}.npy"
            if not target.exists():
                _extract(build_backbone(backbone), _loader(root, split, view, backbone, workers), target)
            y = np.load(folder / f"{split}.labels.npy")
            found[split] = Features(np.load(target, mmap_mode="r"), y, len(data["classes"]))
    return found
