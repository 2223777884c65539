"""Folders of images: which there are, their labels, a fingerprint, and decoding one.

A folder is an ImageFolder (one subfolder per class) or flat (images at the top, no labels).
"""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from pretrain.common.errors import InputError
from pretrain.common.files import fingerprint, walk

# The usual names of the formats that Pillow's wheels decode; of several frames the first one counts.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
        *(".apng", ".dib", ".j2c", ".j2k", ".jpf", ".jpx", ".mpo", ".pcx", ".qoi", ".sgi", ".tga"),
    }
)
# Pillow's modes with 8 bits per channel or fewer: its convert("RGB") cuts off above 255 what is deeper.
EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
FEW = 4  # folders


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of a folder: paths relative to ``root``, sorted; labels (class numbers), or None in a flat folder."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    passed_over: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many visible files are no images, by suffix."""

    def __len__(self) -> int:
        return len(self.paths)


def list_images(root: Path) -> ImageList:
    """The images under ``root``, hidden files and folders left out.

    InputError if there are none, both layouts at once, or a folder that cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give an ImageFolder or a flat folder of images as --data")
    found, passed_over = [], Counter[str]()
    for folder, names in visible(root):
        for name in names:
            if is_image(name):
                found.append(Path(folder, name).relative_to(root).as_posix())
            else:
                passed_over[Path(name).suffix] += 1
    found.sort()
    if not found:
        there = f"only {by_suffix(passed_over)}" if passed_over else "no file at all"
        usual = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"no images in {root} or its subfolders ({there}): give a folder with files of {usual}")
    flat = [path for path in found if "/" not in path]
    if not flat:
        classes = tuple(sorted({path.split("/")[0] for path in found}))
        if splits := splits_among(classes):
            raise InputError(f"{root} holds the splits {', '.join(splits)}, not classes: give one of them as --data")
        number = {name: i for i, name in enumerate(classes)}
        labels = tuple(number[path.split("/")[0]] for path in found)
        return ImageList(root=root, paths=tuple(found), labels=labels, classes=classes, passed_over=passed_over)
    if len(flat) < len(found):
        raise InputError(f"{root} holds both images ({flat[0]}) and class folders with images: keep one of the two")
    return ImageList(root=root, paths=tuple(found), labels=None, classes=(), passed_over=passed_over)


def is_image(path: Path | str) -> bool:
    """Whether a file's name is that of an image."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def splits_among(names: Collection[str]) -> dict[str, str]:
    """Which of the folders ``names`` are splits: {its name: "train", "val" or "test"}; {} where they are classes.

    Names such as Training, seg_test and val2017 count among few folders only: of many, one may be train_station.
    """
    exact: dict[str, str] = {}
    alike: dict[str, str] = {}
    for name in names:
        words = set(re.findall("[a-z]+", name.lower()))
        for split, usual in SPLITS.items():
            exact |= {name: split} if name.lower() in usual else {}
            alike |= {name: split} if words & set(usual) else {}
    for found, sure in ((exact, True), (alike, len(names) <= FEW)):
        if sure and {"train"} < set(found.values()):
            return found
    return exact if len(exact) == len(names) else {}


def visible(root: Path | str, without: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) of ``root`` and all below it, links followed; what is hidden is left out.

    So are the folders ``without``. InputError for a folder that cannot be read and for links that lead round and round.
    """
    try:
        for folder, inside, names in walk(root):
            inside[:] = [name for name in inside if not name.startswith(".") and f"{folder}/{name}" not in without]
            yield folder, [name for name in names if not name.startswith(".")]
    except OSError as error:
        advice = "remove the link" if error.errno == errno.ELOOP else "change its permissions or move it away"
        raise InputError(f"{error.filename} cannot be read ({error.strerror}): {advice}") from None


def by_suffix(suffixes: Mapping[str, int]) -> str:
    """ "12 .heic, 3 .txt, 1 without a suffix": numbers of files by their suffix, the six most frequent."""
    order = sorted(suffixes.items(), key=lambda one: (-one[1], one[0]))
    named = [f"{count:,} {ascii(suffix)[1:-1] or 'without a suffix'}" for suffix, count in order[:6]]
    rest = sum(count for _, count in order[6:])
    return ", ".join([*named, f"{rest:,} of other suffixes"] if rest else named)


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
    return {"name": folder.name, "size": len(images), "fingerprint": folder_fingerprint(folder)}


def folder_fingerprint(folder: Path) -> str:
    """The fingerprint of a folder of the user's; InputError for a file that cannot be read or named."""
    try:
        return fingerprint(folder)
    except UnicodeEncodeError as error:
        name = ascii(str(error.object).split("\0")[0])
        raise InputError(f"{folder}: the name of the file {name} is not UTF-8: rename it") from None
    except OSError as error:
        raise InputError(f"cannot read {error.filename} ({error.strerror}): repair or remove it") from None


def _prepared_root(record: Path) -> dict[str, Any]:
    """The content of a data.json of ours; {} if there is none, or somebody else's."""
    try:
        root = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return root if isinstance(root, dict) and {"name", "synthetic", "config"} <= set(root) else {}


def decode(path: Path) -> Image.Image:
    """The image at ``path`` in RGB, of an animation its first frame.

    InputError names a file that cannot be read, and one of more than 8 bits per channel.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("not a file" if path.exists() else "no such file")
        with Image.open(path) as opened:
            if opened.mode not in EIGHT_BIT:
                raise OSError(f"16-bit, 32-bit or float pixels, mode {opened.mode}, where 8 bits are wanted")
            return opened.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a broken file makes them stumble over
        raise InputError(f"cannot read image {path} ({error}): repair or remove it") from error
