"""Indices in headings, ``AP_{50}^{bb}``, in each format."""

from __future__ import annotations

import re
from collections.abc import Callable

INDEX = re.compile(r"([_^])\{([^{}]*)\}")


def marked_up(text: str, escape: Callable[[str], str], below: tuple[str, str], above: tuple[str, str]) -> str:
    """``text`` escaped, with what stands around ``_{…}`` and ``^{…}`` in the format."""
    parts, end = [], 0
    for found in INDEX.finditer(text):
        left, right = below if found[1] == "_" else above
        parts += [escape(text[end : found.start()]), left, escape(found[2]), right]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def plain(text: str) -> str:
    """``AP50bb``: without the indices' braces."""
    return INDEX.sub(lambda found: found[2], text)
