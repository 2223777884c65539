"""The folder layout of every data set of this project, and its atomic creation. Imports no torch.

    python -c "from benchmarks.data.root import DataRoot; print(DataRoot.load('results/data/emoji-smoke'))"

::

    <root>/imagenet/{train,val}/<class>/*.jpg                             (`prepare torchvision`: held_out.txt beside)
    <root>/VOCdevkit/VOC2007/{Annotations,ImageSets/Main,JPEGImages}      (VOC2012 beside it, where there is one)
    <root>/coco/{train2017,val2017,annotations/instances_{train,val}2017.json}
    <root>/cityscapes/{leftImg8bit,gtFine,annotations/instances_{train,val}.json}
    <root>/lvis/{train2017,val2017,annotations/lvis_v1_{train,val}.json}
    <root>/keypoints/{train2017,val2017,annotations/person_keypoints_{train,val}2017.json}
    <root>/data.json                                                     (written last: a root without it is incomplete)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from benchmarks.data.layouts import LAYOUTS
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir, file_sha256, results_dir
from pretrain.common.shell import command
from pretrain.data import visible

DEEPEST = 50  # levels of nesting in JSON: more is an attack that would break copying and printing
NAMED = (  # files beside the source: of `prepare coco`, then of `prepare imagenet`
    *("annotations", "images", "val_annotations", "val_images"),
    *("labels_1percent", "labels_10percent", "factors"),
)


class Section(TypedDict):
    """A layout's part of data.json. ``counts`` by split: images, or of voc and coco a count of each kind of thing."""

    classes: list[str]
    counts: dict[str, Any]
    fingerprint: str
    train: NotRequired[list[list[str]]]  # of voc: (folder, image set) of each part of the split
    test: NotRequired[list[list[str]]]
    masks: NotRequired[str]  # of coco: polygon, rle or none
    held_out: NotRequired[str]  # of imagenet: its file that lists the published val part of train, a path per line
    score: NotRequired[str]  # of imagenet: the published metric, top1 or mean-per-class
    labels: NotRequired[dict[str, Any]]  # of imagenet: by percent, images and digest of a list (data/labels.py)
    written: NotRequired[str]  # digest of the files that `prepare` wrote, absent from the generated set
    validation: NotRequired[dict[str, Any]]  # corrections and warnings, for people


@dataclass(frozen=True, kw_only=True)
class DataRoot:
    """A complete data set on disk: its path, name, whether it is synthetic, and its sections by kind."""

    path: Path
    name: str
    synthetic: bool
    description: str
    config: dict[str, Any] = field(repr=False)
    sections: dict[str, Section] = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> DataRoot:
        """Read ``path/data.json``; InputError if it is absent or cannot be read."""
        path = Path(path)
        try:
            if (path / "data.json").exists() and not (path / "data.json").is_file():
                raise TypeError("no file")  # a pipe would be waited for
            stored = json.loads((path / "data.json").read_text(encoding="utf-8"))
            _check_shape(stored)
            sections = {kind: stored[kind] for kind in LAYOUTS if kind in stored}
            about = {key: stored[key] for key in ("name", "synthetic", "description", "config")}
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path} is not a prepared data root (no data.json): make one with "
                "`python -m benchmarks prepare emoji` or `python -m benchmarks prepare voc|coco|imagenet SOURCE`"
            ) from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}/data.json cannot be read ({error!r}): delete {path}, prepare it again") from None
        return cls(path=path, sections=sections, **about)

    def section(self, kind: str) -> Section:
        """The section ``kind``, one of LAYOUTS, of data.json; InputError if the root lacks it."""
        if kind not in self.sections:
            layout = LAYOUTS[kind]
            raise InputError(
                f"data set {self.name} has no {kind} layout (only {', '.join(self.sections) or 'an empty root'}): "
                f"prepare one with `python -m benchmarks prepare {layout.prepare} SOURCE`"
                + (f", with {layout.needs}" if layout.needs else "")
            )
        return self.sections[kind]

    def folder(self, kind: str) -> Path:
        """Folder of the section ``kind``, such as ``VOCdevkit``, under the root."""
        self.section(kind)
        return self.path / LAYOUTS[kind].folder

    def check_unchanged(self) -> None:
        """InputError if the user's files, or the root's own, have changed since its preparation.

        The root's links show the files as they are now, but its fingerprints date from its preparation.
        The generated set links to nothing: no check. It takes 0.1 s for 12,000 files.
        """
        if "state" not in self.config:
            return
        changed = self.config["source"] if source_state(self.config) != self.config["state"] else None
        if not changed and self.is_edited():
            changed = f"the copy of the annotations in {self.path}"
        if not changed:
            return
        options = [key for key in ("val_fraction", "seed", *NAMED) if key in self.config]
        given = [word for key in options for word in (f"--{key.replace('_', '-')}", str(self.config[key]))]
        given += ["--drop-unreadable"] * ("drop_unreadable" in self.config)
        kind = [self.config[key] for key in ("kind", "set") if key in self.config]
        again = ("benchmarks", "prepare", *kind, self.config["source"], "--name", self.name, *given)
        raise InputError(f"{changed} has changed since {self.name} was prepared: run `{command(*again)}` again")

    def is_edited(self) -> bool:
        """Whether a file that `prepare` wrote into the root has changed; False for roots without a digest."""
        return any(
            "written" in section and written_digest(self.folder(kind)) != section["written"]
            for kind, section in self.sections.items()
        )


