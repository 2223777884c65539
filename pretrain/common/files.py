"""Where generated files go, files that are whole or absent, and fingerprints of data folders. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from pretrain.common.claims import Claim, claimed

ANNOTATION_SUFFIXES = frozenset({".xml", ".json", ".txt", ".csv", ".gz"})
LARGEST_JSON = 4 * 2**20  # bytes; a record has some 10 kB
LEVEL = 1  # of zlib: masks of COCO's test set in seconds, not a minute, and little larger
MOST_LINKS = 1000  # to one folder, in one walk: links that share their targets multiply at each level


def results_dir() -> Path:
    """Folder of everything generated: RESULTS_DIR, else results/ of the checkout."""
    return Path(os.environ.get("RESULTS_DIR") or Path(__file__).resolve().parents[2] / "results")


def data_dir() -> Path:
    """Folder of generated and prepared data sets: DATA_DIR, else ``results_dir()/data``."""
    return Path(os.environ.get("DATA_DIR") or results_dir() / "data")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it there on success, so that ``path`` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, about: str = "") -> Iterator[Claim]:
    """Hold ``folder`` against other processes, on this host and on others; a second one says so and waits.

    It ends with its process, however that ends. ``about``: the work in words, for `status`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock, claimed(folder, about, lock) as claim:
        for half_written in folder.glob(".*.tmp"):  # left by a process killed during a save
            half_written.unlink(missing_ok=True)
        yield claim


def require_writable(folder: Path) -> None:
    """Raise OSError, before work whose result could not be kept, if files under ``folder`` cannot be written.

    Nothing is left there, nor is the folder made.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=there) as stream:
            stream.write(bytes(2**16))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(there)) from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON, atomically. ValueError as of ``json_text``."""
    text = json_text(value)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """``value`` as readable JSON. ValueError with the place of the first NaN or infinity: store null."""
    try:
        return json.dumps(value, indent=1, allow_nan=False) + "\n"
    except ValueError:
        for place, number in _numbers(value):
            if not math.isfinite(number):
                raise ValueError(f"{place} is {number}, which JSON does not have") from None
        raise


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """(place, number) of all floats in mappings and sequences, such as ``metrics.top1`` or ``rates.3``."""
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, Mapping | list | tuple):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _numbers(one, f"{place}.{key}" if place else str(key))


def read_text(path: Path, most: int = LARGEST_JSON) -> str:
    """The UTF-8 text of a regular file of at most ``most`` bytes; ValueError for another, OSError if it is unreadable.

    Nothing else is opened: a pipe would wait for its writer, and a file of /proc without a size may have no end.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # by number: tens of thousands of records are read
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("a folder" if stat.S_ISDIR(about.st_mode) else "not a regular file")
        if not about.st_size:
            raise ValueError("an empty file")
        if about.st_size > most:
            raise ValueError(f"a file of {about.st_size / 2**20:,.0f} MB")
        content = b""
        while part := os.read(file, most - len(content)):
            content += part
    finally:
        os.close(file)
    return content.decode("utf-8-sig")  # some editors put a byte order mark first


def read_mapping(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file that anybody may have written; None where there is none, or none that can be read."""
    try:
        value = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def digest(value: Any) -> str:
    """Sha256 hex of ``value``'s canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 hex of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(root: Path | str) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` with links followed. OSError for a folder that cannot be read, ELOOP for links that do not end."""

    def stop(error: OSError) -> None:
        raise error

    visits: Counter[tuple[int, int]] = Counter()
    above: dict[str, frozenset[tuple[int, int]]] = {}
    for folder, inside, names in os.walk(Path(root), followlinks=True, onerror=stop):
        status = Path(folder).stat()
        own, parents = (status.st_dev, status.st_ino), above.get(folder.rpartition("/")[0], frozenset())
        visits[own] += 1
        if own in parents or visits[own] > MOST_LINKS:
            raise OSError(errno.ELOOP, "links lead round and round, or multiply", folder)
        above[folder] = parents | {own}
        yield folder, inside, names


def fingerprint(root: Path, *, hash_images: bool = False) -> str:
    """Sha256 hex over the sorted relative paths and sizes under ``root``, with the bytes of annotation files.

    Links are followed. ``hash_images`` adds the bytes of every other file too. Hidden files and ``data.json`` (which
    holds the result) are left out. OSError for what cannot be read, also for a pipe, socket or device.
    """
    total = hashlib.sha256()
    files = sorted(
        (Path(folder, name).relative_to(root).as_posix(), Path(folder, name))
        for folder, _, names in walk(root)
        for name in names
        if not name.startswith(".") and name != "data.json"
    )
    for relative, path in files:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        total.update(f"{relative}\0{status.st_size}\0".encode())
        if hash_images or path.suffix.lower() in ANNOTATION_SUFFIXES:
            total.update(bytes.fromhex(file_sha256(path)))
    return total.hexdigest()


def require_arrays(found: object, shapes: Mapping[str, tuple[int, ...]], limits: Mapping[str, int]) -> None:
    """ValueError for the first array of ``found``, named as its attribute, of another shape, or with a number that is
    not whole or outside 0 … limit − 1: files may come from other people."""
    for name, shape in shapes.items():
        if (there := getattr(found, name).shape) != shape:
            raise ValueError(f"{name} has the shape {there}, not {shape}")
    for name, limit in limits.items():
        values = getattr(found, name)
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= limit):
            raise ValueError(f"{name} is not of whole numbers from 0 to {limit - 1}")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``path`` as numpy.savez_compressed does, but faster, and whole or not at all."""
    import numpy as np

    method = zipfile.ZIP_DEFLATED
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", method, compresslevel=LEVEL) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)
