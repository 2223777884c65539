"""A series: the checkpoints of one pretraining run, named ``NAME @EPOCH`` after their files. Imports no torch."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from pretrain.common.errors import InputError

POINT = re.compile(r"(.+) @(\d+)")
"""A checkpoint's label in a series: its name and its epoch."""
_EPOCH = re.compile(r"ep(?:och)?s?[_=.-]?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def series_of(item: str, where: str) -> dict[str, Path]:
    """``NAME=PATTERN`` as label → file, in the order of epochs.

    An epoch is the number after "epoch" or "ep" in the file's name, else the last number in which the names differ.
    InputError, beginning with ``where``, for a pattern without files and for names that leave the epoch open.
    """
    name, separator, pattern = item.partition("=")
    if not separator or not name.strip() or not pattern:
        raise InputError(f"{where} {item}: give NAME=PATTERN, such as mine='/run/ckpt_*.pth'")
    files = sorted(path for path in map(Path, glob.glob(str(Path(pattern).expanduser()))) if path.is_file())  # noqa: PTH207
    if not files:
        raise InputError(f"{where} {item}: no file matches {pattern}")
    epochs = _epochs(files)
    found: dict[int, Path] = {}
    for path, epoch in zip(files, epochs, strict=True):
        if epoch is None:
            raise InputError(f"{where} {item}: no epoch in the name of {path.name}: rename it or narrow the pattern")
        if epoch in found:
            raise InputError(f"{where} {item}: {found[epoch].name} and {path.name} are both of epoch {epoch}")
        found[epoch] = path
    return {f"{name.strip()} @{epoch}": found[epoch] for epoch in sorted(found)}


def _epochs(files: list[Path]) -> list[int | None]:
    """The epoch of each file; None where its name holds none."""
    named = [_EPOCH.search(path.stem) for path in files]
    if all(named):
        return [int(one[1]) for one in named if one]
    numbers = [[int(one) for one in _NUMBER.findall(path.stem)] for path in files]
    if len({len(one) for one in numbers}) > 1:
        return [one[-1] if one else None for one in numbers]
    places = [place for place in range(len(numbers[0])) if len({one[place] for one in numbers}) > 1]
    place = places[-1] if places else len(numbers[0]) - 1
    return [one[place] if one else None for one in numbers]
