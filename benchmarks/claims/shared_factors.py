"""InfoMin's toy with a known truth: which factors two views share, and what their encoder then knows of each.

    python -m benchmarks.claims.shared_factors [--seeds 3] [--steps 600]

Images of 48 pixels have three factors: a drawing (one of ten), its position (continuous) and a ground (one of ten). The
two views of a pair share the factors of a set and have independent others, as in section 3.2 of arXiv 2005.10243 with
its digit, position and background; scale and the ground's crop are independent in all pairs. A small convolutional
network is trained by InfoNCE on such pairs, and linear probes (tasks/compute/factors.py) read each factor from its
features of fresh images. Writes results/claims/shared-factors.{md,csv,png}, and a JSON per network, so that a killed
command continues.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.data.drawing import CLASSES, DRAWINGS, PHOTOGRAPHS, photograph, sprite
from benchmarks.data.factors import Factor
from benchmarks.tasks.compute.factors import probe
from pretrain.common.errors import run_cli
from pretrain.common.files import digest, replacing, results_dir, write_json
from pretrain.common.ranges import Count, at_least, require_ranges
from pretrain.information.objectives import info_nce
from pretrain.methods.heads import l2_normalize, mlp

SIZE, OBJECT = 48, (18, 24)  # pixels: of the image, and of the drawing's longer side
CONTRAST = 25.0  # standard deviation of a ground's grey levels
KINDS = 10  # drawings, and grounds
FACTORS = ("drawing", "position", "ground")
SETS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    **{" + ".join(some): some for count in (1, 2, 3) for some in itertools.combinations(FACTORS, count)},
}
SAME = "the same image"  # a control: the views share every pixel
UNTRAINED = "untrained"
BATCH, FEATURES, DIM, TEMPERATURE, RATE = 128, 256, 64, 0.2, 1e-3
FIT, TEST = 2000, 1000  # fresh images under the probes
VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train an encoder per set of shared factors and seed, and probe it."""

    seeds: Annotated[int, at_least(1)] = 3
    """Networks per set."""
    steps: Annotated[int, Count] = 600
    """Training steps of 128 pairs."""


@functools.cache
def drawings() -> list[np.ndarray]:
    """One drawing of each of the first KINDS classes, RGBA, its longer side 24 pixels at most."""
    found = []
    for name in CLASSES[:KINDS]:
        picture = sprite(DRAWINGS[name][0]).copy()  # which thumbnail changes
        picture.thumbnail((OBJECT[1], OBJECT[1]), Image.Resampling.LANCZOS)
        found.append(np.asarray(picture))
    return found


@functools.cache
def grounds() -> list[np.ndarray]:
    """The first KINDS photographs, RGB, their shorter side 96 pixels."""
    found = []
    for name in PHOTOGRAPHS[:KINDS]:
        picture = photograph(name)
        ratio = 2 * SIZE / min(picture.size)
        found.append(np.asarray(picture.resize([round(side * ratio) for side in picture.size])))
    return found


