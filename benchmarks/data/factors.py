"""Known factors of the images of a classification set: a CSV per split, with a line per image.

    <root>/imagenet/{train,val}/factors.csv.gz      of the embedded set (emoji/generate.py)
    <root>/factors/{train,val}.csv.gz               by ``prepare imagenet SOURCE --factors FILE``

The user's are no part of the layout's fingerprint: features extracted without them stay valid. Column ``image`` is a
path below a split's folder (class/name.jpg) or below the source (train/class/name.jpg), every other column a factor. An
empty cell is an unknown value. Imports no torch.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.data.root import DataRoot
from benchmarks.data.vocxml import decoded
from pretrain.common.errors import InputError
from pretrain.data import is_image, visible

FILE = "factors.csv.gz"
IMAGE = "image"
GROUP = "drawing"  # column by which images of the fit and of the test are kept apart; a user's may be named "group"
GROUPS = (GROUP, "group")
TURNS = ("hue",)  # degrees on a full circle, like every column that ends in _degrees
POSITION = ("x", "y")  # two columns, one factor
FEWEST = 10  # different values of a number; with fewer it is a category
MOST = 1000  # names of a category: ImageNet's classes. A column of file names or dates has more and is no factor
LAYER = "z "  # before the scores of the embedding (tasks/factors.py): no name of a factor starts so
Kind = Literal["number", "circle", "category"]
SPLITS = ("train", "val")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor of N images. ``known`` (N,) bool.

    number: ``values`` N×k float64, k numbers that count together. circle: N×2, cosine and sine. category: ``values``
    (N,) class numbers into ``names``.
    """

    name: str
    kind: Kind
    values: np.ndarray
    known: np.ndarray
    names: tuple[str, ...] = ()


def factors_file(root: DataRoot, split: str) -> Path:
    """Where a split's factors are."""
    given = root.path / "factors" / f"{split}.csv.gz"
    return given if given.parent.is_dir() else root.folder("imagenet") / split / FILE


def factors_digest(root: DataRoot) -> str:
    """Sha256 hex of both splits' images and factors. InputError without factors."""
    files = tuple(factors_file(root, split) for split in SPLITS)
    return _digest(root.section("imagenet")["fingerprint"], root.name, files, tuple(map(_state, files)))


