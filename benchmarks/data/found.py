"""Inspect a user's folder: its files by stem, the splits among its folders, and its kind of data.

python -m benchmarks prepare voc SOURCE        (an error lists the contents found, and a command that would work)
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.data.checks import IN_TRAIN, also_in
from pretrain.common import shell
from pretrain.common.errors import InputError
from pretrain.data import by_suffix, is_image, splits_among, visible

COUNTED_UP_TO = 20_000  # files of a folder, in an error message
PEEKED = 1 << 20  # bytes of a JSON file
LISTED = 8  # folders
JSON_KINDS = {
    "VIA's": ('"_via_', '"region_attributes"'),
    "LabelMe's": ('"shapes"',),
    "COCO's": ('"annotations"', '"categories"', '"images"'),
}


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sorted visible (folders, files) directly in ``folder``; a link to nothing, a pipe and the like are files."""
    folders: list[Path] = []
    files: list[Path] = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name != "__MACOSX":
            (folders if path.is_dir() else files).append(path)
    return folders, files


class Stems:
    """Files by the stem of their names; :meth:`get` also finds a stem that differs in composition or case alone."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = sorted(paths)
        self.exact: dict[str, list[Path]] = {}
        for path in self.paths:
            self.exact.setdefault(path.stem, []).append(path)
        self.folded: dict[str, list[str]] = {}
        for stem in self.exact:
            self.folded.setdefault(folded(stem), []).append(stem)

    def get(self, stem: str) -> list[Path]:
        """The files of ``stem``; those of its only other spelling; else none."""
        spellings = [stem] if stem in self.exact else self.folded.get(folded(stem), [])
        return self.exact[spellings[0]] if len(spellings) == 1 else []


def folded(text: str) -> str:
    """``text`` as macOS and Windows compare names."""
    # macOS takes names of composed and decomposed letters for the same, Windows those of other case.
    return unicodedata.normalize("NFC", text).casefold()


def split_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders that are the splits "train", "val" and "test" by their names; {} without train and another."""
    named = splits_among([folder.name for folder in folders])
    found: dict[str, Path] = {}
    for folder in sorted(folders, key=lambda path: (len(path.name), path.name)):  # train before train_masks
        if folder.name in named:
            found.setdefault(named[folder.name], folder)
    return found if {"train"} < set(found) else {}


def check_spellings(classes: Mapping[str, str]) -> None:
    """InputError for two classes whose names differ only in case, blanks, hyphens and the like, not in letters.

    The values say where each class is found.
    """
    alike: dict[str, str] = {}
    for name in classes:
        other = alike.setdefault(re.sub(r"[\s_/-]+", "_", name).casefold() if len(name) > 1 else name, name)
        if other != name:
            both = " and ".join(f'"{one}" ({classes[one]})' for one in (other, name))
            raise InputError(f"two spellings of a class: {both}: write one, or rename one if they are two classes")


def utf8(text: str) -> bool:
    """Whether a file's name is UTF-8."""
    return text.isascii() or not any("\udc80" <= one <= "\udcff" for one in text)


def in_train(train: Iterable[Path], held_out: Iterable[Path]) -> dict[str, int]:
    """The entry of data.json's validation for held-out images that are also training images; {} if none."""
    both = also_in(train, held_out)
    return {IN_TRAIN: both} if both else {}


def contents(folder: Path) -> str:
    """A summary of ``folder``: "annots/ (12 .xml), images/ (12 .png), 1 .json"."""
    folders, files = entries(folder)
    parts = []
    for inside in folders[:LISTED]:
        names = itertools.islice((name for _, names in visible(inside) for name in names), COUNTED_UP_TO)
        parts.append(f"{inside.name}/ ({by_suffix(suffixes(names)) or 'empty'})")
    if len(folders) > LISTED:
        parts.append(f"{len(folders) - LISTED} more folders")
    if files:
        parts.append(by_suffix(suffixes(path.name for path in files)))
    return ", ".join(parts) or "nothing"


def suffixes(names: Iterable[str]) -> Counter[str]:
    """How many of the file names have each suffix."""
    return Counter(Path(name).suffix for name in names)


def passed_over(counts: Mapping[str, int]) -> dict[str, str]:
    """The entry of data.json's validation for files that are not used; {} if none."""
    return {"files passed over": by_suffix(counts)} if counts else {}


def command(kind: str, folder: Path, *options: object) -> str:
    """The command that prepares ``folder``, between backticks."""
    return f"`{shell.command('benchmarks', 'prepare', kind, folder, *options)}`"


def other_kind(folder: Path, asked: str) -> str:
    """The advice for data of another kind than ``asked`` ("voc" or "imagenet"); empty if none is recognised."""
    folders, files = entries(folder)
    if backslashed := next((path for path in files if "\\" in path.name), None):
        return f"names such as {backslashed.name} are paths of an archive made on Windows: unpack it again, with 7z x"
    nested = [path for inside in folders[:LISTED] for path in entries(inside)[1]]
    for path in (path for path in [*files, *nested] if path.suffix.lower() == ".json" and path.is_file()):
        with path.open("rb") as stream:
            head = stream.read(PEEKED).decode(errors="replace")
        kind = next((kind for kind, keys in JSON_KINDS.items() if any(key in head for key in keys)), None)
        if kind == "COCO's":
            return f"{path} is COCO's JSON: {command('coco', folder)}"
        if kind:
            return f"{path} is {kind} JSON: export or convert it to COCO's, then {command('coco', folder)}"
    if any(path.suffix.lower() in (".yaml", ".yml") for path in files) and any(one.name == "labels" for one in folders):
        return f"it has YOLO's labels and .yaml: convert them to COCO's JSON, then {command('coco', folder)}"
    if asked != "voc" and any(path.suffix.lower() == ".xml" for path in [*files, *nested]):
        return f"it has XML files: {command('voc', folder)}"
    pictures = [any(map(is_image, entries(one)[1])) for one in folders[:LISTED]]
    if asked != "imagenet" and sum(pictures) > 1:
        return f"if its folders are classes: {command('imagenet', folder)}"
    if any(map(is_image, files)):
        pretrain = shell.command("pretrain", "PRESET", "--data", folder)
        return f"photographs without labels are for pretraining: `{pretrain}`"
    return ""