def draw_factors(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Independent values of each factor: numbers of a drawing and a ground, and a position in [0, 1]²."""
    return {
        "drawing": rng.integers(KINDS, size=count),
        "position": rng.random((count, 2)),
        "ground": rng.integers(KINDS, size=count),
    }


def render(factors: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(N, SIZE, SIZE, 3) uint8; the drawing's scale and the ground's crop are drawn."""
    images = []
    for kind, (x, y), number in zip(factors["drawing"], factors["position"], factors["ground"], strict=True):
        ground = grounds()[number]
        top, left = (int(rng.integers(length - SIZE + 1)) for length in ground.shape[:2])
        crop = ground[top : top + SIZE, left : left + SIZE].mean(2, keepdims=True)
        even = 128 + CONTRAST * (crop - crop.mean()) / max(1.0, crop.std())  # texture alone tells the ground
        image = Image.fromarray(np.repeat(even.clip(0, 255).astype(np.uint8), 3, axis=2))
        picture, longer = Image.fromarray(drawings()[kind]), int(rng.integers(OBJECT[0], OBJECT[1] + 1))
        ratio = longer / max(picture.size)
        picture = picture.resize([max(1, round(side * ratio)) for side in picture.size])
        room = SIZE - OBJECT[1]
        middle = (OBJECT[1] / 2 + x * room, OBJECT[1] / 2 + y * room)
        image.paste(picture, (round(middle[0] - picture.width / 2), round(middle[1] - picture.height / 2)), picture)
        images.append(np.asarray(image))
    return np.stack(images)


def pairs(shared: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two views of ``count`` pairs that share the factors of the set ``shared``."""
    first, second = draw_factors(count, rng), draw_factors(count, rng)
    one = render(first, rng)
    if shared == SAME:
        return one, one
    return one, render(second | {name: first[name] for name in SETS[shared]}, rng)


class Encoder(nn.Module):
    """(N, 3, SIZE, SIZE) in [0, 1] to (N, FEATURES): four convolutions of stride 2 and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((3, 32, 64, 128, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        side = SIZE // 16
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * side**2, FEATURES), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        found: Tensor = self.layers(x)
        return found


def as_input(images: np.ndarray) -> Tensor:
    """(N, 3, SIZE, SIZE) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def trained(shared: str, steps: int, seed: int) -> tuple[Encoder, float]:
    """An encoder of pairs that share ``shared``, and the mean bound on I(v1; v2) in nats of the last tenth of steps."""
    torch.manual_seed(seed)
    encoder, head, rng = Encoder(), mlp(FEATURES, FEATURES, DIM), np.random.default_rng([seed, 0])
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], RATE)
    bounds = []
    for _ in tqdm(range(steps), desc=f"{shared}, seed {seed}", mininterval=5, leave=False):
        views = torch.cat([as_input(one) for one in pairs(shared, BATCH, rng)])
        z1, z2 = l2_normalize(head(encoder(views))).chunk(2)
        loss, bound = info_nce(z1 @ z2.T / TEMPERATURE, z2 @ z1.T / TEMPERATURE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bounds.append(float(bound))
    last = bounds[-max(1, steps // 10) :]
    return encoder.eval(), sum(last) / len(last) if last else 0.0


@torch.inference_mode()
def scores(encoder: Encoder, seed: int) -> dict[str, float]:
    """Percent above chance with which each factor is read from the features of fresh images."""
    rng = np.random.default_rng([seed, 1])
    factors = draw_factors(FIT + TEST, rng)
    x = np.concatenate([encoder(as_input(part)).numpy() for part in np.array_split(render(factors, rng), 12)])
    known, names = np.ones(FIT + TEST, bool), tuple(map(str, range(KINDS)))
    given = {
        name: Factor(name=name, kind="number", values=values, known=known)
        if name == "position"
        else Factor(name=name, kind="category", values=values, known=known, names=names)
        for name, values in factors.items()
    }
    found = probe(x[:FIT], x[FIT:], given, None, seed)
    return {name: 100 * (one.value or 0.0) for name, one in found.items()}


def network(shared: str, steps: int, seed: int, folder: Path) -> dict[str, float]:
    """The scores and the bound of one network, from its JSON if it is there."""
    steps = 0 if shared == UNTRAINED else steps
    asked = {"shared": shared, "steps": steps, "seed": seed, "version": VERSION}
    path = folder / f"{digest(asked)[:16]}.json"
    if path.is_file():
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["found"]
        return found
    encoder, bound = trained("nothing" if shared == UNTRAINED else shared, steps, seed)
    found = scores(encoder, seed) | {"bound": bound}
    write_json(path, asked | {"found": found})
    return found


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: a row per set, mean ± standard deviation over its networks."""
    columns = [*FACTORS, "bound"]
    lines = [
        f"| the views share | {' | '.join(FACTORS)} | I(v1; v2) ≥, nats |",
        "|---|" + "---|" * len(columns),
    ]
    for name, networks in found.items():
        cells = []
        for column in columns:
            values, decimals = [one[column] for one in networks], 2 if column == "bound" else 1
            spread = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):z.{decimals}f}{spread}")  # z: no −0.00
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(found: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """A panel per factor: bars of the sets, the set of this factor alone in colour, and those that lack it hatched."""
    figure = Figure(figsize=(11, 0.9 + 0.32 * len(found)), layout="constrained")
    axes = figure.subplots(1, len(FACTORS), sharey=True)
    for axis, factor in zip(axes, FACTORS, strict=True):
        for place, (name, networks) in enumerate(found.items()):
            values = [one[factor] for one in networks]
            colour = "#dd8452" if name == factor else "#4c72b0" if factor in SETS.get(name, ()) else "#c8c8c8"
            axis.barh(place, statistics.mean(values), color=colour)
            axis.plot(values, [place] * len(values), "k.", markersize=4)
        axis.set_title(factor)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xlabel("percent above chance")
    axes[0].set_yticks(range(len(found)), list(found))
    axes[0].invert_yaxis()
    figure.suptitle("linear probes by what two views share: orange that factor alone, blue it and others, grey not it")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def main(argv: list[str]) -> int:
    """Train and probe all networks; print the table on stderr and the paths on stdout."""
    arguments = tyro.cli(Arguments, prog="python -m benchmarks.claims.shared_factors", description=__doc__, args=argv)
    require_ranges(arguments)
    folder = results_dir() / "claims" / "shared-factors"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for shared in tqdm([UNTRAINED, *SETS, SAME], desc="sets", unit="set"):
        found[shared] = [network(shared, arguments.steps, seed, folder) for seed in range(arguments.seeds)]
    text = table(found)
    about = f"mean ± standard deviation of {arguments.seeds} networks of {arguments.steps} steps"
    print(f"\n{text}\n\n{about}", file=sys.stderr)
    for suffix in ("md", "csv", "png"):
        path = folder.with_name(f"{folder.name}.{suffix}")
        if suffix == "png":
            chart(found, path)
        elif suffix == "md":
            path.write_text(text + "\n", encoding="utf-8")
        else:
            with path.open("w", encoding="utf-8", newline="") as stream:
                rows = csv.DictWriter(stream, ["shared", "seed", *FACTORS, "bound"], lineterminator="\n")
                rows.writeheader()
                for shared, networks in found.items():
                    rows.writerows({"shared": shared, "seed": seed, **one} for seed, one in enumerate(networks))
        print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
