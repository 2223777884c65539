"""Frozen features of a checkpoint on image files, extracted once and then memory-mapped by every task.

``results/features/<checkpoint 12 hex>-<its input 6 hex>-<data 12 hex>-<view>-fp32/<part>.npy`` (N×512 or 2048,
float32: a randomly initialised ResNet exceeds float16's range). They are computed in fp32 everywhere, on a GPU without
TF32, so that a cell does not depend on which fast types the processor has.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from benchmarks.data.root import DataRoot
from benchmarks.profiles import PROFILES
from pretrain.common.device import best_device
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import digest, locked, replacing, results_dir
from pretrain.common.pixels import PixelInput
from pretrain.common.signals import leave_signals_to_parent
from pretrain.data import IMAGE_SUFFIXES, decode
from transfer.checkpoints import architecture, key_map
from transfer.checkpoints.backbone import Backbone, weights_digest
from transfer.checkpoints.two_encoders import PREFIX, build_two_encoders

PRECISION = "fp32"
BATCH = 64
AHEAD = 4  # batches that each loader process prepares
COPIED_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureView:
    """The input of the network and the layer that is read.

    The shorter side to ``resize`` px, or with ``squash`` both sides; then the central ``crop`` px square, or with
    ``squash_to_crop`` both sides to ``crop`` px by a second resize (as VISSL's VOC07 SVM). ``layer``: avgpool (N×D),
    or res5-2x2, the last stage's map averaged over windows of all but one row and column, flattened as D×2×2
    (VISSL's AvgPool2d(6, stride 1) at 224 px).
    """

    resize: int
    crop: int
    squash: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    layer: Literal["avgpool", "res5-2x2"] = "avgpool"
    squash_to_crop: bool = False

    @property
    def key(self) -> str:
        """Its part of a folder's name: ``256-224``, and what differs from the defaults."""
        other = [name for name in (self.interpolation, self.layer) if name not in ("bilinear", "avgpool")]
        squash = [*["squash"] * self.squash, *["squashed"] * self.squash_to_crop]
        return "-".join([str(self.resize), str(self.crop), *squash, *other])


@dataclasses.dataclass(frozen=True)
class Features:
    """``x`` N×D float32, ``y`` (N,) int64, ``classes`` how many."""

    x: np.ndarray
    y: np.ndarray
    classes: int

    def tensor(self, rows: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
        """``x[rows]`` on ``device``; the host holds one chunk at a time: ImageNet's are 10.5 GB."""
        found = torch.empty(len(rows), self.x.shape[1], dtype=dtype, device=device)
        for begun in range(0, len(rows), COPIED_ROWS):
            some = rows[begun : begun + COPIED_ROWS]
            found[begun : begun + len(some)] = torch.from_numpy(self.x[some])
        return found


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


def eval_transform(view: FeatureView, backbone: Backbone) -> v2.Compose:
    """From an RGB image to the network's input: 3×crop×crop, its channel order, its mean and std."""
    return v2.Compose([cropped(view), network_input(backbone.input)])


def cropped(view: FeatureView) -> v2.Compose:
    """From an RGB image to 3×crop×crop uint8."""
    size = [view.resize, view.resize] if view.squash else view.resize
    way = v2.InterpolationMode(view.interpolation)
    square = [view.crop, view.crop]
    return v2.Compose(
        [
            v2.Resize(size, way, antialias=True),
            v2.Resize(square, way, antialias=True) if view.squash_to_crop else v2.CenterCrop(view.crop),
            v2.PILToTensor(),
        ]
    )


def network_input(pixels: PixelInput) -> v2.Compose:
    """From …×3×H×W uint8 RGB to the network's input, float32: elementwise, so that one image or a batch is the same."""
    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            *([v2.Lambda(_swap_red_and_blue)] if pixels.order == "BGR" else []),
            v2.Normalize(pixels.mean, pixels.std),
        ]
    )


def _swap_red_and_blue(images: Tensor) -> Tensor:
    return images.flip(-3)


class Images(Dataset[Tensor]):
    """The image files at ``paths``, passed through ``transform``."""

    def __init__(self, paths: Sequence[Path], transform: v2.Compose) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """3×crop×crop."""
        return self.transform(decode(self.paths[index]))


def extract(model: nn.Module, batches: Iterable[Tensor], count: int, target: Path) -> None:
    """Write the features (count×D float32) of ``batches`` (N×3×H×W, as the network wants them) to ``target``, a .npy.

    In fp32, on a GPU without TF32. RunError where they are not finite. On a GPU the next batch is computed while one
    is copied to the host and written.
    """
    device = best_device()
    model = model.to(device).to(memory_format=torch.channels_last)
    x: np.memmap | None = None
    begun = 0
    with replacing(target) as partial, tqdm(total=count, desc=f"features {target.stem}", mininterval=5) as bar:
        for rows in _forward(model, batches, device):
            if x is None:
                x = np.lib.format.open_memmap(partial, "w+", np.float32, (count, rows.shape[1]))
                _reserve(partial)
            if not np.isfinite(rows).all():
                raise RunError("features are not finite: the checkpoint's weights or statistics are broken")
            x[begun : begun + len(rows)] = rows
            begun += len(rows)
            bar.update(len(rows))
        assert x is not None and begun == count
        x.flush()


@torch.inference_mode()
def _forward(model: nn.Module, batches: Iterable[Tensor], device: torch.device) -> Iterator[np.ndarray]:
    """Features of each batch, float32 on the host; on a GPU one batch behind, so that it never waits for the host."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for images in batches:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            rows = model(images.to(device, memory_format=torch.channels_last, non_blocking=True)).float()
        if device.type != "cuda":
            yield rows.numpy()
            continue
        arriving = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        if waiting:
            yield _arrived(*waiting)
        waiting = arriving, arrived
    if waiting:
        yield _arrived(*waiting)


def _arrived(rows: Tensor, event: torch.cuda.Event) -> np.ndarray:
    event.synchronize()
    return rows.numpy()


def _reserve(path: Path) -> None:
    """Allocate a sparse file; OSError on a full disk, where a write to mapped memory would kill the process."""
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # others: the file system cannot
                raise OSError(error.errno, error.strerror, str(path)) from None


def features_of(
    backbone: Backbone,
    images: Sequence[Path],
    data: str,
    part: str,
    profile: str,
    workers: int = 0,
    view: FeatureView | None = None,
) -> np.ndarray:
    """Features (N×D float32, memory-mapped) of image files, in their order; computed if absent.

    ``data`` is the fingerprint of their data set, ``part`` their part of it, ``view`` by default that of the profile.
    Two processes may ask for the same features at once.
    """
    view = view or profile_view(profile)
    target = features_file(backbone.sha256, backbone.input, data, part, view)
    with locked(target.parent):
        if not target.exists():
            model = FromBytes(_reading(build_backbone(backbone), view), backbone.input)
            extract(model, byte_batches(images, view, workers), len(images), target)
    return mapped(target)


def mapped(path: Path) -> np.ndarray:
    """The features in a .npy file, memory-mapped. InputError for a file that is not whole, as a broken copy's."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it, and the same command computes it again") from None
    return found


class FromBytes(nn.Module):
    """``network`` on N×3×H×W uint8: loader processes hand over a quarter of the bytes, and the device normalises."""

    def __init__(self, network: nn.Module, pixels: PixelInput) -> None:
        super().__init__()
        self.network, self.network_input = network, network_input(pixels)

    def forward(self, images: Tensor) -> Tensor:
        """N×D."""
        found: Tensor = self.network(self.network_input(images))
        return found


def byte_batches(images: Sequence[Path], view: FeatureView, workers: int, batch: int = BATCH) -> Iterator[Tensor]:
    """Batches of ``batch``×3×crop×crop uint8 in the order of ``images``, read by ``workers`` processes (0: this one).

    InputError names an image that cannot be read. BATCH is the same on every device: on a GPU the last bits of a
    feature may depend on it.
    """
    yield from map(
        _readable,
        DataLoader(
            _OrReason(images, cropped(view)),
            batch_size=batch,
            num_workers=workers,
            worker_init_fn=leave_signals_to_parent,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=AHEAD if workers else None,
            generator=torch.Generator(),  # or its processes' seed would be drawn from the global one
        ),
    )


class _OrReason(Dataset["Tensor | str"]):
    """The images, or why one cannot be read: a loader process would wrap an error in a traceback of its own."""

    def __init__(self, paths: Sequence[Path], transform: v2.Compose) -> None:
        self.images = Images(paths, transform)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | str:
        """3×crop×crop, or a line of text."""
        try:
            return self.images[index]
        except InputError as error:
            return str(error)


def _collate(samples: Sequence[Tensor | str]) -> Tensor | str:
    images = [one for one in samples if isinstance(one, Tensor)]
    return torch.stack(images) if len(images) == len(samples) else next(one for one in samples if isinstance(one, str))


def _readable(batch: Tensor | str) -> Tensor:
    if isinstance(batch, str):
        raise InputError(batch)
    return batch


def features_file(sha256: str, pixels: PixelInput, data: str, part: str, view: FeatureView) -> Path:
    """Where the features of the checkpoint ``sha256`` with this input are kept; see ``features_of`` for the rest."""
    key = f"{sha256[:12]}-{digest(pixels.identity())[:6]}-{data[:12]}-{view.key}-{PRECISION}"
    return results_dir() / "features" / key / f"{part}.npy"


def profile_view(profile: str) -> FeatureView:
    """The evaluation crop of ``profile``."""
    return FeatureView(**dataclasses.asdict(PROFILES[profile].view))


def _reading(model: nn.Module, view: FeatureView) -> nn.Module:
    """``model``, N×3×H×W → the features of the view's layer. InputError where it has no such layer."""
    if view.layer == "avgpool":
        return model
    if not isinstance(model, torchvision.models.ResNet):
        raise InputError(f"features of {view.layer} need a ResNet, not two encoders")
    model.avgpool = cast(nn.AdaptiveAvgPool2d, _AllButOne())
    return model


class _AllButOne(nn.Module):
    """N×D×H×W → N×D×2×2: averages over windows of (H−1)×(W−1)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, (x.shape[2] - 1, x.shape[3] - 1), stride=1)


def features(
    backbone: Backbone, root: DataRoot, profile: str, workers: int = 0, view: FeatureView | None = None
) -> dict[str, Features]:
    """Features of the imagenet layout's splits, ``{"train": …, "val": …}``."""
    section, found = root.section("imagenet"), {}
    for split in ("train", "val"):
        images, labels = labelled_images(root, split)
        x = features_of(backbone, images, section["fingerprint"], split, profile, workers, view)
        found[split] = Features(x, labels, len(section["classes"]))
    return found


def labelled_images(root: DataRoot, split: str) -> tuple[list[Path], np.ndarray]:
    """The images of a split and their classes' numbers (N,). InputError if they are not as prepared."""
    section, folder = root.section("imagenet"), root.folder("imagenet") / split
    # torchvision's ImageFolder has a shorter list of suffixes, and would skip some prepared images.
    try:
        found = torchvision.datasets.DatasetFolder(str(folder), loader=decode, extensions=tuple(IMAGE_SUFFIXES))
    except FileNotFoundError:
        raise InputError(f"{folder} is not what was prepared (a class has no image): prepare it again") from None
    count = section["counts"][split]
    if found.classes != section["classes"] or len(found) != count:
        raise InputError(f"{folder} is not what was prepared ({len(found)} images, not {count}): prepare it again")
    return [Path(path) for path, _ in found.samples], np.array(found.targets)
