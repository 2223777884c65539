"""Read detectron2's ``.pkl`` without running any code from it, see transfer.checkpoints.reading.safe_pickle.

Imports no torch. ``python -m transfer verify FILE.pkl`` reads one.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.common.errors import InputError
from transfer.checkpoints.reading.pickle_values import LimitedStream, PlainArray
from transfer.checkpoints.reading.safe_pickle import PlainUnpickler


def read_detectron2_pkl(path: Path | str) -> dict[str, Any]:
    """A detectron2 ``.pkl`` as {"model": {name: array}, "__author__": …}; only arrays and plain values are built."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _parse(lambda: _mapped(path), path)


def parse_detectron2_pkl(data: bytes, path: Path) -> dict[str, Any]:
    """As read_detectron2_pkl, for the bytes of ``path``."""
    return _parse(lambda: LimitedStream(io.BytesIO(data), len(data)), path)


def _mapped(path: Path) -> LimitedStream:
    """The file as a stream that takes no memory."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return LimitedStream(mapped, len(mapped))


def _parse(limited: Callable[[], LimitedStream], path: Path) -> dict[str, Any]:
    try:
        content = PlainUnpickler(limited()).load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path}: truncated or not a pickle ({first_sentence(error)})") from None
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or "__author__" not in content:
        raise InputError(f'{path}: not a detectron2 weight file (no "model" and "__author__" inside)')
    strange = [name for name, value in model.items() if not isinstance(value, PlainArray) or not value.of_numbers]
    if strange:
        raise InputError(f"{path}: {strange[0]} is not an array of numbers")
    return content | {"model": {name: value.view(np.ndarray) for name, value in model.items()}}


def first_sentence(error: BaseException) -> str:
    """The first sentence of the error: torch's errors continue with advice that does not apply here."""
    return " ".join(str(error).split()).split(". ")[0][:160] or type(error).__name__
