"""Lists of the training images whose labels a semi-supervised protocol may use, stored beside the layout.

    python -m benchmarks prepare imagenet SOURCE --labels-1percent 1percent.txt --labels-10percent 10percent.txt

The published lists are google-research/simclr:imagenet_subsets/1percent.txt and 10percent.txt: one file name per line,
n01440764_10026.JPEG. They are no part of the layout's fingerprint: features extracted without them stay valid.
Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.root import DataRoot
from benchmarks.data.vocxml import decoded
from pretrain.common.errors import InputError
from pretrain.data import is_image, visible

PERCENTS = (1, 10)
FLAGS = {f"labels_{percent}percent": percent for percent in PERCENTS}
"""Key in the config of data.json, and flag of `prepare imagenet` → percent."""


def write_lists(given: dict[str, Path], target: Path) -> dict[str, dict[str, Any]]:
    """Check the lists of ``given`` (its other keys are ignored) against ``target/imagenet`` and store them.

    The entries of the section's "labels": by percent, as text, the number of images and the digest. InputError for the
    first line that names no training image or several, or an image a second time, and for a class without any.
    """
    lists = {percent: given[key] for key, percent in FLAGS.items() if key in given}
    if not lists:
        return {}
    images = _by_name(target / "imagenet" / "train")
    found = {}
    for percent, path in lists.items():
        chosen = _checked(path, images)
        stored = _file(target, percent)
        stored.parent.mkdir(exist_ok=True)
        stored.write_text("".join(f"{one}\n" for one in chosen), encoding="utf-8")
        found[str(percent)] = {"images": len(chosen), "digest": names_digest(chosen)}
    return found


def stored_list(root: DataRoot, percent: int) -> list[str] | None:
    """The stored list, sorted paths such as ``class/name.jpg`` below train/; None where the root has none.

    InputError if it has changed since its preparation.
    """
    entry = list_entry(root, percent)
    if entry is None:
        return None
    path = _file(root.path, percent)
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        names = []
    if names_digest(names) != entry["digest"]:
        raise InputError(f"{path} is not the list that was prepared: prepare {root.name} again")
    return names


def list_entry(root: DataRoot, percent: int) -> dict[str, Any] | None:
    """Images and digest of the root's list of ``percent``; None without one."""
    found: dict[str, Any] | None = root.section("imagenet").get("labels", {}).get(str(percent))
    return found


def names_digest(names: Sequence[str]) -> str:
    """Sha256 hex of the names, one per line, in their order."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode(errors="surrogateescape")).hexdigest()


def _file(root: Path, percent: int) -> Path:
    return root / "labels" / f"{percent}percent.txt"


def _by_name(train: Path) -> dict[str, list[str]]:
    """Name, and path below ``train``, of every training image → the paths that it may mean."""
    found: dict[str, list[str]] = {}
    for folder, names in visible(train):
        inside = Path(folder).relative_to(train).as_posix()
        for name in filter(is_image, names):
            for key in {name, f"{inside}/{name}"}:
                found.setdefault(key, []).append(f"{inside}/{name}")
    return found


def _checked(path: Path, images: dict[str, list[str]]) -> list[str]:
    """The listed images as sorted paths below train/."""
    try:
        lines = decoded(path.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a text file with an image's name per line") from None
    chosen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not (name := line.strip()):
            continue
        meant = images.get(name, [])
        if len(meant) != 1:
            fault = "is the name of several training images: write class/name" if meant else "is not a training image"
            advice = "" if meant else ": remove it, or add the image (a dropped or held-out one is none)"
            raise InputError(f"{path}, line {number}: {name} {fault}{advice}")
        if meant[0] in chosen:
            raise InputError(f"{path}, line {number}: {name} is also in line {chosen[meant[0]]}: keep one of them")
        chosen[meant[0]] = number
    every = {one.split("/")[0] for paths in images.values() for one in paths}
    if lacking := sorted(every - {one.split("/")[0] for one in chosen}):
        raise InputError(f"{path} has no image of class {lacking[0]}: add one")
    return sorted(chosen)
