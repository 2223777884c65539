"""Commands that are printed for a person to run."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """``python -m`` and ``words``, each quoted, so that it can be pasted into a shell whatever a path holds."""
    return shlex.join(["python", "-m", *map(str, words)])


def file_word(path: object) -> str:
    """``path`` as a word that no program takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
