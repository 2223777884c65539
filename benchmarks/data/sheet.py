"""Draw a data root's contact sheet: classification images by class, scenes with boxes, class names and masks.

    python -m benchmarks sheet results/data/emoji-smoke [-o sheet.png]

Every image is drawn as training reads it: detection turns photographs as their EXIF orientation says, classification
does not.
"""

from __future__ import annotations

from pathlib import Path

import tyro
from PIL import Image, ImageOps

from benchmarks.arguments import SheetArguments
from benchmarks.data.checks import images_under
from benchmarks.data.pictures import (
    GAP,
    GROUND,
    WIDTH,
    captioned,
    colours_of,
    heading,
    legend,
    objects_of,
    panel,
    rows,
    save,
    spread,
    stack,
    truths,
)
from benchmarks.data.root import DataRoot
from pretrain.common.errors import run_cli
from pretrain.common.files import results_dir
from pretrain.data import decode

TILE, TILES = 84, 10  # pixels of a classification image; images per class
ACROSS = 5  # scenes per row
MOST_CLASSES = 20
MOST_SCENES = 10  # per split


def main(argv: list[str]) -> int:
    """Draw the sheet and print its path."""
    arguments = tyro.cli(SheetArguments, args=argv, prog="python -m benchmarks sheet")
    root = DataRoot.load(arguments.root)
    output = arguments.output or results_dir() / "sheets" / f"{root.name}.png"
    save(draw_sheet(root), output)
    print(output)
    return 0


def draw_sheet(root: DataRoot) -> Image.Image:
    """The sheet: a heading, then the bands of each layout that the root has."""
    root.check_unchanged()
    bands = [heading(root.name, 28), heading(root.description, 17)]
    for kind in root.sections:
        bands += [heading(f"{kind}: {counts(root, kind)}", 20)]
        bands += classification(root) if kind == "imagenet" else detection(root, kind)
    return stack(bands)


def counts(root: DataRoot, kind: str) -> str:
    """The section's counts in words: "train 400 images; val 200 images"."""
    parts = []
    for split, value in root.section(kind)["counts"].items():
        several = value if isinstance(value, dict) else {"images": value}
        parts.append(f"{split} " + ", ".join(f"{number:,} {what}" for what, number in several.items()))
    return "; ".join(parts)


def classification(root: DataRoot) -> list[Image.Image]:
    """Training images of some classes, a row for each in two columns below its name."""
    classes = root.section("imagenet")["classes"]
    shown, blocks = spread(classes, MOST_CLASSES), []
    for name in shown:
        files = images_under(root.folder("imagenet") / "train" / name)
        some = spread(files, TILES)
        title = heading(f"{len(some)} of {len(files):,} · {name}", 15, (WIDTH - 3 * GAP) // 2)
        block = Image.new("RGB", (title.width, title.height + TILE), "white")
        block.paste(title)
        tiles = [ImageOps.pad(decode(path), (TILE, TILE), color=GROUND) for path in some]
        for row in rows(tiles, TILES, gap=4):
            block.paste(row, (0, title.height))
        blocks.append(block)
    return [heading(f"train: {len(shown)} of {len(classes):,} classes", 17), *rows(blocks, 2)]


def detection(root: DataRoot, kind: str) -> list[Image.Image]:
    """Images of each split with their objects, and the colours of the classes seen."""
    classes, colours, bands, used = root.section(kind)["classes"], colours_of(root), [], set()
    for split, images in truths(root, kind).items():
        panels = []
        for image in spread(images, MOST_SCENES):
            objects = objects_of(image, classes)
            used |= {one.name for one in objects}
            text = f"{len(objects):,} object{'s' * (len(objects) != 1)} · {Path(image['file_name']).name}"
            panels.append(captioned(panel(image, objects, colours, (WIDTH - 2 * GAP) // ACROSS - GAP), text))
        bands += [heading(f"{split}: {len(panels)} of {len(images):,} images", 17), *rows(panels, ACROSS)]
    flags = "T truncated, D difficult, with a thin outline" if kind == "voc" else "crowds have a thin outline"
    masks = "boxes and masks" if root.section(kind).get("masks", "none") != "none" else "boxes"
    return [heading(f"{masks}, one colour per class ({flags})", 15), legend(colours, used), *bands]


if __name__ == "__main__":
    run_cli(main)
