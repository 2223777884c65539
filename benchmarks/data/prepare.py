"""Write a data root under results/data: the embedded emoji set, or the user's own data, checked, in a standard layout.

    python -m benchmarks prepare emoji [--profile smoke] [--workers 2] [--pretraining other-drawings]
    python -m benchmarks prepare voc|coco|imagenet SOURCE [--name NAME] [--val-fraction 0.2] [--seed 0]
    python -m benchmarks prepare cityscapes SOURCE
    python -m benchmarks prepare lvis SOURCE [--images COCO]
    python -m benchmarks prepare torchvision DTD SOURCE [--download]
    python -m benchmarks prepare imagenet SOURCE --labels-1percent FILE --labels-10percent FILE --factors CSV

Prints the root's path. The user's images are linked, never copied; nothing is written if a check fails. Preparing
the same source with the same options again returns the existing root.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import tyro

from benchmarks.arguments import (
    CityscapesArguments,
    CocoArguments,
    EmojiArguments,
    FolderArguments,
    ImagenetArguments,
    LvisArguments,
    PrepareArguments,
    SourceArguments,
    TorchvisionArguments,
    VocArguments,
)
from benchmarks.data import (
    factors,
    from_cityscapes,
    from_coco,
    from_folders,
    from_keypoints,
    from_lvis,
    from_torchvision,
    from_voc,
    labels,
)
from benchmarks.data.checks import AWAY, IN_TRAIN, LACKING
from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.root import NAMED, DataRoot, Section, building, source_state, written_digest
from benchmarks.data.torchvision_sets import SETS
from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import data_dir, write_json
from pretrain.data import folder_fingerprint

VERSION = 2  # raise it if accepted data are now rejected or written differently: roots are then written again
VERSIONS = {"coco": 3}  # of kinds that have changed alone
SMALL = 16  # pixels: the finest anchors of detectron2's C4, and a quarter of a cell of its map
KINDS: dict[type[SourceArguments], str] = {VocArguments: "voc", CocoArguments: "coco", ImagenetArguments: "imagenet"}
WARNINGS = {
    IN_TRAIN: "scores on them are scores of training",
    AWAY: "look at the contact sheet",
    LACKING: "the set counts as one of boxes alone",
}


def main(argv: list[str]) -> int:
    """``prepare``: see PrepareArguments. Prints the root's path."""
    arguments: Any = tyro.cli(
        PrepareArguments,
        prog="python -m benchmarks prepare",
        description=__doc__,
        args=argv,
    )
    if isinstance(arguments, EmojiArguments):
        print(prepare_emoji(arguments))
    elif isinstance(arguments, TorchvisionArguments):
        print(prepare_torchvision(arguments))
    elif isinstance(arguments, LvisArguments | CityscapesArguments):
        print(prepare_published(arguments))
    else:
        print(prepare_source(arguments))
    return 0


def prepare_emoji(arguments: EmojiArguments) -> Path:
    """Generate the embedded set of the profile, or return it."""
    if arguments.workers < 1:
        raise InputError(f"--workers {arguments.workers} is not a number of processes: give 1 or more")
    from benchmarks.data.emoji.generate import embedded_set

    return embedded_set(arguments.profile, arguments.pretraining, arguments.workers)


def prepare_source(arguments: SourceArguments) -> Path:
    """Check the user's data and write its standard layout, or return the existing one."""
    kind = KINDS[type(arguments)]
    source, name = folder_and_name(arguments, kind)
    if not 0 < arguments.val_fraction < 1:
        raise InputError(f"--val-fraction {arguments.val_fraction} is not between 0 and 1")
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed} is negative: give 0 or more")
    config: dict[str, Any] = {"kind": kind, "source": str(source), "version": VERSIONS.get(kind, VERSION)}
    config |= {"val_fraction": arguments.val_fraction, "seed": arguments.seed}
    if arguments.drop_unreadable:
        config["drop_unreadable"] = True
    named = {key: getattr(arguments, key, None) for key in NAMED}
    paths = {key: absolute(path) for key, path in named.items() if path}
    config |= {key: str(path) for key, path in paths.items()}
    config["state"] = source_state(config)
    return prepared(name, config, builder(arguments, source, paths))


