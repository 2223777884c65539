"""A set of ssl-transfer's many-shot suite, read by torchvision, as the standard classification layout.

    python -m benchmarks prepare torchvision NAME SOURCE [--download] [--name ROOT]

``train`` is the published train and val, ``val`` the published test split; ``held_out.txt`` lists the published val
part of ``train``, one path per line. Links to the image files, nothing copied; CIFAR's images, which are arrays in a
pickle, become PNG files. Splits and sources: torchvision_sets.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.data.checks import fatal, look_at
from benchmarks.data.found import in_train
from benchmarks.data.torchvision_sets import SETS, Listed, read
from pretrain.common.errors import InputError

HELD_OUT_FILE = "held_out.txt"


def root_of(name: str, source: Path, download: bool) -> Path:
    """torchvision's root, which holds the set's folder: ``source``, or where it is above that folder.

    InputError if the folder is absent and is not to be downloaded.
    """
    folder = SETS[name].folder
    for root in [source, *source.parents][: len(Path(folder).parts) + 1]:
        if (root / folder).is_dir() and source.is_relative_to(root) and (root / folder).is_relative_to(source):
            return root
    if not download:
        raise InputError(f"{source} has no folder {folder}: unpack {name} there, or let torchvision do it: --download")
    return source


def download(name: str, root: Path) -> None:
    """Let torchvision download the set into ``root``, if it is not there. InputError if it cannot."""
    import torchvision

    try:
        if name == "VOC2007":
            for part in ("trainval", "test"):
                torchvision.datasets.VOCDetection(str(root), year="2007", image_set=part, download=True)
        else:
            getattr(torchvision.datasets, name)(str(root), download=True)
    except MemoryError:
        raise
    except Exception as error:  # of the network, of an archive
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"torchvision cannot download {name} ({text}): unpack it yourself in {root}") from None


def build(name: str, root: Path, target: Path) -> dict[str, Any]:
    """Write ``target/imagenet`` from torchvision's ``root``; the section of data.json without its fingerprint."""
    found, about = read(name, root), SETS[name]
    splits = {"train": found.train, "val": found.test}
    for split, part in splits.items():
        fatal(f"split without an image in {root}", [] if part.images else [split], f"unpack {name} again")
    folders = {split: [folder_name(label) for label in part.labels] for split, part in splits.items()}
    classes = sorted(set(folders["train"]))
    for one, other in (("train", "val"), ("val", "train")):
        absent = sorted(set(folders[one]) - set(folders[other]))
        fatal(f"class of {one} absent in {other}", absent, f"unpack {name} again")
    files = [path for part in splits.values() if not part.pixels for path in part.images]
    pictures = look_at(files, advice=f"unpack {name} again") if files else {}
    inside = {split: write(target / "imagenet" / split, part, folders[split]) for split, part in splits.items()}
    held_out = sorted(inside["train"][number] for number in found.held_out)
    (target / "imagenet" / HELD_OUT_FILE).write_text("".join(f"{one}\n" for one in held_out), encoding="utf-8")
    here = {"classes": len(classes), "train": len(inside["train"]), "test": len(inside["val"])}
    published = {key: getattr(about, key) for key in here}
    validation: dict[str, Any] = {"images checked": len(pictures)} if files else {}
    if here != published:
        validation["published numbers, which differ"] = published
    if files:
        validation |= in_train(found.train.images, found.test.images)
    return {
        "classes": classes,
        "counts": {"train": here["train"], "val": here["test"]},
        "held_out": HELD_OUT_FILE,
        "score": about.score,
        "validation": validation,
    }


def folder_name(label: str) -> str:
    """A class's name as a folder's: without slashes (F-16A/B, church/indoor), nor a dot at its begin."""
    return label.strip().replace("/", "_").lstrip(".")


def write(folder: Path, part: Listed, folders: list[str]) -> list[str]:
    """Link or write the images of ``part`` into their class folders under ``folder``; their paths there, in order."""
    inside = [f"{name}/{path.name}" for name, path in zip(folders, part.images, strict=True)]
    fatal("two images of a class with one name", [one for one, times in Counter(inside).items() if times > 1], "rename")
    for name in set(folders):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(tqdm(inside, desc=f"writing {folder.name}", unit="image", mininterval=1)):
        if part.pixels:
            # Not compressed: the size, which the fingerprint holds, then does not depend on zlib's version.
            part.pixels(number).save(folder / place, compress_level=0)
        else:
            (folder / place).symlink_to(part.images[number].resolve())
    return inside