@functools.lru_cache(maxsize=16)
def _digest(fingerprint: str, name: str, files: tuple[Path, ...], states: tuple[tuple[int, ...], ...]) -> str:
    """Once per state of the files: a plan asks for every run, and ImageNet's lines take five seconds."""
    parts = [fingerprint.encode()]
    for file in files:
        parts.append("".join(",".join(row) + "\n" for row in _rows(file, name)).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _state(path: Path) -> tuple[int, ...]:
    """It changes with the file; () where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_factors(root: DataRoot) -> None:
    """InputError where the root has no usable list, or one whose factors have one value each."""
    root.section("imagenet")
    columns: dict[str, list[set[str]]] = {}
    for split in SPLITS:
        header, *rows = _rows(factors_file(root, split), root.name)
        for place, name in enumerate(header[1:], 1):
            columns.setdefault(name, []).append({row[place] for row in rows})
    if not any(len(set().union(*texts) - {""}) > 1 for name, texts in columns.items() if name != "group"):
        raise InputError(f"the factors of {root.name} have one value each: give a column that varies")
    _check_values(columns, f"the factors of {root.name}")


def _check_values(columns: Mapping[str, Sequence[set[str]]], where: str) -> None:
    """InputError for a factor that cannot be probed; ``columns`` have the texts of each split.

    Those are a category with too many names, one whose names train and val do not share, one that is known of one split
    alone, and groups that are all one.
    """
    group = next((name for name in GROUPS if name in columns), None)
    if group and len(set().union(*columns[group])) < 2:
        raise InputError(f"{where}: column {group} has one value, and a probe is tested on other groups: leave it out")
    for name, splits in columns.items():
        train, *others = (texts - {""} for texts in splits)
        known = train.union(*others)
        strange = sorted(filter(_is_no_number, known))
        if name == "group" or len(known) < 2:
            continue
        if len(known) > MOST and strange:
            raise InputError(
                f"{where}: column {name} has {len(known):,} different values, and {strange[0]!r:.40} is no number: "
                f"leave unknown cells empty, and give a category {MOST:,} names at most"
            )
        shared = train.intersection(*others) if strange or len(known) < FEWEST else train and all(others)
        if not shared:
            raise InputError(
                f"{where}: column {name} has no value that both train and val images have, or is empty in one: fill it "
                "in, or leave it out"
            )


def _is_no_number(text: str) -> bool:
    try:
        return bool(text) and not math.isfinite(float(text))
    except ValueError:
        return True


def factors_of(root: DataRoot, images: Mapping[str, Sequence[str]]) -> tuple[dict[str, Factor], np.ndarray | None]:
    """The factors of ``images`` (paths below train/ and val/, by split), both splits after each other; their groups.

    Groups (N,) are numbers of the values of the column GROUPS, None where there is none: a probe is tested on images of
    groups that it was not fitted on. A column with one value is left out. InputError for an image without a line, and
    for a file that is no such CSV.
    """
    columns: dict[str, list[str]] = {}
    for split in SPLITS:
        path = factors_file(root, split)
        header, *rows = _rows(path, root.name)
        by_image = {row[0]: row[1:] for row in rows}
        if columns and list(columns) != header[1:]:
            raise InputError(f"{path} has other columns than that of the other split: prepare {root.name} again")
        if absent := [name for name in images[split] if name not in by_image]:
            raise InputError(f"{path} has no line for {absent[0]}: add it and prepare {root.name} again")
        for place, name in enumerate(header[1:]):
            columns.setdefault(name, []).extend(by_image[image][place] for image in images[split])
    groups = next((np.unique(columns[name], return_inverse=True)[1] for name in GROUPS if name in columns), None)
    found = {name: texts for name, texts in columns.items() if len(set(texts) - {""}) > 1 and name != "group"}
    together = [name for name in POSITION if set(POSITION) <= set(found)]
    position = [factor("position", [found[name] for name in together])] if together else []
    factors = [*position, *(factor(name, [texts]) for name, texts in found.items() if name not in together)]
    return {one.name: one for one in factors}, groups


def factor(name: str, columns: Sequence[Sequence[str]]) -> Factor:
    """The factor ``name`` of the texts of its column, or of several columns that count together."""
    known = np.array([all(cells) for cells in zip(*columns, strict=True)])
    numbers = np.full((len(known), len(columns)), np.nan)
    try:
        numbers[known] = [[float(cell) for cell in cells] for cells in zip(*columns, strict=True) if all(cells)]
        numeric = bool(np.isfinite(numbers[known]).all()) and len(np.unique(numbers[known])) >= FEWEST
    except ValueError:
        numeric = False
    if not numeric:
        names, values = np.unique([", ".join(cells) for cells in zip(*columns, strict=True)], return_inverse=True)
        return Factor(name=name, kind="category", values=values, known=known, names=tuple(map(str, names)))
    if name in TURNS or name.endswith("_degrees"):
        turned = np.radians(numbers[:, 0])
        return Factor(name=name, kind="circle", values=np.stack([np.cos(turned), np.sin(turned)], 1), known=known)
    return Factor(name=name, kind="number", values=numbers, known=known)


def write_factors(path: Path, target: Path) -> None:
    """Check the user's CSV against ``target/imagenet`` and store each split's lines in ``target/factors``.

    InputError for the first line that is of no image or of several, of another length, or a repeated one, and for an
    image without a line.
    """
    try:
        rows = list(csv.reader(io.StringIO(decoded(path.read_bytes()))))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): give a CSV with a column image") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if IMAGE not in header or len(header) < 2 or len(set(header)) < len(header) or not all(header):
        raise InputError(
            f"{path}: its first line is {','.join(header)[:80]!r}: name each column once, one of them image"
        )
    taken = ["position"] if {*POSITION, "position"} <= set(header) else []  # x and y together have this name
    if taken := [*taken, *(name for name in header if name.startswith(LAYER) or not name.isprintable())]:
        raise InputError(f"{path}: a factor cannot be named {taken[0]!r:.40}: give this column another name")
    place, folder = header.index(IMAGE), target / "imagenet"
    names = {split: sorted(_names(folder / split)) for split in SPLITS}
    meant: dict[str, list[tuple[str, str]]] = {}
    for split in SPLITS:
        for name in names[split]:
            for key in (name, f"{split}/{name}"):
                meant.setdefault(key, []).append((split, name))
    found: dict[tuple[str, str], list[str]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{path}, line {number} has {len(row)} cells, not {len(header)}: correct it")
        images = meant.get(row[place], [])
        if len(images) != 1:
            fault = "is an image of both splits: write train/ or val/ before it" if images else "is no image of the set"
            raise InputError(f"{path}, line {number}: {row[place]} {fault}")
        if images[0] in found:
            raise InputError(f"{path}, line {number}: {row[place]} has two lines: keep one of them")
        found[images[0]] = [cell.strip() for at, cell in enumerate(row) if at != place]
    columns = [one for one in header if one != IMAGE]
    of_splits = [[row for (split, _), row in found.items() if split == one] for one in SPLITS]
    texts = {name: [{row[at] for row in rows} for rows in of_splits] for at, name in enumerate(columns)}
    _check_values(texts, str(path))
    for split in SPLITS:
        if absent := [name for name in names[split] if (split, name) not in found]:
            raise InputError(f"{path} has no line for {split}/{absent[0]}: add it, with empty cells for unknown values")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([IMAGE, *columns])
        writer.writerows([name, *found[split, name]] for name in names[split])
        stored = target / "factors" / f"{split}.csv.gz"
        stored.parent.mkdir(exist_ok=True)
        stored.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _rows(path: Path, name: str) -> list[list[str]]:
    """The lines of a stored file, the header first, ``image`` as the first column."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError:
        raise InputError(
            f"data set {name} has no {FILE}: give `prepare imagenet … --factors FILE`, or use the task factors-image"
        ) from None
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): prepare {name} again") from None
    if not rows or rows[0][:1] != [IMAGE] or len({len(row) for row in rows}) > 1:
        raise InputError(f"{path} is no list of factors: prepare {name} again")
    return rows


def _names(split: Path) -> list[str]:
    """Paths below ``split`` of its images."""
    start = len(f"{split}/")
    return [f"{folder}/{name}"[start:] for folder, names in visible(split) for name in filter(is_image, names)]
