"""Pictures of the views that a learned generator makes (InfoMin, arXiv 2005.10243, section 4), beside fixed splits.

    python -m benchmarks.claims.learned_views RUN [RUN …] --data FOLDER [-o views.png]

RUN is the folder of a finished run of ``python -m pretrain demo-view-generator``, FOLDER one of images. Every split
maps a pixel to three channels: the first, in grey, is view 1, the others, in orange and blue, are view 2; each
channel is stretched from its 1st to its 99th percentile over the images shown. The table says of each generator how far
its inverse is off and the determinants of its Jacobian, and of each split how much of view 1 a linear map of
view 2 explains, pixel by pixel: the part that views share without looking at any neighbour.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.data.pictures import heading, rows, save, spread, stack
from pretrain.common.errors import InputError, printable, run_cli
from pretrain.common.files import results_dir
from pretrain.common.ranges import Range, require_ranges
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from pretrain.data import decode, list_images
from pretrain.methods.cmc_encoders import converted
from pretrain.methods.colour_flow import ColourFlow
from pretrain.methods.split_views import load_flow

SIDE, GAP = 128, 4  # pixels, of an image shown and between two
PIXELS = 1000  # at which the Jacobian is taken


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draw the views of generators and of the fixed splits."""

    run: tyro.conf.Positional[tuple[str, ...]]
    """Finished runs of view-generator: their folders, or their backbone.safetensors."""
    data: Path
    """Folder of images, with class folders or flat."""
    count: Annotated[int, Range(1, 20, "1 to 20")] = 10
    """Images shown, spread over the folder."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PNG")] = None
    """Default results/claims/learned-views.png."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """``channels`` (N, 3, H, W) of the images: view 1 is the first. ``flow`` of a learned one."""

    name: str
    channels: Tensor
    flow: ColourFlow | None = None


def images_of(folder: Path, count: int) -> list[Image.Image]:
    """``count`` images, spread over the folder, fitted to squares. InputError as for ``pretrain``."""
    images = list_images(folder)
    return [ImageOps.fit(decode(folder / path), (SIDE, SIDE)) for path in spread(images.paths, count)]


def splits_of(pictures: list[Image.Image], runs: tuple[str, ...]) -> list[Split]:
    """The fixed splits, then the generators'. InputError for a run without one."""
    rgb = torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2) / 255
    x = (rgb - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    fixed = {"R | GB": x, "Y | DbDr": converted(x, "ydbdr"), "L | ab": converted(x, "lab")}
    learned = []
    for run in runs:
        flow = ColourFlow()
        flow.load_state_dict(load_flow(run, "RUN"))
        with torch.inference_mode():
            learned.append(Split(name=_name(run), channels=flow(x), flow=flow))
    return [*(Split(name=name, channels=channels) for name, channels in fixed.items()), *learned]


def _name(run: str) -> str:
    """The folder's, and the share of labels that its generator saw."""
    path = Path(run).expanduser().resolve()
    folder = path if path.is_dir() else path.parent
    try:
        method = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["config"]["raw"]["method"]
        labels = f" ({100 * method['labels']:g} % labels)" if "labels" in method else ""
    except (OSError, ValueError, KeyError, TypeError):
        labels = ""
    return f"learned: {folder.name}{labels}"


def inverse_error(flow: ColourFlow, y: Tensor) -> float:
    """Largest difference of a channel between ``y`` and what ``flow`` makes of its inverse, in float32."""
    with torch.inference_mode():
        return float((flow(flow.inverse(y)) - y).abs().max())


def determinants(flow: ColourFlow, pixels: Tensor) -> Tensor:
    """(N,) of the Jacobian at each of the ``pixels`` (N, 3)."""

    def mapped(pixel: Tensor) -> Tensor:
        found: Tensor = flow(pixel.view(1, 3, 1, 1))
        return found.flatten()

    jacobians: Tensor = torch.func.vmap(torch.func.jacrev(mapped))(pixels)
    return torch.linalg.det(jacobians).detach()


def explained(channels: Tensor) -> float:
    """R² of the best linear map of view 2's pixels to view 1's, in [0, 1]; 0 where view 1 is constant."""
    flat = channels.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    first, rest = flat[:, 0] - flat[:, 0].mean(), flat[:, 1:] - flat[:, 1:].mean(0)
    total = float(first @ first)
    left = first - rest @ np.linalg.lstsq(rest, first, rcond=None)[0]
    return 1 - float(left @ left) / total if total else 0.0


def facts(split: Split) -> dict[str, str]:
    """A line of the table."""
    found = {"view 1 from view 2, R²": f"{explained(split.channels):.2f}", "inverse off by": "", "determinant": ""}
    if split.flow is not None:
        pixels = split.channels.permute(0, 2, 3, 1).reshape(-1, 3)
        chosen = pixels[:: max(1, len(pixels) // PIXELS)].double()
        found["inverse off by"] = f"{inverse_error(split.flow, split.channels):.1e}"
        low, high = (float(one) for one in determinants(copy.deepcopy(split.flow).double(), chosen).aminmax())
        found["determinant"] = f"{low:.6f} to {high:.6f}"
    return found


def shown(channels: Tensor) -> tuple[list[Image.Image], list[Image.Image]]:
    """Pictures of view 1 and of view 2 for each image."""
    values = channels.permute(0, 2, 3, 1).numpy()
    low, high = np.percentile(values, (1, 99), axis=(0, 1, 2))
    levels = ((values - low) / np.maximum(high - low, 1e-6)).clip(0, 1)
    one, two, three = np.moveaxis(levels, 3, 0)
    colours = (np.stack([one] * 3, 3), np.stack([two, (two + three) / 2, three], 3))
    first, second = ([Image.fromarray((255 * view).round().astype(np.uint8)) for view in some] for some in colours)
    return first, second


def draw(pictures: list[Image.Image], splits: list[Split], table: list[dict[str, str]]) -> Image.Image:
    """The images, and of each split a line of first views and one of second views below its facts."""
    width = max(900, len(pictures) * (SIDE + GAP) - GAP)
    bands = [heading("images", 17, width), *rows(pictures, len(pictures), GAP)]
    for split, line in zip(splits, table, strict=True):
        about = ", ".join(f"{name} {value}" for name, value in line.items() if value)
        bands.append(heading(f"{split.name}: {about}", 17, width))
        bands += [band for view in shown(split.channels) for band in rows(view, len(pictures), GAP)]
    return stack(bands)


def main(argv: list[str]) -> int:
    """Draw the picture; the table on stderr, the path on stdout."""
    arguments = tyro.cli(Arguments, prog="python -m benchmarks.claims.learned_views", description=__doc__, args=argv)
    require_ranges(arguments)
    if not arguments.run:
        raise InputError("no RUN: give the folder of a finished `python -m pretrain demo-view-generator --data FOLDER`")
    pictures = images_of(arguments.data, arguments.count)
    splits = splits_of(pictures, tuple(dict.fromkeys(arguments.run)))
    table = [facts(split) for split in splits]
    print(f"| split | {' | '.join(table[0])} |\n|---|{'---|' * len(table[0])}", file=sys.stderr)
    for split, line in zip(splits, table, strict=True):
        print(printable(f"| {split.name.replace('|', '/')} | {' | '.join(line.values())} |"), file=sys.stderr)
    output = arguments.output or results_dir() / "claims" / "learned-views.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    save(draw(pictures, splits, table), output)
    print(output)
    return 0


if __name__ == "__main__":
    run_cli(main)
