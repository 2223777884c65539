"""User-supplied text (labels, data-set names, notes, errors), escaped for each output format. Imports no torch.

Records keep it unchanged. ``checked_label`` rejects labels that no output can show; every output escapes the rest,
because records of earlier versions and of other people may hold any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pretrain.common.errors import InputError, printable

LABEL_BYTES = 200  # file names are limited to 255 bytes, and a log's name adds to the label


def checked_label(label: str) -> str:
    """``label`` without the spaces around it; InputError if it is empty, not printable or longer than 200 bytes."""
    label = label.strip()
    if not label:
        raise InputError("a checkpoint's name is empty: give NAME=PATH")
    if not label.isprintable():
        shown = shortened([printable(label)], 60)[0]
        raise InputError(f"the checkpoint's name {shown} has characters that cannot be printed: give another NAME=PATH")
    if len(label.encode()) > LABEL_BYTES:
        shown = shortened([label], 60)[0]
        raise InputError(f"the checkpoint's name {shown} has more than {LABEL_BYTES} bytes: give a shorter NAME=PATH")
    return label


def distinct(names: Iterable[str]) -> list[str]:
    """``names`` with `` (2)``, `` (3)`` … appended to repeated ones."""
    used: dict[str, int] = {}
    found = []
    for name in names:
        candidate = name
        while candidate in used:
            used[name] += 1
            candidate = f"{name} ({used[name]})"
        used[candidate] = 1
        found.append(candidate)
    return found


def shortened(texts: Iterable[str], width: int) -> list[str]:
    """``texts`` of at most ``width`` characters, cut in the middle; equal results are numbered."""
    tail = (width - 1) // 2
    return distinct(
        text if len(text) <= width else f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}" for text in texts
    )


# Characters with a meaning in GitHub's Markdown; underscores within a word and a lone bracket have none.
_MARKDOWN = re.compile(r"[\\`*|~$<]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(|&(?=#?\w+;)|(?<=\w):(?=//)|(?<=www)\.", re.I)


def for_markdown(text: str) -> str:
    """``text`` escaped so that Markdown shows it literally in a table or text: no markup, link or HTML, one line."""
    entities = {"<": "&lt;", "&": "&amp;"}
    return _MARKDOWN.sub(lambda found: entities.get(found[0], f"\\{found[0]}"), printable(text))


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I | re.ASCII)


def for_spreadsheet(text: str) -> str:
    """``text`` with an apostrophe before it if a spreadsheet would read it as a formula; numbers stay numbers."""
    text = printable(text)
    return (
        f"'{text}"
        if text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) and not _NUMBER.fullmatch(text)
        else text
    )
