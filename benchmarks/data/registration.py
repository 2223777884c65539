"""Register a data root's detection layouts in detectron2's catalogues under names of its own.

    python -c "from benchmarks.data.root import DataRoot; from benchmarks.data.registration import register;
    print(register(DataRoot.load('results/data/emoji-smoke'), 'voc'))"

detectron2's own names (voc_2007_*, coco_2017_*) are taken, and its VOC reader has a fixed list of classes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_FLIP_MAP, COCO_PERSON_KEYPOINT_NAMES
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode
from PIL import Image

from benchmarks.data import from_cityscapes
from benchmarks.data.checks import fatal, header
from benchmarks.data.layouts import LAYOUTS
from benchmarks.data.lvis import load_lvis
from benchmarks.data.root import DataRoot
from benchmarks.data.vocxml import read_xml
from pretrain.common.errors import InputError
from transfer.detection.fitted import DataFacts
from transfer.detection.profiles import Profile, overlay

MASKS_CHECKED = 10_000  # images; a COCO mask takes 0.1 ms and more


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The facts about registered data that the detection driver needs."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    num_classes: int
    classes: tuple[str, ...]
    mask_format: str
    """"polygon"; "bitmask" where the masks are RLE; "none" where there are none."""
    test_images: int


def register(root: DataRoot, kind: str) -> Registered:
    """Register the detection layout ``kind`` of ``root``, replacing the same data at another path.

    InputError if the layout is absent.
    """
    section = root.section(kind)
    prefix = f"{root.name}-{section['fingerprint'][:8]}"
    names = READERS[kind](root, prefix)
    return Registered(
        train=names["train"],
        test=names["test"],
        num_classes=len(section["classes"]),
        classes=tuple(section["classes"]),
        mask_format={"polygon": "polygon", "rle": "bitmask"}.get(section.get("masks", ""), "none"),
        test_images=section["counts"][LAYOUTS[kind].test]["images"],
    )


def read_as_run(root: DataRoot, kind: str) -> dict[str, list[dict[str, Any]]]:
    """detectron2's records of the splits "train" and "test", read, filtered and checked as a run does it.

    InputError if that fails: wrong image sizes, objects or masks that detectron2 does not accept.
    """
    # Under a temporary name: the root is not yet at its final path.
    data = register(dataclasses.replace(root, name=f"unfinished-{root.name}"), kind)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        get_detection_dataset_dicts(data.train, filter_empty=True)
        splits = {"train": records_of(data.train), "test": records_of(data.test)}
        _check_objects(splits, root.section(kind)["counts"], kind)
        records = [*splits["train"], *splits["test"]]
        _check_sizes(records)
        if data.mask_format != "none":
            for one in records[:: max(1, len(records) // MASKS_CHECKED)]:
                solid = [item for item in one["annotations"] if not item["iscrowd"]]
                annotations_to_instances(solid, (one["height"], one["width"]), mask_format=data.mask_format)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # detectron2 and pycocotools may raise any error
        text = f"{type(error).__name__}: {error}"[:300]
        raise InputError(f"detectron2 cannot read these {kind} data ({text}): correct the annotations") from error
    finally:
        logging.disable(level)
        for name in (*data.train, *data.test):
            _forget(name)
    return splits


def _add(name: str, read: Callable[[], list[dict[str, Any]]], kind: str, **metadata: Any) -> None:
    """Register ``name``, of the layout ``kind``, whose records ``read`` returns; ``metadata`` has its classes."""
    _forget(name)
    DatasetCatalog.register(name, read)
    MetadataCatalog.get(name).set(evaluator_type=LAYOUTS[kind].evaluator, **metadata)


def _forget(name: str) -> None:
    """Take ``name`` out of detectron2's catalogues: the same data may be registered at another path."""
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def records_of(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """detectron2's records of the registered data sets ``names``."""
    return [one for name in names for one in DatasetCatalog.get(name)]


def _check_objects(splits: dict[str, list[dict[str, Any]]], counts: dict[str, dict[str, int]], kind: str) -> None:
    """InputError if detectron2 sees another number of images or objects than were counted."""
    for split, records in splits.items():
        counted = counts[split if split == "train" else LAYOUTS[kind].test]
        expected = (counted["images"], counted[LAYOUTS[kind].objects])
        seen = (len(records), sum(len(one["annotations"]) for one in records))
        if seen != expected:
            text = "{} images with {} objects".format
            raise InputError(
                f"detectron2 sees {text(*seen)} in the {split} split where {text(*expected)} are: check the annotations"
            )


def _check_sizes(records: list[dict[str, Any]]) -> None:
    """InputError if an image's size as detectron2 reads it differs from its record's."""

    def wrong(record: dict[str, Any]) -> str:
        with Image.open(record["file_name"]) as image:
            size = header(image).size
        stated = (record["width"], record["height"])
        return "" if size == stated else f"{Path(record['file_name']).resolve()} ({size}, recorded as {stated})"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [one for one in pool.map(wrong, records) if one]
    fatal("image that detectron2 shows in another size than recorded", found, "save it anew, without EXIF")


def object_sides(records: list[dict[str, Any]], facts: DataFacts) -> dict[str, float]:
    """The median side, √(width · height) in pixels, of the objects at the input size of each profile.

    ``facts`` are those of the training objects.
    """
    default = get_cfg().INPUT
    sides: dict[str, float] = {}
    for profile in get_args(Profile):
        changes = overlay(profile, fpn=True, facts=facts)
        shortest = changes.get("INPUT.MIN_SIZE_TEST", default.MIN_SIZE_TEST)
        longest = changes.get("INPUT.MAX_SIZE_TEST", default.MAX_SIZE_TEST)
        found = []
        for one in records:
            size = (one["width"], one["height"])
            scale = min(shortest / min(size), longest / max(size))
            for item in one["annotations"]:
                if not item.get("iscrowd"):
                    _, _, width, height = BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYWH_ABS)
                    found.append(scale * math.sqrt(width * height))
        sides[profile] = round(statistics.median(found), 1)
    return sides


