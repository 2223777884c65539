"""Find the COCO files of a folder, the split of each, and the folder of its images.

    python -m benchmarks prepare coco SOURCE [--annotations FILE [--images DIR]] [--val-annotations FILE ...]

A file's split is in its name or folder (train, val, valid, test, minival, with or without a year); the
folder of images is found by looking for the images.
"""

from __future__ import annotations

import itertools
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data.checks import images_under, is_file
from benchmarks.data.found import command, folded, other_kind
from benchmarks.data.found import contents as contents_of
from benchmarks.data.root import DEEPEST, depth, visible_files
from pretrain.common.errors import InputError

Coco = dict[str, Any]
LISTS = ("images", "annotations", "categories")
WORDS = {
    "train": ("train", "training"),
    "trainval": ("trainval",),
    "val": ("val", "valid", "validation", "minival", "dev"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "data")
MOST_FILES = 20  # JSON files in one folder; more are one per image, which no COCO set has
SAMPLE = 200  # images looked up to find their folder
FOREIGN = (  # keys of JSON files of other formats, and the tools that write them
    ({"_via_img_metadata"}, "a project of VGG Image Annotator: export its annotations as COCO"),
    ({"filename", "regions"}, "VGG Image Annotator's own JSON: export the annotations as COCO"),
    ({"shapes", "imagePath"}, "LabelMe's JSON of one image: convert the folder with labelme2coco"),
    ({"image_id", "score"}, "a list of detections, not of annotated images: give the file of the annotations"),
    ({"image", "annotations"}, "CreateML's JSON: export the annotations as COCO"),
    ({"data", "annotations"}, "Label Studio's own JSON: export the annotations as COCO"),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One COCO file: its path and content, the folder of its images, and how many leading folders their names lose.

    ``spellings`` are the images' paths by their folded ones, where names differ from them in case or composition.
    """

    file: Path
    content: Coco
    images: Path
    strip: int = 0
    spellings: Mapping[str, str] = field(default_factory=dict, repr=False)

    def local(self, name: str) -> str:
        """A file_name as a path in the folder of images, with slashes; it may still lead out of that folder."""
        return located(self.images, name, self.strip, self.spellings) or stripped(name, self.strip)

    def files(self) -> list[Path]:
        """The paths of its images; of names that are local already."""
        return [self.images / one["file_name"] for one in self.content["images"]]


def find_parts(source: Path, named: dict[str, Path]) -> tuple[dict[str, Part], list[Path]]:
    """The COCO files for "train" and "val", or for "all" if there is only one; and those for neither.

    ``named`` are the paths given as ``--annotations``, ``--images``, ``--val-annotations`` and ``--val-images``.
    """
    for option, needed in (("val_annotations", "annotations"), ("val_images", "val_annotations")):
        if option in named and needed not in named:
            raise InputError(f"--{option.replace('_', '-')} needs --{needed.replace('_', '-')} FILE too")
    left: list[Path] = []
    if "annotations" in named:
        given = {"train": "annotations", "val": "val_annotations"}
        files = {split: named[option] for split, option in given.items() if option in named}
        contents: dict[Path, Any] = {}
    else:
        files, contents, left = _files_of(source)
    if len(files) == 1:
        files = {"all": next(iter(files.values()))}
    parts = {}
    for split, path in files.items():
        content = instances(path, contents[path] if path in contents else read_json(path))
        folder = named.get("images") if split != "val" else named.get("val_images", named.get("images"))
        parts[split] = _part(path, content, split, source, folder)
    return parts, left


def read_json(path: Path) -> Any:
    """The content of a JSON file, with or without a byte order mark; InputError if it is not JSON."""
    if not is_file(path):
        raise InputError(f"{path} is not a file: give a COCO file")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise InputError(f"{path} is nested too deep to be a COCO instances file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a COCO instances file ({type(error).__name__}: {error})") from None


def instances(path: Path, content: Any) -> Coco:
    """``content`` if it has COCO's three lists of objects; else InputError that names the file's format or keys."""
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS):
        for key in LISTS:
            for place, one in enumerate(content[key]):
                if not isinstance(one, dict):
                    raise InputError(f"{path} is not a COCO instances file (entry {place} of {key} is not an object)")
        if not content["images"]:
            raise InputError(f"{path} lists no image")
        for place, one in enumerate(content["images"]):
            if not is_text(name := one.get("file_name")):
                shown = json.dumps(name)[:80]
                raise InputError(f"file_name of entry {place} of images in {path} is {shown}, not text")
        if content["annotations"] and all("segments_info" in one for one in content["annotations"]):
            raise InputError(f"{path} is COCO's panoptic file, not one of instances: give the instances file")
        for where, value in _unusual(content):
            if depth(value) > DEEPEST:
                raise InputError(f"{path} is nested more than {DEEPEST} levels deep ({where}): remove that")
        return content
    first = next(iter(content), None) if isinstance(content, list) else content
    first = first if isinstance(first, dict) else {}
    values = next((value for value in first.values() if isinstance(value, dict)), {})
    for keys, name in FOREIGN:
        if keys <= set(first) or keys <= set(values):
            raise InputError(f"{path} is not a COCO instances file but {name}")
    missing = [key for key in LISTS if not isinstance(first.get(key), list) or isinstance(content, list)]
    has = f"its keys are {', '.join(map(str, list(content)[:6]))}" if isinstance(content, dict) and content else ""
    kind = has or f"it holds {'a list' if isinstance(content, list) else 'no object with keys'}"
    raise InputError(f"{path} is not a COCO instances file (no list {', '.join(missing)}; {kind[:200]})")


def is_text(value: Any) -> bool:
    """Whether ``value`` is a text that can be a file's name: neither empty, nor with NUL or half a character."""
    return isinstance(value, str) and bool(value) and not re.search("[\0\ud800-\udfff]", value)


def _unusual(content: Coco) -> Iterable[tuple[str, Any]]:
    """Every nested value and its place, except boxes and masks, which are checked one by one."""
    yield from ((f"key {key}", value) for key, value in content.items() if key not in LISTS)
    for key in LISTS:
        for place, one in enumerate(content[key]):
            for name, value in one.items():
                if isinstance(value, dict | list) and name not in ("bbox", "segmentation"):
                    yield f"{name} of entry {place} of {key}", value


def _files_of(source: Path) -> tuple[dict[str, Path], dict[Path, Any], list[Path]]:
    """The COCO file of each split, contents that had to be read for that, and the files for neither split."""
    standard = {split: source / "annotations" / f"instances_{split}2017.json" for split in ("train", "val")}
    if all(path.is_file() for path in standard.values()):
        return standard, {}, []
    files = found = _json_files(source)
    contents: dict[Path, Any] = {}
    train, held_out = _by_split(source, found)
    if len(found) > 1 and (len(train), len(held_out)) != (1, 1):  # ambiguous names: drop files that are not COCO's
        contents = {path: _read_or_none(path) for path in found}
        files = [path for path in found if _is_instances(contents[path])]
        train, held_out = _by_split(source, files)
    if not files:
        raise InputError(_nothing_found(source, found, contents))
    if len(files) == 1:
        return {"all": files[0]}, contents, []
    if (len(train), len(held_out)) != (1, 1):
        names = ", ".join(path.relative_to(source).as_posix() for path in files[:6])
        first = (train or files)[0]
        other = next(path for path in (*held_out, *files) if path != first)
        raise InputError(
            f"{source} has {len(files)} COCO files ({names}{', …' if len(files) > 6 else ''}), and their names do not "
            "say which one is for training and which one for testing: choose, as in "
            f"{command('coco', source, '--annotations', first, '--val-annotations', other)}"
        )
    return {"train": train[0], "val": held_out[0]}, contents, [p for p in files if p not in (train[0], held_out[0])]


def _json_files(source: Path) -> list[Path]:
    """JSON files at most two folders down; of COCO's own folder of annotations only the instances."""
    folders: dict[Path, list[Path]] = {}
    for pattern in ("*.json", "*/*.json", "*/*/*.json"):
        for path in sorted(source.glob(pattern)):
            if is_file(path) and not any(part.startswith(".") for part in path.relative_to(source).parts):
                folders.setdefault(path.parent, []).append(path)
    found = [path for inside in folders.values() if len(inside) <= MOST_FILES for path in inside]
    return [path for path in found if path.name.startswith("instances_")] or found


def _by_split(source: Path, files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files for training and those for testing, by a split's word in their name or else their folder's."""
    found: dict[str, list[Path]] = {split: [] for split in WORDS}
    for path in files:
        names = (path.stem, *path.relative_to(source).parent.parts[::-1])
        if split := next(filter(None, map(_split_of, names)), None):
            found[split].append(path)
    if found["trainval"] and not found["train"]:
        return found["trainval"], found["test"]
    held_out = found["val"] or found["test"]
    exact = [path for path in held_out if "minival" not in path.stem]
    return found["train"], exact if len(exact) == 1 else held_out


def _split_of(name: str) -> str | None:
    """The split whose word is in ``name``, as in instances_val2017 and instancesVal."""
    words = {word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return next((split for split, known in WORDS.items() if words & set(known)), None)


def _read_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except InputError:
        return None


def _is_instances(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def _nothing_found(source: Path, found: list[Path], contents: dict[Path, Any]) -> str:
    """The error for a folder without a COCO file: its contents, and a command that would work, if any."""
    if found:
        one = found[0]
        keys = ", ".join(map(str, list(contents[one])[:6])) if isinstance(contents.get(one), dict) else ""
        about = f" with the keys {keys[:120]}" if keys else ""
        return f"{source} has {len(found)} JSON files and none is a COCO instances file ({one.name}{about}): export one"
    files = [path for path in visible_files(source) if is_file(Path(path))]
    for suffix, kind in ((".json", "coco"), (".xml", "voc")):
        first = next((Path(path) for path in files if path.lower().endswith(suffix)), None)
        if first and suffix == ".json" and len(list(first.parent.glob("*.json"))) > MOST_FILES:
            return f"{first.parent} has a JSON file per image, as LabelMe writes them: make one COCO file of them"
        if first:
            above = first.parent.parent if first.parent.name.lower().startswith("anno") else first.parent
            above = above.parent if _split_of(above.name) else above
            return (
                f"{source} has no JSON file at most two folders down, but there is {first}: run {command(kind, above)}"
            )
    advice = other_kind(source, "coco") or "name it with --annotations FILE"
    return f"{source} has no JSON file (it has {contents_of(source)}): {advice}"


def _part(file: Path, content: Coco, split: str, source: Path, given: Path | None) -> Part:
    """The COCO file with the folder that holds its images: the one given, or the one in which they are."""
    if given and not given.is_dir():
        raise InputError(f"{given} is not a folder: give the folder of the images of {file}")
    names = [one["file_name"] for one in content["images"]]
    sample = names[:: max(1, len(names) // SAMPLE)]
    shared = _shared_folders(sample)
    best, folders, strip, spellings = 0, [], 0, dict[Path, dict[str, str]]()
    steps = [(number, False) for number in range(shared + 1)] + [(number, True) for number in range(shared + 1)]
    for number, fold in steps:
        for places in [[given]] if given else _places(file, split, source):
            if fold:
                spellings |= {place: _spellings(place) for place in places if place not in spellings}
            counts = {
                place: sum(bool(located(place, name, number, spellings.get(place, {}))) for name in sample)
                for place in places
            }
            if (most := max(counts.values(), default=0)) > best:
                best, folders, strip = most, [place for place, count in counts.items() if count == most], number
            if best == len(sample):
                break
        if best == len(sample):
            break
    if len(folders) > 1:
        choices = ", ".join(str(path) for path in folders[:4])
        raise InputError(
            f"{len(folders)} folders may hold the images of {file} ({choices}): name one with --images DIR"
        )
    if not folders:
        looked = given or source
        if any(not inside(stripped(name, 0)) for name in sample[:1]):
            raise InputError(
                f"{file} has file names that lead out of the images' folder, such as {sample[0]!r}: "
                f"only images in {looked} are read: give their folder with --images DIR"
            )
        there = f"{looked}, which has {contents_of(looked)}"
        advice = "name their folder with --images DIR"
        of_name = {path.name: path for path in images_under(looked)}
        if below := of_name.get(stripped(names[0], 0).rsplit("/", 1)[-1]):
            advice = f"it may be {below.relative_to(looked)}: write file_name as the path from --images DIR on"
        raise InputError(f"no image of {file} ({names[0]}, …) is in {there}: {advice}")
    folder = folders[0]
    return Part(file=file, content=content, images=folder, strip=strip, spellings=spellings.get(folder, {}))


def _places(file: Path, split: str, source: Path) -> list[list[Path]]:
    """Folders that may hold the images of ``file``, the likeliest first; those in one list are equally likely."""
    stem = file.stem.removeprefix("instances_")
    year = re.search(r"\d*$", stem)[0]  # type: ignore[index]  # it always matches
    words = [stem, *(word + year for word in WORDS.get(split, ())), *WORDS.get(split, ())]
    bases = list(dict.fromkeys([file.parent, file.parent.parent, source]))
    bases = [base for base in bases if base == file.parent or base.is_relative_to(source)]
    below = {base: [path for path in sorted(base.glob("[!.]*")) if path.is_dir()] for base in bases}
    ordered = [base / above / word for word in words for base in bases for above in ("", "images")]
    ordered += [path for name in IMAGE_FOLDERS for base in bases for path in below[base] if path.name.lower() == name]
    ordered += bases
    rest = [path for base in bases for path in below[base]]
    return [[path] for path in dict.fromkeys(ordered) if path.is_dir()] + [list(dict.fromkeys(rest))]


def _shared_folders(names: list[str]) -> int:
    """How many leading folders all names share."""
    folders = [stripped(name, 0).split("/")[:-1] for name in names]
    levels = zip(*folders, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))


def located(folder: Path, name: str, strip: int, spellings: Mapping[str, str]) -> str:
    """The path in ``folder`` of the image ``name`` without its first ``strip`` folders; "" if it does not exist."""
    local = stripped(name, strip)
    for one in (local,) if strip else (name, local):
        if inside(one) and is_file(folder / one):
            return one
    return spellings.get(folded(local), "")


def _spellings(folder: Path) -> dict[str, str]:
    """The images under ``folder`` by their folded paths, but those that share one."""
    found: dict[str, list[str]] = {}
    for path in images_under(folder):
        name = path.relative_to(folder).as_posix()
        found.setdefault(folded(name), []).append(name)
    return {key: names[0] for key, names in found.items() if len(names) == 1}


def stripped(name: str, strip: int) -> str:
    """``name`` with slashes for backslashes, without detours and its first ``strip`` folders."""
    return "/".join(posixpath.normpath(name.replace("\\", "/")).split("/")[strip:])


def inside(name: str) -> bool:
    """Whether the relative path ``name`` stays in the folder that it starts from."""
    return not posixpath.isabs(name) and posixpath.normpath(name).split("/")[0] != ".."