def prepare_published(arguments: LvisArguments | CityscapesArguments) -> Path:
    """Check a set that has its own split and link it, or return the existing root."""
    kind = "lvis" if isinstance(arguments, LvisArguments) else "cityscapes"
    source, name = folder_and_name(arguments, kind)
    config: dict[str, Any] = {"kind": kind, "source": str(source), "version": VERSION}
    if isinstance(arguments, LvisArguments):
        images = absolute(from_lvis.image_folder(source, arguments.images and absolute(arguments.images)))
        config["images"] = str(images)

    def build(target: Path) -> dict[str, dict[str, Any]]:
        if kind == "lvis":
            return {kind: from_lvis.build(source, target, images)}
        return {kind: from_cityscapes.build(source, target)}

    config["state"] = source_state(config)
    return prepared(name, config, build)


def folder_and_name(arguments: FolderArguments, kind: str) -> tuple[Path, str]:
    """The folder of the data and the name of their root. InputError for one that cannot be used."""
    source = absolute(arguments.source)
    if not source.is_dir():
        raise InputError(f"{arguments.source} is not a folder: give the folder that holds the {kind} data")
    name = arguments.name or f"{kind}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', source.name)}"
    check_name(name)
    return source, name


def prepare_torchvision(arguments: TorchvisionArguments) -> Path:
    """Read a set through torchvision and write its standard layout, or return the existing one."""
    chosen, source = arguments.dataset, absolute(arguments.source)
    if arguments.download:
        source.mkdir(parents=True, exist_ok=True)
    elif not source.is_dir():
        raise InputError(f"{arguments.source} is not a folder: give the one that holds {SETS[chosen].folder}")
    name = arguments.name or chosen.lower()
    check_name(name)
    inside = from_torchvision.root_of(chosen, source, arguments.download)
    if arguments.download:
        from_torchvision.download(chosen, inside)
    folder = inside / SETS[chosen].folder
    if SETS[chosen].read is None:
        return prepare_source(VocArguments(source=folder, name=name))
    config: dict[str, Any] = {"kind": "torchvision", "set": chosen, "source": str(folder), "version": VERSION}
    config["state"] = source_state(config)
    return prepared(name, config, lambda target: {"imagenet": from_torchvision.build(chosen, inside, target)})