def _voc(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    section, classes = root.section("voc"), list(root.section("voc")["classes"])
    names: dict[str, tuple[str, ...]] = {}
    for split in ("train", "test"):
        for folder, image_set in section[split]:
            # The evaluator splits nothing off the name, but asks the metadata for a year to choose the metric.
            name = f"{prefix}_voc_{folder.removeprefix('VOC')}_{image_set}"
            names[split] = (*names.get(split, ()), name)
            path = root.folder("voc") / folder
            about = {"thing_classes": classes, "dirname": str(path), "split": image_set, "year": 2007}
            _add(name, partial(load_voc, path, image_set, classes), kind="voc", **about)
    return names


def _coco(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    return _json_files(root, prefix, "coco", "instances", {})


def _keypoints(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    points = {"keypoint_names": COCO_PERSON_KEYPOINT_NAMES, "keypoint_flip_map": COCO_PERSON_KEYPOINT_FLIP_MAP}
    return _json_files(root, prefix, "keypoints", "person_keypoints", points)


def _json_files(root: DataRoot, prefix: str, kind: str, stem: str, about: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Register COCO's two files ``stem``_*2017.json of the layout ``kind``."""
    names: dict[str, tuple[str, ...]] = {}
    for split, part in (("train", "train2017"), ("test", "val2017")):
        name = f"{prefix}_{kind}_{part}"
        names[split] = (name,)
        file, images = root.folder(kind) / "annotations" / f"{stem}_{part}.json", root.folder(kind) / part
        # Loading sets these too, but only in the loading process and only then.
        categories = sorted(json.loads(file.read_text(encoding="utf-8"))["categories"], key=lambda one: one["id"])
        _add(
            name,
            partial(load_coco_json, str(file), str(images), name),
            kind=kind,
            json_file=str(file),
            image_root=str(images),
            thing_classes=[one["name"] for one in categories],
            thing_dataset_id_to_contiguous_id={one["id"]: index for index, one in enumerate(categories)},
            **about,
        )
    return names


def _cityscapes(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    folder = root.folder("cityscapes")
    for split, part in (("train", "train"), ("test", "val")):
        name, file = f"{prefix}_cityscapes_{part}", folder / "annotations" / f"instances_{part}.json"
        names[split] = (name,)
        _add(
            name,
            partial(load_coco_json, str(file), str(folder / from_cityscapes.IMAGES), name),
            kind="cityscapes",
            json_file=str(file),
            thing_classes=list(from_cityscapes.CLASSES.values()),
            thing_dataset_id_to_contiguous_id={index + 1: index for index in range(len(from_cityscapes.CLASSES))},
            label_ids=tuple(from_cityscapes.CLASSES),
            instances_file=partial(from_cityscapes.instances_file, folder / from_cityscapes.TRUTH),
        )
    return names


def _lvis(root: DataRoot, prefix: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    folder = root.folder("lvis")
    for split, part in (("train", "train"), ("test", "val")):
        name, file = f"{prefix}_lvis_{part}", folder / "annotations" / f"lvis_v1_{part}.json"
        names[split] = (name,)
        about = {"thing_classes": list(root.section("lvis")["classes"]), "json_file": str(file)}
        _add(name, partial(load_lvis, file, folder), kind="lvis", **about)
    return names


def load_voc(folder: Path, image_set: str, classes: list[str]) -> list[dict[str, Any]]:
    """detectron2's list of dicts for ``folder/ImageSets/Main/<image_set>.txt``.

    Boxes become 0-based with exclusive right and bottom edges: 1 is taken from xmin and ymin, as detectron2 does
    (detectron2:data/datasets/pascal_voc.py). Difficult objects are kept, as there; the flags are for pictures only.
    """
    records = []
    for name in (folder / "ImageSets" / "Main" / f"{image_set}.txt").read_text(encoding="utf-8").split():
        image = read_xml(folder / "Annotations" / f"{name}.xml")
        annotations = []
        for one in image.objects:
            left, top, right, bottom = one.box
            annotations.append(
                {
                    "category_id": classes.index(one.name),
                    "bbox": [left - 1.0, top - 1.0, right, bottom],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "truncated": one.truncated,
                    "difficult": one.difficult,
                }
            )
        file = str(folder / "JPEGImages" / f"{name}.jpg")
        about = {"file_name": file, "image_id": name, "height": image.height, "width": image.width}
        records.append(about | {"annotations": annotations})
    return records


READERS: dict[str, Callable[[DataRoot, str], dict[str, tuple[str, ...]]]] = {
    "voc": _voc,
    "coco": _coco,
    "keypoints": _keypoints,
    "cityscapes": _cityscapes,
    "lvis": _lvis,
}
"""Of each detection layout, the function that registers a root's data under names with a prefix: "train", "test"."""
