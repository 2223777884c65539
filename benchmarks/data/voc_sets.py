"""Find the image sets of PASCAL VOC data: annotations, their images, and the lists or folders that split them.

    python -m benchmarks prepare voc SOURCE        (an error lists the contents of SOURCE)

If there is a test split, the training set is train and val, as in VOC's trainval.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.data.checks import fatal
from benchmarks.data.found import Stems, command, contents, entries, other_kind, split_folders, utf8
from benchmarks.data.vocxml import decoded
from pretrain.common.errors import InputError
from pretrain.data import is_image

ANNOTATIONS = ("annotations", "annotation", "annots", "labels", "xml", "xmls")
IMAGES = ("jpegimages", "images", "image", "imgs", "img")
LISTS = {"trainval": "trainval", "train": "train", "val": "val", "valid": "val", "test": "test"}
LONGEST = 200  # bytes of a name that becomes a file name
DEPTH = 3  # levels of folders searched for a set
TWICE, ONCE = "image twice in the splits", "list it once"


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A folder of XML files and one of images, which may be the same; other files in them are ignored."""

    annotations: Path
    images: Path
    xml: Stems = field(repr=False)
    pictures: Stems = field(repr=False)
    others: frozenset[Path] = field(repr=False)

    @classmethod
    def of(cls, annotations: Path, images: Path) -> Place:
        """The place's files as they are. InputError for two annotations of the same name."""
        files = {path for folder in {annotations, images} for path in entries(folder)[1]}
        xml = {path for path in files if path.parent == annotations and is_xml(path)}
        pictures = {path for path in files if path.parent == images and is_image(path)}
        found = cls(
            annotations=annotations,
            images=images,
            xml=Stems(xml),
            pictures=Stems(pictures),
            others=frozenset(files - xml - pictures),
        )
        fatal(
            "two annotations of one name",
            [paths[1] for paths in found.xml.exact.values() if len(paths) > 1],
            "keep one",
        )
        return found


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One list of images, and which split of the standard view it belongs to."""

    split: str
    """ "train" or "test"; "all" for the images of a source without lists, until they are split."""
    folder: str
    """Of the standard view: VOC2007 or VOC2012."""
    name: str
    place: Place
    files: dict[str, Path]
    """The XML file of each image, by its id."""

    def only(self, ids: Iterable[str]) -> ImageSet:
        """The set without its images that are not among ``ids``."""
        kept = set(ids)
        return replace(self, files={name: path for name, path in self.files.items() if name in kept})


def is_xml(path: Path) -> bool:
    """Whether a file's name is that of an annotation."""
    return path.suffix.lower() == ".xml"


def find_sets(source: Path) -> list[ImageSet]:
    """The image sets of ``source``: VOC 2007 + 2012 as usually trained on, or the folder's own, or one of all images.

    InputError lists the contents if they are not VOC data, or several sets of it.
    """
    below = [source]
    for _ in range(1 + DEPTH):
        there = {folder: sets for folder in below if (sets := sets_in(folder))}
        if len(there) > 1:
            names = ", ".join(str(folder.relative_to(source)) for folder in there)
            raise InputError(f"{source} holds several sets ({names}): prepare one, {command('voc', next(iter(there)))}")
        if there:
            return next(iter(there.values()))
        below = [inside for folder in below for inside in entries(folder)[0]]
    advice = other_kind(source, "voc") or "give a VOC devkit, or a folder with the XML files and one with the images"
    raise InputError(f"{source} has no XML annotations with their images; it has {contents(source)}: {advice}")


