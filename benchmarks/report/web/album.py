"""The thumbnails of a page: each image once, as a data URI, up to a number and a size. Imports no torch."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pretrain.common.errors import InputError
from pretrain.data import decode

MOST = 120  # thumbnails
BYTES = 350_000  # of all of them and of their words, as text
QUALITY = 70  # of JPEG


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A test image with what is said of it: ``say(scale)`` is JSON, places in it scaled to the thumbnail."""

    path: Path
    side: int  # pixels of the thumbnail's longer side at most
    say: Callable[[float], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A pair's pictures of one column, the first to be shown first; ``about`` is its JSON, which ``fill`` completes."""

    about: dict[str, Any]
    pictures: Sequence[Picture]


class Album:
    """Thumbnails [data URI, width, height] in the order of their numbers."""

    def __init__(self, most: int = MOST, size: int = BYTES) -> None:
        self.most, self.size = most, size
        self.thumbs: list[tuple[str, int, int]] = []
        self._bytes = 0
        self._places: dict[tuple[Path, int], tuple[int, float] | None] = {}

    @property
    def words(self) -> str:
        """The limits, for the page."""
        return f"{self.most} images and {self.size / 1e6:.1f} MB"

    def fill(self, columns: Sequence[Column]) -> None:
        """Add the first picture of each column, then the second of each, as long as there is room."""
        for column in columns:
            column.about.update(shown=[], left=0)
        for rank in range(max((len(column.pictures) for column in columns), default=0)):
            for column in columns:
                if rank < len(column.pictures):
                    self._show(column.pictures[rank], column.about)

    def _show(self, picture: Picture, about: dict[str, Any]) -> None:
        place = self._add(picture) if self._bytes < self.size else None
        try:
            one = {"thumb": place[0], **picture.say(place[1])} if place else None
        except Exception:  # the readers raise any, on damaged files
            one = None
        if one is None:
            about["left"] += 1
            return
        self._bytes += len(json.dumps(one))
        about["shown"].append(one)

    def _add(self, picture: Picture) -> tuple[int, float] | None:
        """The thumbnail's number and scale; None where it does not fit or the image cannot be read."""
        key = picture.path, picture.side
        if key not in self._places:
            self._places[key] = self._new(picture) if len(self.thumbs) < self.most else None
        return self._places[key]

    def _new(self, picture: Picture) -> tuple[int, float] | None:
        try:
            image = decode(picture.path)
        except InputError:
            return None
        width = image.width
        image.thumbnail((picture.side, picture.side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=QUALITY, optimize=True)
        text = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        if self._bytes + len(text) > self.size:
            return None
        self._bytes += len(text)
        self.thumbs.append((text, image.width, image.height))
        return len(self.thumbs) - 1, image.width / width
