"""The folder layout that every data set of this project has, and how a whole one comes to be. Imports no torch.

    python -c "from benchmarks.datasets.layout import DataRoot; print(DataRoot.load('results/data/emoji-smoke'))"

::

    <root>/imagenet/{train,val}/<class>/*.jpg
    <root>/VOCdevkit/VOC2007/{Annotations,ImageSets/Main,JPEGImages}      (VOC2012 beside it, where there is one)
    <root>/coco/{train2017,val2017,annotations/instances_{train,val}2017.json}
    <root>/data.json                                                     (written last: a root without it is not there)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    config: dict[str, Any] = field(repr=False)
    sections: dict[str, dict[str, Any]] = field(repr=False)

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
                "`python -m benchmarks prepare emoji` or `python -m benchmarks prepare voc|coco|imagenet SOURCE`"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}/data.json cannot be read ({error!r}): delete {path}, prepare it again") from None
        return cls(path=path, sections=sections, **about)

    def section(self, kind: str) -> dict[str, Any]:
        """The section ``kind`` ("imagenet", "voc" or "coco") of data.json; InputError where the root lacks it."""
        if kind not in self.sections:
            raise InputError(
                f"data set {self.name} has no {kind} layout (only {', '.join(self.sections) or 'an empty root'}): "
                f"prepare one with `python -m benchmarks prepare {kind} SOURCE`"
            )
        return self.sections[kind]

    def folder(self, kind: str) -> Path:
        """Folder of the section ``kind``: ``imagenet``, ``VOCdevkit`` or ``coco`` under the root."""
        self.section(kind)
        return self.path / ("VOCdevkit" if kind == "voc" else kind)


@contextmanager
def building(root: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``root``, renamed to ``root`` on success: a root is whole or not there.

    What killed runs left behind for the same root is removed first. A root that is already there at the end stands
    (another process has finished it meanwhile), or goes with ``replace``.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(root)
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    discarded = root.with_name(f".{root.name}.old.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if replace and root.exists():
            root.rename(discarded)
        try:
            temporary.rename(root)
        except OSError:
            if not (root / "data.json").exists():
                raise InputError(f"{root} exists and is not a data root: move it away or choose another name") from None
    finally:
        for left in (temporary, discarded):
            shutil.rmtree(left, ignore_errors=True)


def remove_stale(root: Path) -> None:
    """Delete the temporary folders of ``root`` whose process is gone."""
    for left in root.parent.glob(f".{root.name}.*.tmp"):
        process = left.name.split(".")[-2]
        if not process.isdigit() or int(process) == os.getpid() or not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
