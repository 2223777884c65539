"""Folders of images: which there are, their labels, a fingerprint, and decoding one.

A folder is an ImageFolder (one subfolder a class) or flat (images at the top, no labels).
Tested by ``python -m pytest tests/pretrain/test_data.py``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from pretrain.errors import InputError
from pretrain.files import fingerprint

# The usual names of the formats that Pillow's wheels decode; of several frames the first one counts.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
    }
)
SPLITS = frozenset({"train", "val", "valid", "validation", "test"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of a folder: paths relative to ``root``, sorted; labels (class numbers), or None in a flat folder."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def list_images(root: Path) -> ImageList:
    """The images under ``root``, hidden files and folders left out.

    InputError if there are none, both layouts at once, or a folder that cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give an ImageFolder or a flat folder of images as --data")
    found = sorted(
        Path(folder, name).relative_to(root).as_posix()
        for folder, names in _visible(root)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    )
    if not found:
        raise InputError(f"no images in {root} (looked for {' '.join(sorted(IMAGE_SUFFIXES))}, in subfolders too)")
    flat = [path for path in found if "/" not in path]
    if not flat:
        classes = tuple(sorted({path.split("/")[0] for path in found}))
        if set(classes) <= SPLITS:
            raise InputError(f"{root} holds the splits {', '.join(classes)}, not classes: give one of them as --data")
        number = {name: i for i, name in enumerate(classes)}
        return ImageList(
            root=root, paths=tuple(found), labels=tuple(number[path.split("/")[0]] for path in found), classes=classes
        )
    if len(flat) < len(found):
        raise InputError(f"{root} holds both images ({flat[0]}) and class folders with images: keep one of the two")
    return ImageList(root=root, paths=tuple(found), labels=None, classes=())


def _visible(root: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) of ``root`` and all below it but hidden folders, such as .ipynb_checkpoints."""

    def unreadable(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}): change its permissions or move it away")

    for folder, inside, names in os.walk(root, followlinks=True, onerror=unreadable):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield folder, names


def describe(images: ImageList) -> dict[str, Any]:
    """Name, size (images) and fingerprint of the data set, for the checkpoint's meta.

    A folder of a prepared data root (data.json at most two levels up, as ``python -m benchmarks prepare`` writes it)
    goes by the root's name and recorded fingerprint, and is not hashed again. InputError for a file without a readable
    target or with a name that is not UTF-8.
    """
    folder = images.root.resolve()
    for parent in (folder, *folder.parents[:2]):
        root, inside = _prepared_root(parent / "data.json"), folder.relative_to(parent).as_posix()
        section = root.get(inside.split("/")[0])
        if isinstance(section, dict) and "fingerprint" in section:
            extra = {"folder": inside, "synthetic": bool(root["synthetic"])}
            return {"name": root["name"], "size": len(images), "fingerprint": section["fingerprint"], **extra}
    try:
        return {"name": folder.name, "size": len(images), "fingerprint": fingerprint(folder)}
    except UnicodeEncodeError as error:
        name = ascii(str(error.object).split("\0")[0])
        raise InputError(f"{folder}: the name of the file {name} is not UTF-8: rename it") from None
    except OSError as error:
        raise InputError(f"cannot read {error.filename} ({error.strerror}): repair or remove it") from None


def _prepared_root(record: Path) -> dict[str, Any]:
    """The content of a data.json of ours; {} if there is none, or somebody else's."""
    try:
        root = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return root if isinstance(root, dict) and {"name", "synthetic", "config"} <= set(root) else {}


def decode(path: Path) -> Image.Image:
    """The image at ``path`` in RGB, of an animation its first frame. InputError names a file that cannot be read."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path} ({error}): repair or remove it") from error