def check_name(name: str) -> None:
    """InputError for a root's name that cannot be one."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(f"--name {name!r} must be letters, digits, dots, dashes and underscores")


Build = Callable[[Path], dict[str, dict[str, Any]]]
"""Writes layouts into a folder and returns the section of data.json of each, without its fingerprint."""


def prepared(name: str, config: dict[str, Any], build: Build) -> Path:
    """The root ``name`` of this ``config``: written by ``build`` if it is not there yet; then reported."""
    root = data_dir() / name
    if not reusable(root, config):
        with building(root, replace=True) as target:
            lay(target, name, config, build)
    for kind, section in DataRoot.load(root).sections.items():
        report(kind, section)
    return root


def absolute(path: Path) -> Path:
    """``path`` with links and ~ resolved as far as they can be: pathlib raises for a link to itself."""
    return Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111


def builder(arguments: SourceArguments, source: Path, paths: dict[str, Path]) -> Build:
    """The function that writes the layouts of this kind of source."""
    options = (arguments.val_fraction, arguments.seed, arguments.drop_unreadable)
    if isinstance(arguments, CocoArguments):

        def coco(target: Path) -> dict[str, dict[str, Any]]:
            section, parts = from_coco.build(source, target, *options, paths)
            return {"coco": section} | from_keypoints.build(target, parts)

        return coco
    if isinstance(arguments, VocArguments):
        return lambda target: {"voc": from_voc.build(source, target, *options)}

    if absent := [path for key, path in paths.items() if key in labels.FLAGS and not path.is_file()]:
        raise InputError(f"{absent[0]} is not a file: give a text file with an image's name per line")
    if "factors" in paths and not paths["factors"].is_file():
        raise InputError(f"{paths['factors']} is not a file: give a CSV with a column image and a line per image")

    def folders(target: Path) -> dict[str, dict[str, Any]]:
        found = from_folders.build(source, target, *options)
        lists = labels.write_lists(paths, target)
        if "factors" in paths:
            factors.write_factors(paths["factors"], target)
        return {"imagenet": found | ({"labels": lists} if lists else {})}

    return folders


def reusable(root: Path, config: dict[str, Any]) -> bool:
    """Whether ``root`` is the wanted layout. InputError if it holds other data."""
    if not root.exists():
        return False
    loaded = DataRoot.load(root)
    there = loaded.config
    if there == config and not loaded.is_edited():
        return True
    if (there.get("kind"), there.get("source")) != (config["kind"], config["source"]):
        raise InputError(f"{root} holds other data: choose another name with --name")
    same = there.get("version") == config["version"]
    why = "its source, options or own files have changed" if same else "it is of an earlier version"
    print(f"{root.name}: {why}, laying it out again", file=sys.stderr)
    return False


def lay(target: Path, name: str, config: dict[str, Any], build: Build) -> None:
    """Write the layouts and then data.json into ``target``."""
    sections = {
        kind: cast(Section, found | {"fingerprint": folder_fingerprint(target / LAYOUTS[kind].folder)})
        for kind, found in build(target).items()
    }
    about: dict[str, Any] = {
        "name": name,
        "synthetic": False,
        "description": f"{config['set']}, its published split"
        if "set" in config
        else f"the user's own data, {config['kind']} layout",
        "config": config,
    }
    root = DataRoot(path=target, sections=sections, **about)
    for kind, section in sections.items():
        if kind != "imagenet":
            _read_back(root, kind, section)
    write_json(target / "data.json", about | sections)


def _read_back(root: DataRoot, kind: str, section: Section) -> None:
    """Add to a detection layout's section the facts that reading it as a run does tells."""
    with warnings.catch_warnings(action="ignore"):  # from detectron2's own code, which also takes seconds to import
        from benchmarks.data.facts import facts_of_records
        from benchmarks.data.registration import object_sides, read_as_run

    section["written"] = written_digest(root.folder(kind))
    splits = read_as_run(root, kind)
    facts = facts_of_records(splits["train"], root.name)
    section["validation"]["median object side"] = object_sides([*splits["train"], *splits["test"]], facts)


def report(kind: str, section: Section) -> None:
    """Print a layout's counts, corrections and warnings on stderr."""
    validation = section["validation"]
    print(f"{kind}: {len(section['classes'])} classes; {json.dumps(section['counts'])}", file=sys.stderr)
    print(f"validation: {json.dumps(validation, ensure_ascii=False)}", file=sys.stderr)
    for percent, listed in section.get("labels", {}).items():
        print(f"labels of {percent} %: {listed['images']:,} images listed", file=sys.stderr)
    if sides := validation.get("median object side"):
        text = ", ".join(f"{side:g} px in profile {profile}" for profile, side in sides.items())
        print(f"median object side at the detectors' input size: {text}", file=sys.stderr)
        if small := [profile for profile, side in sides.items() if side < SMALL]:
            print(
                f"warning: half of the objects are smaller than {SMALL} px in {' and '.join(small)}: "
                "detectors will miss most of them there",
                file=sys.stderr,
            )
    held_out = section["counts"].get("test", section["counts"].get("val"))
    images = held_out["images"] if isinstance(held_out, dict) else held_out
    for finding, consequence in WARNINGS.items():
        if number := validation.get(finding):
            of = f" of {images:,}" if finding == IN_TRAIN else ""
            print(f"warning: {number:,}{of} {finding}: {consequence}", file=sys.stderr)


if __name__ == "__main__":
    run_cli(main)
