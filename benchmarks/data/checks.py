"""Checks of the user's files before anything is written: images are readable, splits filled, boxes inside.

python -m benchmarks prepare voc SOURCE        (prints what was counted; the first fatal finding is one line)
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.data.root import visible_files
from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256
from pretrain.data import EIGHT_BIT, is_image

DECODED_UP_TO = 20_000  # images; in larger sets only the headers are read, because decoding ImageNet takes hours
EXIF_ORIENTATION = 0x0112
STRAIGHTEN = (
    "turn its pixels with `mogrify -auto-orient` if the boxes fit the picture as viewers show it, "
    "or drop the mark with `exiftool -Orientation=` if they fit the pixels in the file"
)
DEEP = "deep"
LONGEST = 400  # characters of an offending item in a message
# Names of counts that several kinds of data share:
TURNED = "images with boxes turned by EXIF"
IN_TRAIN = "test images also in train"
AWAY = "boxes that are not around their masks"
LACKING = "objects without a mask among others with one"
# Words of error messages that several kinds of data share:
REACHES_OUT = "box that reaches out of its image, as most do"
AS_ANNOTATED = "give the images that were annotated, in their size of then"
Size = tuple[int, int]
Box = tuple[float, float, float, float]


def fatal(what: str, offenders: Sequence[Any], advice: str) -> None:
    """InputError that names the first offender and their number; no error if there is none."""
    if offenders:
        more = f" (and {len(offenders) - 1:,} more)" if len(offenders) > 1 else ""
        first = str(offenders[0])
        raise InputError(f"{what}: {first if len(first) < LONGEST else first[:LONGEST] + '…'}{more}: {advice}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file: (width, height) as detectron2 shows it, and the EXIF orientation (1–8) by which it turns it."""

    size: Size
    orientation: int = 1
    turned_twice: bool = False
    """Pillow turns a TIFF on loading, and detectron2 turns it again."""

    @property
    def stored(self) -> Size:
        """(width, height) of the pixels in the file."""
        return self.size if self.orientation < 5 else self.size[::-1]

    def point(self, x: float, y: float) -> tuple[float, float]:
        """The point (x, y) of the stored pixels in the picture as shown; both count from the top left edge."""
        width, height = self.stored
        x, y = {
            1: (x, y),
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }[self.orientation]
        return x, y

    def turned_box(self, box: Box) -> Box:
        """A (left, top, right, bottom) box of the stored pixels, 0-based with exclusive ends, as shown."""
        (left, top), (right, bottom) = self.point(*box[:2]), self.point(*box[2:])
        return min(left, right), min(top, bottom), max(left, right), max(top, bottom)

    def turned_polygon(self, polygon: Sequence[float]) -> list[float]:
        """A polygon [x0, y0, x1, y1, …] of the stored pixels, as shown."""
        points = zip(polygon[::2], polygon[1::2], strict=True)
        return [value for point in points for value in self.point(*point)]

    def turned_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (height, width) of the stored pixels, as shown."""
        mirrored = mask[:, ::-1] if self.orientation in (2, 4, 5, 7) else mask
        return np.rot90(mirrored, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[self.orientation])


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation that detectron2 applies: 2–8 turn or mirror, any other value is ignored (1)."""
    try:
        stored = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # broken EXIF is ignored, as in detectron2
        return 1
    return next((number for number in range(2, 9) if number == stored), 1)


def header(image: Image.Image) -> Picture:
    """Size and orientation of the opened, not yet loaded ``image``."""
    orientation = orientation_of(image)
    size = image.size if orientation < 5 else image.size[::-1]
    return Picture(size=size, orientation=orientation, turned_twice=image.format == "TIFF" and orientation > 1)


def look_at(
    paths: Iterable[Path], *, drop_unreadable: bool = False, found: Counter[str] | None = None, advice: str = ""
) -> dict[Path, Picture]:
    """Each image's size and orientation. InputError for one that is missing, unreadable or has no 8-bit pixels.

    With ``drop_unreadable`` missing and unreadable ones are left out of the result and counted in ``found``;
    InputError if none is left. ``advice`` says what to do about one of them, where a command has no such flag.
    """
    unique = sorted(set(paths))
    present = [path for path in unique if is_file(path)]
    decode = len(present) <= DECODED_UP_TO

    def look(path: Path) -> Picture | str:
        try:
            with Image.open(path) as image:
                picture, mode = header(image), image.mode
                if decode:  # verify() does not notice a truncated JPEG
                    image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
                    image.load()
                else:
                    image.verify()
                return picture if mode in EIGHT_BIT else DEEP
        except MemoryError:  # not the image's fault
            raise
        except Exception as error:  # PIL's plugins raise any error on a broken file
            return f"{path} ({error})".replace("\n", " ")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(
            tqdm(pool.map(look, present), total=len(present), desc="checking images", unit="image", mininterval=1)
        )
    deep = [path for path, answer in zip(present, answers, strict=True) if answer == DEEP]
    fatal(
        "image with 16-bit, 32-bit or float pixels, which turn white as 8-bit", deep, "save it with 8 bits per channel"
    )
    missing = sorted(set(unique) - set(present))
    broken = [answer for answer in answers if isinstance(answer, str)]
    if not drop_unreadable or len(missing) + len(broken) == len(unique):
        fatal("missing image", missing, advice or "add the file, or leave out its annotation with --drop-unreadable")
        fatal("unreadable image", broken, advice or "replace it, or leave it out with --drop-unreadable")
    if found is not None:
        found += Counter({"missing images dropped": len(missing), "unreadable images dropped": len(broken)})
    return {path: one for path, one in zip(present, answers, strict=True) if isinstance(one, Picture)}