def _check_shape(stored: Any) -> None:
    """TypeError or KeyError if a data.json is not as `prepare` writes it."""
    if depth(stored) > DEEPEST:
        raise TypeError(f"nested more than {DEEPEST} levels deep")
    sections = {kind: stored[kind] for kind in LAYOUTS if kind in stored}
    texts = [stored["name"], stored["description"], *(one["fingerprint"] for one in sections.values())]
    texts += [name for one in sections.values() for name in one["classes"]]
    texts += [one[key] for one in sections.values() for key in ("held_out", "score") if key in one]
    if "state" in stored["config"]:
        texts += [stored["config"][key] for key in ("kind", "source", "state")]
    if not all(isinstance(one, str) for one in texts) or not stored["name"] or "/" in stored["name"]:
        raise TypeError("a name or a fingerprint is no text")
    if not all(isinstance(one, dict) for section in sections.values() for one in (section, section["counts"])):
        raise TypeError("a section or its counts are no object")
    lists = stored.get("imagenet", {}).get("labels", {})
    if not isinstance(lists, dict) or not all(isinstance(one, dict) for one in lists.values()):
        raise TypeError("the lists of labels are no objects")
    if not all(isinstance(one["digest"], str) for one in lists.values()):
        raise TypeError("the digest of a list of labels is no text")


def depth(value: Any) -> int:
    """Levels of lists and objects in ``value``, counted up to DEEPEST + 1."""
    level, values = 0, [value]
    while level <= DEEPEST and (nested := [one for one in values if isinstance(one, dict | list)]):
        values = [item for one in nested for item in (one.values() if isinstance(one, dict) else one)]
        level += 1
    return level


def written_digest(folder: Path) -> str:
    """Sha256 hex over names and bytes of the files under ``folder`` that `prepare` wrote: no links, none hidden."""
    total = hashlib.sha256()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            if not path.is_symlink() and path.is_file():
                name = path.relative_to(folder).as_posix()
                total.update(f"{name}\0".encode(errors="surrogateescape") + bytes.fromhex(file_sha256(path)))
    return total.hexdigest()


def source_state(config: dict[str, Any]) -> str:
    """Sha256 hex over names, sizes and times of the user's files that ``config`` (of data.json) names."""
    total = hashlib.sha256()
    for source in (config[key] for key in ("source", *NAMED) if key in config):
        for path in visible_files(source) if Path(source).is_dir() else [source]:
            try:
                status = Path(path).stat()
                about = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # a broken link
                about = "absent"
            total.update(f"{path}\0{about}\0".encode(errors="surrogateescape"))
    return total.hexdigest()


def visible_files(folder: Path | str) -> list[str]:
    """Sorted paths of the files under ``folder``, links followed; hidden and generated files are left out."""
    generated = {str(results_dir().resolve()), str(data_dir().resolve())}
    return sorted(f"{place}/{name}" for place, names in visible(folder, generated) for name in names)


@contextmanager
def building(root: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``root``, renamed to ``root`` on success: a root is complete or absent.

    Leftovers of killed runs for the same root are removed first. A root that exists at the end is kept
    (another process has finished it meanwhile), or replaced with ``replace``.
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
