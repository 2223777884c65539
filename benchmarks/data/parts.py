"""Parts of a registered training set: the images of a low-label draw, and those that a search holds out.

    register(root, kind), then keep(data, ids) or hold_out(root, kind, data, ids, folder)

An image's id is COCO's number, or of VOC its folder and name (VOC2012/2008_000008): the folders together are one pool.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.data.registration import Registered, load_voc
from benchmarks.data.root import DataRoot
from benchmarks.data.subsets import Draw, draw_percent, draw_shots, read_split
from pretrain.common.errors import InputError
from pretrain.common.files import write_json

HELD = "held"  # image set of VOC's held-out images


def objects(data: Registered) -> dict[Any, list[int]]:
    """Id of every training image → the class of each of its objects that are trained on: no crowds."""
    return {
        _id(one): [item["category_id"] for item in one["annotations"] if not item.get("iscrowd")]
        for name in data.train
        for one in DatasetCatalog.get(name)
    }


def trainable(found: dict[Any, list[int]]) -> dict[Any, list[int]]:
    """Those with an object: detectron2 leaves the others out of training."""
    return {image: kinds for image, kinds in found.items() if kinds}


def draw(found: dict[Any, list[int]], classes: tuple[str, ...], subset: CfgNode, seed: int) -> Draw:
    """The training images of a protocol with TRANSFER.SUBSET, of the images ``found`` (as ``objects`` gives them)."""
    pool = trainable(found)
    if not pool:
        raise InputError("no training image has an object: there is nothing to draw from")
    if subset.FILE:
        return read_split(Path(subset.FILE), pool, _names(found), subset.PERCENT or None, seed)
    if subset.SHOTS:
        return draw_shots(pool, subset.SHOTS, seed, classes)
    return draw_percent(pool, subset.PERCENT, seed)


def keep(data: Registered, ids: Collection[Any]) -> Registered:
    """``data`` with only the training images ``ids``; sets without any of them are left out."""
    wanted, left = set(ids), []
    for name in data.train:
        load: Callable[[], list[dict[str, Any]]] = DatasetCatalog[name]
        records = [one for one in load() if _id(one) in wanted]
        DatasetCatalog.remove(name)
        if records:
            DatasetCatalog.register(name, lambda records=records: [*records])
            left.append(name)
    return dataclasses.replace(data, train=tuple(left))


def hold_out(
    root: DataRoot, kind: str, data: Registered, ids: Collection[Any], folder: Path, *, write: bool
) -> Registered:
    """``data`` tested on the training images ``ids``, whose annotations ``folder`` gets where ``write`` is set."""
    name = f"{data.train[0]}_held"
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    if write:
        folder.mkdir(parents=True, exist_ok=True)
    if kind == "voc":
        _held_voc(root, name, data, sorted(ids), folder, write)
    else:
        _held_json(name, data, sorted(ids), folder, write)
    return dataclasses.replace(data, test=(name,), test_images=len(set(ids)))


def _id(record: dict[str, Any]) -> Any:
    if isinstance(record["image_id"], int):
        return record["image_id"]
    return f"{Path(record['file_name']).parents[1].name}/{record['image_id']}"


def _names(ids: Collection[Any]) -> dict[Any, Any]:
    """The words that a list may use for an image: its id, and of VOC the bare name where only one folder has it."""
    short: dict[Any, list[Any]] = {}
    for image in ids:
        short.setdefault(image.split("/")[1] if isinstance(image, str) else image, []).append(image)
    return {name: several[0] for name, several in short.items() if len(several) == 1} | {image: image for image in ids}


def _held_json(name: str, data: Registered, ids: list[int], folder: Path, write: bool) -> None:
    """Of a layout with a COCO file: a file of these images alone, and the records and other metadata of training."""
    (train,), wanted, file = data.train, set(ids), folder / "held.json"
    about = {key: value for key, value in MetadataCatalog.get(train).as_dict().items() if key != "name"}
    if write:
        content = json.loads(Path(about["json_file"]).read_text(encoding="utf-8"))
        content["images"] = [one for one in content["images"] if one["id"] in wanted]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in wanted]
        write_json(file, content)
    records = [one for one in DatasetCatalog.get(train) if one["image_id"] in wanted]
    DatasetCatalog.register(name, lambda: [*records])
    MetadataCatalog.get(name).set(**about | {"json_file": str(file)})


def _held_voc(root: DataRoot, name: str, data: Registered, ids: list[str], folder: Path, write: bool) -> None:
    """A folder of VOC's layout with links to the images: they may come from several years' folders."""
    if write:
        names = []
        for image in ids:
            year, stem = image.split("/")
            names.append(f"{year}_{stem}")
            for part, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
                link = folder / part / f"{names[-1]}{suffix}"
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to((root.folder("voc") / year / part / f"{stem}{suffix}").absolute())
        listed = folder / "ImageSets" / "Main" / f"{HELD}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{one}\n" for one in names), encoding="utf-8")
    DatasetCatalog.register(name, lambda: load_voc(folder, HELD, list(data.classes)))
    about = {"thing_classes": list(data.classes), "dirname": str(folder), "split": HELD, "year": 2007}
    MetadataCatalog.get(name).set(evaluator_type="pascal_voc", **about)