def is_file(path: Path) -> bool:
    """Whether ``path`` is a file; False for an impossible name."""
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def check_scale(stated: Mapping[Path, tuple[Any, Any]], pictures: Mapping[Path, Picture]) -> None:
    """InputError if a stated (width, height) differs from the image's: its boxes would be misplaced.

    A size turned by 90° or off by the rounding of a resize passes; (0, 0) and None state nothing.
    """
    wrong = []
    for path, size in stated.items():
        true = pictures[path].size
        if all(size) and not near(size, true) and not near(size, true[::-1]):
            sizes = [" × ".join(f"{side:.10g}" for side in one) for one in (size, true)]
            wrong.append(f"{path} ({sizes[0]} in its annotation, {sizes[1]} in the file)")
    fatal("image whose size is not its annotation's", wrong, "give the image that was annotated")


def near(size: tuple[Any, Any], other: tuple[int, int]) -> bool:
    """Whether two sizes differ by 2 pixels at most on each side."""
    return all(isinstance(a, int | float) and abs(a - b) <= 2 for a, b in zip(size, other, strict=True))


def clipped(box: Box, size: Size) -> Box | None:
    """A (left, top, right, bottom) box, 0-based with exclusive ends, inside the image; None if no pixel remains."""
    left, top, right, bottom = box
    width, height = size
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return inside if inside[2] - inside[0] >= 1 and inside[3] - inside[1] >= 1 else None


def images_under(folder: Path) -> list[Path]:
    """Sorted image files under ``folder``, links followed, hidden ones left out."""
    return [Path(path) for path in visible_files(folder) if is_image(path)]


def drawn_on_stored(
    stated: Mapping[Path, tuple[Any, Any]], pictures: Mapping[Path, Picture], boxes: Mapping[Path, Sequence[Box]]
) -> set[Path]:
    """The EXIF-turned images whose boxes were drawn on the stored pixels: turn their boxes with them.

    An image shows it by a stated size that is only its stored or its shown one, or by boxes that fit in one of the two
    only; an ambiguous one (a square, a mirrored or upside-down one, no size) follows the others if those agree.
    InputError if they disagree or all are ambiguous, if size and boxes contradict, and for a TIFF (turned twice).
    """
    against = [path for path, size in stated.items() if _fit_turned(size, pictures[path], boxes.get(path, ()))]
    fatal("image that is rotated relative to its boxes", against, "turn its pixels to the size in its annotation")
    turned = {path: one for path, one in pictures.items() if one.orientation > 1 and boxes.get(path)}
    fatal("TIFF with an EXIF orientation", [path for path, one in turned.items() if one.turned_twice], STRAIGHTEN)
    answers: dict[Path, set[str]] = {}
    for path, one in turned.items():
        frames = {"stored": one.stored, "shown": one.size}
        size = stated.get(path, (None, None))
        by_size = {name for name, frame in frames.items() if near(size, frame)}
        by_boxes = {name for name, frame in frames.items() if all(fits(box, frame) for box in boxes[path])}
        answers[path] = {name for found in (by_size, by_boxes) if len(found) == 1 for name in found}
    contradictory = [path for path, answer in answers.items() if len(answer) == 2]
    fatal("EXIF-turned image whose boxes do not fit the size in its annotation", contradictory, STRAIGHTEN)
    said = set().union(*answers.values())
    unclear = sorted(path for path, answer in answers.items() if not answer)
    what = "EXIF-turned image whose boxes may be drawn on it as stored or as shown"
    fatal(what, unclear if len(said) != 1 else [], STRAIGHTEN)
    return {path for path, answer in answers.items() if (answer or said) == {"stored"}}


def _fit_turned(stated: tuple[Any, Any], picture: Picture, boxes: Sequence[Box]) -> bool:
    """Whether an image without an orientation has the stated size, and its boxes room, only turned by 90°."""
    width, height = picture.size
    if picture.orientation > 1 or near(stated, (width, height)) or not near(stated, (height, width)):
        return False
    return all(fits(box, (height, width)) for box in boxes) and not all(fits(box, (width, height)) for box in boxes)


def fits(box: Box, frame: Size) -> bool:
    """Whether a (left, top, right, bottom) box is inside a frame of (width, height), within 2 pixels."""
    return min(box[:2]) >= -2 and box[2] <= frame[0] + 2 and box[3] <= frame[1] + 2


def same_pictures(paths: Iterable[Path]) -> dict[Path, Path]:
    """Each readable file's first file (in sorted order) with the same bytes: itself if there is no other.

    Reads 4 KiB of each file, and all of those that agree in these and in size.
    """

    def glimpse(path: Path) -> tuple[int, bytes]:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(size // 2)
            return size, stream.read(4096)

    unique = sorted(set(paths))
    first = {path: path for path in unique}
    for alike in _groups(unique, glimpse):
        for same in _groups(alike, file_sha256):
            first.update(dict.fromkeys(same, same[0]))
    return first


def _groups(paths: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of two or more paths with the same key."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found: dict[Hashable, list[Path]] = {}
        for path, value in zip(paths, pool.map(key, paths), strict=True):
            found.setdefault(value, []).append(path)
    return [group for group in found.values() if len(group) > 1]


def also_in(train: Iterable[Path], held_out: Iterable[Path]) -> int:
    """Number of files of the split ``held_out`` that are also in ``train``, under any name."""
    train, held_out = list(train), list(held_out)
    first = same_pictures([*train, *held_out])
    return len({first[path] for path in train} & {first[path] for path in held_out})
