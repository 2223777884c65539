"""Cityscapes as it is unpacked, linked, with the instances of its eight classes as COCO's JSON.

    python -m benchmarks prepare cityscapes SOURCE [--name NAME]

SOURCE, or its folder ``cityscapes``, has ``leftImg8bit/{train,val}/CITY/*_leftImg8bit.png`` and
``gtFine/{train,val}/CITY/*_gtFine_instanceIds.png``. An instance's mask is the pixels of its id, as the evaluation sees
it; detectron2 trains on the polygons. A group of objects is a crowd.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from tqdm import tqdm

from benchmarks.data.checks import fatal, is_file, look_at
from benchmarks.data.found import contents
from pretrain.common.errors import InputError

SPLITS = ("train", "val")
IMAGES, TRUTH = "leftImg8bit", "gtFine"
IMAGE, INSTANCES = "_leftImg8bit.png", "_gtFine_instanceIds.png"  # ends of files' names
CLASSES = {  # by label id (mcordts/cityscapesScripts:cityscapesscripts/helpers/labels.py)
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus"},
    **{31: "train", 32: "motorcycle", 33: "bicycle"},
}
SINGLE = 1000  # ids of objects are 1000 · label + number, those of groups the label


def build(source: Path, target: Path) -> dict[str, Any]:
    """Write ``target/cityscapes``; its section of data.json without the fingerprint. InputError for the first fault."""
    base = next((one for one in (source, source / "cityscapes") if (one / IMAGES).is_dir()), None)
    if base is None or not (base / TRUTH).is_dir():
        raise InputError(
            f"{source} has no {IMAGES}/ and {TRUTH}/ (it has {contents(source)}): unpack leftImg8bit_trainvaltest.zip "
            "and gtFine_trainvaltest.zip into one folder"
        )
    folder, counts = target / "cityscapes", {}
    (folder / "annotations").mkdir(parents=True)
    for split in SPLITS:
        content = read_split(base, split)
        counts[split] = _counts(content, base, split)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    for name in (IMAGES, TRUTH):
        (folder / name).symlink_to((base / name).resolve(), target_is_directory=True)
    return {"classes": list(CLASSES.values()), "counts": counts, "masks": "rle", "validation": {}}


def read_split(base: Path, split: str) -> dict[str, Any]:
    """COCO's content of a split; a file_name is a path in leftImg8bit. InputError for a missing or unfit file."""
    images = sorted((base / IMAGES / split).glob(f"*/*{IMAGE}"))
    if not images:
        raise InputError(f"{base / IMAGES / split} has no CITY/*{IMAGE}: unpack leftImg8bit_trainvaltest.zip")
    names = [path.relative_to(base / IMAGES).as_posix() for path in images]
    truths = [instances_file(base / TRUTH, name) for name in names]
    missing = [path for path in truths if not is_file(path)]
    fatal("missing annotation", missing, "unpack gtFine_trainvaltest.zip beside leftImg8bit")
    sizes = [one.size for one in look_at(images, advice="unpack the archive again").values()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(read_instances, truths, sizes)
        found = list(tqdm(read, total=len(truths), desc=f"reading {split}'s instances", unit="image", mininterval=1))
    entries = [one | {"image_id": number} for number, some in enumerate(found, 1) for one in some]
    return {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, (name, size) in enumerate(zip(names, sizes, strict=True), 1)
        ],
        "annotations": [one | {"id": number} for number, one in enumerate(entries, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES.values(), 1)],
    }


def instances_file(truth: Path, name: str) -> Path:
    """The file of instance ids of the image ``name``, a path in leftImg8bit; ``truth`` is gtFine."""
    return truth / f"{name.removesuffix(IMAGE)}{INSTANCES}"


def read_instances(path: Path, size: tuple[int, int]) -> list[dict[str, Any]]:
    """COCO's annotations of a file of instance ids, in the order of the ids. InputError for another (width, height)."""
    try:
        with Image.open(path) as image:
            ids = np.asfortranarray(np.asarray(image, dtype=np.int32))
            if ids.min(initial=0) < 0 or ids.max(initial=0) >= 2**16:
                raise ValueError("its ids are not of 16 bits")
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read ({error}): unpack gtFine_trainvaltest.zip again") from None
    if ids.shape != size[::-1]:
        raise InputError(f"{path} is of shape {ids.shape}, its image of {size[::-1]}: unpack both archives again")
    found = []
    for key in np.flatnonzero(np.bincount(ids.ravel("K"))).tolist():
        label = key // SINGLE if key >= SINGLE else key
        if label in CLASSES:
            code = rle.encode((ids == key).astype(np.uint8))
            about = {
                "category_id": list(CLASSES).index(label) + 1,
                "iscrowd": int(key < SINGLE),
                "area": int(rle.area(code)),
            }
            mask = {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}
            found.append(about | {"bbox": rle.toBbox(code).tolist(), "segmentation": mask})
    return found


def _counts(content: dict[str, Any], base: Path, split: str) -> dict[str, int]:
    entries = content["annotations"]
    crowds = sum(one["iscrowd"] for one in entries)
    if crowds == len(entries):
        raise InputError(f"{base / TRUTH / split} has no object of the classes {', '.join(CLASSES.values())}: add some")
    return {"images": len(content["images"]), "annotations": len(entries), "crowds": crowds}