def sets_in(folder: Path) -> list[ImageSet]:
    """The image sets directly in ``folder``; [] where it is no VOC data."""
    devkit = folder / "VOCdevkit" if (folder / "VOCdevkit").is_dir() else folder
    years = {year: found for year in ("VOC2007", "VOC2012") if (found := place_in(devkit / year))}
    if len(years) == 2:
        lists = {year: lists_in(devkit / year) for year in years}
        wanted = (("VOC2007", "train"), ("VOC2007", "test"), ("VOC2012", "train"))
        return [
            listed_set(year, split, _lists_of(split, lists[year], devkit / year), years[year]) for year, split in wanted
        ]
    holder = devkit / next(iter(years)) if years else devkit
    if place := next(iter(years.values()), None) or place_in(holder):
        whole = ImageSet(
            split="all", folder="VOC2007", name="all", place=place, files={path.stem: path for path in place.xml.paths}
        )
        return own_lists(holder, place) or [whole]
    return split_sets(holder)


def place_in(folder: Path) -> Place | None:
    """The annotations and images in ``folder``: each in a folder with a usual name, or in the only one with such files.

    None where there are none, or more than one could be meant.
    """
    if not folder.is_dir():
        return None
    places = [*entries(folder)[0], folder]
    xml = [place for place in places if any(map(is_xml, entries(place)[1]))]
    images = [place for place in places if any(map(is_image, entries(place)[1]))]
    annotations = _named(xml, ANNOTATIONS)
    if not annotations:
        return None
    pictures = _named(images, IMAGES) or (annotations if annotations in images else None)
    return Place.of(annotations, pictures) if pictures else None


def _named(places: list[Path], names: tuple[str, ...]) -> Path | None:
    """The first by the order of ``names``, or the only one of ``places``."""
    usual = [place for name in names for place in places if place.name.lower() == name]
    return next(iter(usual or (places if len(places) == 1 else [])), None)


def split_sets(folder: Path) -> list[ImageSet]:
    """The sets of a source with a folder for each split; [] where it has none.

    Either ``train`` holds the annotations and images (of which there may be one folder each), or ``images/train`` the
    images of ``annotations/train`` or of ``annotations``.
    """
    folders = entries(folder)[0]
    places = {split: place for split, one in split_folders(folders).items() if (place := place_in(one))}
    if not places:
        images, annotations = _named(folders, IMAGES), _named(folders, ANNOTATIONS)
        if images and annotations and images != annotations:
            for split, one in split_folders(entries(images)[0]).items():
                own = annotations / one.name
                places[split] = Place.of(own if own.is_dir() else annotations, one)
    if not {"train"} < set(places):
        return []
    files = {split: place.xml.paths for split, place in places.items()}
    if len({place.annotations for place in places.values()}) == 1:
        for split, place in places.items():
            files[split] = [path for path in place.xml.paths if place.pictures.get(path.stem)]
        # Annotations without any image count as missing in train.
        rest = set(places["train"].xml.paths).difference(*files.values())
        files["train"] = [*files["train"], *sorted(rest)]
    stems = Counter(path.stem for paths in files.values() for path in paths)
    unique = stems.total() == len(stems)
    return [
        ImageSet(
            split="test" if split == ("test" if "test" in places else "val") else "train",
            folder="VOC2007",
            name=split,
            place=place,
            files={path.stem if unique else f"{split}_{path.stem}": path for path in files[split]},
        )
        for split, place in places.items()
    ]


def lists_in(folder: Path) -> dict[str, Path]:
    """The lists of images of a VOC folder: trainval, train, val and test, those that exist."""
    for holder in (folder / "ImageSets" / "Main", folder / "ImageSets", folder):
        files = entries(holder)[1] if holder.is_dir() else []
        texts = [path for path in files if path.suffix.lower() == ".txt"]
        if lists := {LISTS[path.stem.lower()]: path for path in texts if path.stem.lower() in LISTS}:
            return lists
    return {}


def _lists_of(split: str, lists: Mapping[str, Path], folder: Path) -> list[Path]:
    """The lists for one of VOC 2007 + 2012's training sets or its test set: trainval, or train and val."""
    names = [split] if split == "test" or "trainval" not in lists else ["trainval"]
    names = ["train", "val"] if names == ["train"] else names
    if absent := [name for name in names if name not in lists]:
        missing = f"{list_of(folder, absent[0])}: VOC 2007 + 2012 needs trainval of both and test of 2007"
        raise InputError(f"missing image set {missing}")
    return [lists[name] for name in names]


