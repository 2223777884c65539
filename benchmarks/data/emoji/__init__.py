"""The embedded data set: its content (scenes, sharing, annotate) and its files (generate). Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

Pretraining = Literal["all", "same-drawings", "other-drawings", "other-classes"]
"""Drawings of the classification images beside those of the scenes: sharing.py."""
EMBEDDED: dict[str, Pretraining] = {
    "emoji": "all",
    "emoji-same-drawings": "same-drawings",
    "emoji-other-drawings": "other-drawings",
    "emoji-other-classes": "other-classes",
}
"""The embedded sets as a suite names them; their roots have the profile behind ``emoji``."""
