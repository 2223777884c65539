"""Text that people bring (labels, data-set names, notes, errors), made harmless where it is shown. Imports no torch.

Records keep it as it came. ``checked_label`` refuses at entry what no output can show; every output escapes the rest,
because records of earlier versions and of other people hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pretrain.common.errors import InputError, printable

LABEL_BYTES = 200  # a file's name has 255, and a log of the label has more around it


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
    """``names`` with `` (2)``, `` (3)`` … after those that an earlier one equals."""
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
    """``texts`` of at most ``width`` characters, cut in the middle; cut ones that became equal are numbered after."""
    tail = (width - 1) // 2
    return distinct(
        text if len(text) <= width else f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}" for text in texts
    )


# The characters that start something in GitHub's Markdown; underscores within a word do not, nor does a lone bracket.
_MARKDOWN = re.compile(r"[\\`*|~$<]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(|&(?=#?\w+;)|(?<=\w):(?=//)|(?<=www)\.", re.I)


def for_markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is, in a table or a paragraph: no markup, no link, no HTML, one line."""
    entities = {"<": "&lt;", "&": "&amp;"}
    return _MARKDOWN.sub(lambda found: entities.get(found[0], f"\\{found[0]}"), printable(text))


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I | re.ASCII)


def for_spreadsheet(text: str) -> str:
    """``text`` with an apostrophe before it where a spreadsheet would take it for a formula; numbers stay numbers."""
    text = printable(text)
    return (
        f"'{text}"
        if text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) and not _NUMBER.fullmatch(text)
        else text
    )
