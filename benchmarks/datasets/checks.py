"""Looks at the user's files before anything is made of them: every image readable, every split filled, boxes inside.

python -m benchmarks prepare voc SOURCE        (prints what was counted; the first fatal finding is one line)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from benchmarks.datasets.layout import visible_files
from pretrain.data import IMAGE_SUFFIXES
from pretrain.errors import InputError

DECODED_UP_TO = 20_000  # images; of larger sets the headers are read, because decoding ImageNet takes hours
EXIF_ORIENTATION = 0x0112


def fatal(what: str, offenders: Sequence[Any], advice: str) -> None:
    """InputError that names the first offender and how many there are; nothing where there is none."""
    if offenders:
        more = f" (and {len(offenders) - 1:,} more)" if len(offenders) > 1 else ""
        raise InputError(f"{what}: {offenders[0]}{more}: {advice}")


def image_sizes(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """(width, height) of each image as shown, EXIF orientation applied. InputError for missing or unreadable ones."""
    unique = sorted(set(paths))
    fatal("missing image", [path for path in unique if not path.is_file()], "add the file or drop its annotation")
    decode = len(unique) <= DECODED_UP_TO

    def look(path: Path) -> tuple[int, int] | str:
        try:
            with Image.open(path) as image:
                turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
                size = (image.height, image.width) if turned else image.size
                if decode:  # verify() does not notice a JPEG that breaks off
                    image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
                    image.load()
                else:
                    image.verify()
                return size
        except Exception as error:  # PIL's plugins raise whatever a broken file makes them stumble over
            return f"{path} ({error})".replace("\n", " ")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(
            tqdm(pool.map(look, unique), total=len(unique), desc="checking images", unit="image", mininterval=1)
        )
    broken = [answer for answer in found if isinstance(answer, str)]
    fatal("unreadable image", broken, "replace or remove it and prepare again")
    return {path: size for path, size in zip(unique, found, strict=True) if not isinstance(size, str)}


def check_scale(stated: dict[Any, tuple[Any, Any]], true: dict[Any, tuple[int, int]]) -> None:
    """InputError where a stated (width, height) is another than the image's: its boxes would lie elsewhere.

    A size turned by 90° passes, and one that is off by the rounding of a resize; (0, 0) and None state nothing.
    """
    wrong = [
        f"{name} ({' × '.join(map(str, size))} in its annotation, {' × '.join(map(str, true[name]))} in the file)"
        for name, size in stated.items()
        if all(size) and not any(near(size, turned) for turned in (true[name], true[name][::-1]))
    ]
    fatal("image of another size than its boxes are for", wrong, "give the image that was annotated")


def near(size: tuple[Any, Any], other: tuple[int, int]) -> bool:
    """Whether two sizes differ by 2 pixels at most on each side."""
    return all(isinstance(a, int | float) and abs(a - b) <= 2 for a, b in zip(size, other, strict=True))


def clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """A (left, top, right, bottom) box, 0-based with exclusive ends, inside the image; None if no pixel remains."""
    left, top, right, bottom = box
    width, height = size
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return inside if inside[2] - inside[0] >= 1 and inside[3] - inside[1] >= 1 else None


def images_under(folder: Path) -> list[Path]:
    """Sorted image files under ``folder``, links followed, hidden ones left out."""
    return [path for path in map(Path, visible_files(folder)) if path.suffix.lower() in IMAGE_SUFFIXES]
