"""The folder layout that every data set of this project has, read from its ``data.json``. Imports no torch.

    python -c "from benchmarks.datasets.layout import DataRoot; print(DataRoot.load('results/data/emoji-smoke'))"

::

    <root>/imagenet/{train,val}/<class>/*.jpg
    <root>/VOCdevkit/VOC2007/{Annotations,ImageSets/Main,JPEGImages}      (VOC2012 beside it, where there is one)
    <root>/coco/{train2017,val2017,annotations/instances_{train,val}2017.json}
    <root>/data.json                                                     (written last: a root without it is not there)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.errors import InputError

KINDS = ("imagenet", "voc", "coco")


@dataclass(frozen=True, kw_only=True)
class DataRoot:
    """A complete data set on disk: where, what it is called, whether it is synthetic, and its sections by kind."""

    path: Path
    name: str
    synthetic: bool
    description: str
    sections: dict[str, dict[str, Any]] = field(repr=False)
    config: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> DataRoot:
        """Read ``path/data.json``; InputError where there is none or it cannot be read."""
        path = Path(path)
        try:
            stored = json.loads((path / "data.json").read_text(encoding="utf-8"))
            sections = {kind: stored[kind] for kind in KINDS if kind in stored}
            about = {key: stored[key] for key in ("name", "synthetic", "description", "config")}
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path} is not a prepared data root (no data.json): make one with "
                f"`python -m benchmarks prepare emoji` or `python -m benchmarks prepare voc|coco|imagenet SOURCE`"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path / 'data.json'} cannot be read ({error!r}): delete {path} and prepare it again"
            ) from None
        return cls(path=path, sections=sections, **about)

    def section(self, kind: str) -> dict[str, Any]:
        """The section ``kind`` ("imagenet", "voc" or "coco") of data.json; InputError where the root lacks it."""
        if kind not in self.sections:
            have = ", ".join(self.sections) or "nothing"
            raise InputError(
                f"data set {self.name} has no {kind} layout (it has {have}): prepare one with `python -m benchmarks prepare {kind} SOURCE`"
            )
        return self.sections[kind]

    def folder(self, kind: str) -> Path:
        """Folder of the section ``kind``: ``imagenet``, ``VOCdevkit`` or ``coco`` under the root."""
        self.section(kind)
        return self.path / ("VOCdevkit" if kind == "voc" else kind)