def own_lists(folder: Path, place: Place) -> list[ImageSet]:
    """The train and the test set by the lists in ``folder``; [] where it has none of one of them."""
    lists = lists_in(folder)
    if {"test", "val"} <= set(lists) and not any(_annotation(line, place) for line in _lines(lists["test"])):
        print(f"{lists.pop('test')} lists no annotated image: testing on val", file=sys.stderr)
    choices = (["trainval"], ["train", "val"], ["train"]) if "test" in lists else (["train"], ["trainval"])
    train = next((names for names in choices if set(names) <= set(lists)), [])
    test = "test" if "test" in lists else "val"
    if not train or test not in lists:
        if lists:
            print(f"{folder} has a list {', '.join(lists)} alone: splitting by the seed", file=sys.stderr)
        return []
    return [
        listed_set("VOC2007", "train", [lists[name] for name in train], place),
        listed_set("VOC2007", "test", [lists[test]], place),
    ]


def listed_set(view: str, split: str, lists: list[Path], place: Place) -> ImageSet:
    """The set of the images on ``lists``. InputError for a line without an annotation or an image listed twice."""
    files, absent, twice = {}, [], []
    for path in lists:
        for line in _lines(path):
            annotation = _annotation(line, place)
            if not annotation:
                absent.append(f"{line[:100]} in {path}")
            elif annotation.stem in files:
                twice.append(annotation.stem)
            else:
                files[annotation.stem] = annotation
    fatal("missing annotation", absent, f"add it to {place.annotations} or take the image off the list")
    fatal(TWICE, twice, ONCE)
    if len(files) < 2:
        raise InputError(f"{lists[0]} lists {len(files)} images: each split needs at least 2")
    return ImageSet(split=split, folder=view, name="test" if split == "test" else "trainval", place=place, files=files)


def list_of(folder: Path, name: str) -> Path:
    """The list ``name`` of a VOC folder."""
    return folder / "ImageSets" / "Main" / f"{name}.txt"


def _lines(path: Path) -> list[str]:
    """The lines of a list that are not empty."""
    try:
        if not path.is_file():  # opening a pipe would block
            raise OSError("not a file")
        text = decoded(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable list of image ids ({error}): save it in UTF-8") from None
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def _annotation(line: str, place: Place) -> Path | None:
    """The annotation of a list's line: an id, the name of a file or a path; VOC's flag or another path may follow."""
    for text in (line, re.sub(r"\s+-?[01]$", "", line), line.split()[0]):
        name = text.replace("\\", "/").rsplit("/", 1)[-1]
        stem = Path(name).stem if is_xml(Path(name)) or is_image(Path(name)) else name
        for found in (place.xml.get(name), place.xml.get(stem)):
            if found:
                return found[0]
    return None


def check_ids(sets: list[ImageSet]) -> None:
    """InputError for an image in two sets, and for ids that cannot be names of files in the standard view."""
    keys = [(one.folder, name) for one in sets for name in one.files]
    fatal(TWICE, [name for (_, name), times in Counter(keys).items() if times > 1], ONCE)
    odd = [ascii(name) for _, name in keys if len(name.encode(errors="surrogateescape")) > LONGEST or not utf8(name)]
    fatal(f"name that is not UTF-8 or longer than {LONGEST} bytes", odd, "rename the image and its annotation")
    views = Counter((folder, view_id(name)) for folder, name in keys)
    fatal("duplicate image id", [name for (_, name), times in views.items() if times > 1], "rename one of the files")


def view_id(name: str) -> str:
    """The id in the standard view: no blanks (the evaluator splits lines at them), no characters that XML forbids."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", "_", re.sub(r"\s+", "_", name))
