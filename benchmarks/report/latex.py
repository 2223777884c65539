"""Text in LaTeX."""

from __future__ import annotations

from pretrain.common.errors import printable

_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "−": "$-$",
    "–": "--",
}


def escape(text: str) -> str:
    """``text`` for LaTeX; characters outside Latin-1 that have no entry are left to the document's encoding."""
    escaped = "".join(_TEX.get(character, character) for character in printable(text))
    # After the \\ of the preceding row, a bracket or a star would be read as its argument.
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
