"""COCO's person keypoints, which `prepare coco` takes up where they are beside the instances, as a layout of their own.

    <SOURCE>/annotations/person_keypoints_{train,val}2017.json  →  <root>/keypoints/{train2017,val2017,annotations}

They are a layout of their own, so that runs on the instances stay valid. The images are those that were checked with
the instances; an image that was left out there is left out here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data.checks import fatal
from benchmarks.data.coco_entries import Entry, shown, tidy_ids
from benchmarks.data.coco_files import Coco, Part, instances, read_json
from benchmarks.data.from_coco import correct
from pretrain.common.errors import InputError

STEM = "person_keypoints_"
AWAY = "or move it away if keypoints are not wanted"


def build(target: Path, parts: Mapping[str, Part]) -> dict[str, dict[str, Any]]:
    """Write ``target/keypoints``; {"keypoints": its section of data.json}, {} where ``parts`` have no keypoints beside.

    ``parts`` are the checked instances, "train" and "val". InputError for keypoints that are not COCO's 17 of a person.
    """
    files = {split: beside(part.file) for split, part in parts.items()}
    there = {split: path for split, path in files.items() if path.is_file()}
    if not there or len(set(files.values())) < 2:
        return {}
    if missing := [path for split, path in files.items() if split not in there]:
        raise InputError(f"{next(iter(there.values()))} has no {missing[0].name} beside it: add that, {AWAY}")
    found: dict[str, Coco] = {}
    validation: dict[str, dict[str, Any]] = {}
    for split, path in there.items():
        losses: Counter[str] = Counter()
        found[split] = checked(path, parts[split], losses)
        validation[split] = {**+losses}
    folder = target / "keypoints"
    (folder / "annotations").mkdir(parents=True)
    for split, content in found.items():
        (folder / f"{split}2017").symlink_to(parts[split].images.resolve(), target_is_directory=True)
        (folder / "annotations" / f"{STEM}{split}2017.json").write_text(json.dumps(content), encoding="utf-8")
    counts = {split: _counts(content, there[split]) for split, content in found.items()}
    return {"keypoints": {"classes": ["person"], "counts": counts, "validation": validation}}


def beside(file: Path) -> Path:
    """The file of keypoints beside one of instances."""
    return file.with_name(STEM + file.name.removeprefix("instances_"))


def checked(path: Path, part: Part, losses: Counter[str]) -> Coco:
    """The content of ``path`` on the images of ``part``, corrected as instances are; ``losses`` counts that."""
    content, where = instances(path, read_json(path)), f" in {path}"
    losses += tidy_ids(content, where)
    _check_category(content["categories"], path)
    images = {image["id"]: image for image in part.content["images"]}
    stated = {image["id"]: image for image in content["images"]}
    kept = {key: images[key] for key in stated if key in images}
    losses["images that the instances lack left out"] += len(stated) - len(kept)
    fatal(
        f"image that is another one than in {part.file}{where}",
        [f"{key} ({stated[key]['file_name']})" for key, one in kept.items() if not _same(stated[key], one)],
        f"give the files of one release, {AWAY}",
    )
    entries = [one for one in content["annotations"] if one["image_id"] in kept]
    wrong = [f"{one['id']} (its keypoints are {shown(one, 'keypoints')})" for one in entries if not _is_pose(one)]
    fatal(f"annotation without 17 keypoints x, y, visibility{where}", wrong, f"add them, {AWAY}")
    boxless = [f"{one['id']} (its bbox is {shown(one, 'bbox')})" for one in entries if not _numbers(one.get("bbox"), 4)]
    fatal(f"annotation without a box{where}", boxless, f"give it a bbox [x, y, width, height], {AWAY}")
    for one in entries:
        one["iscrowd"] = int(bool(one.get("iscrowd")))
        one["num_keypoints"] = sum(value > 0 for value in one["keypoints"][2::3])
    entries = [one for one in entries if correct(one, kept[one["image_id"]], losses)]
    return {"categories": content["categories"], "images": list(kept.values()), "annotations": entries}


def _check_category(categories: list[Entry], path: Path) -> None:
    from detectron2.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_NAMES as NAMES  # seconds to import

    if [one.get("keypoints") for one in categories] != [list(NAMES)]:
        given = [f"{one.get('name')} with {len(one.get('keypoints') or [])} keypoints" for one in categories[:2]]
        raise InputError(
            f"{path} has the categories {', '.join(given) or 'none'}, not COCO's person with its 17 keypoints: "
            f"give COCO's own, {AWAY}"
        )


def _same(stated: Entry, image: Entry) -> bool:
    """Whether an entry of images is the checked one: the same file's name and size."""
    sizes = [(one.get("width"), one.get("height")) for one in (stated, image)]
    return Path(stated["file_name"]).name == Path(image["file_name"]).name and sizes[0] == sizes[1]


def _is_pose(one: Entry) -> bool:
    points = one.get("keypoints")
    return _numbers(points, 51) and all(value in (0, 1, 2) for value in points[2::3])  # type: ignore[index]


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(one) in (int, float) and math.isfinite(one) for one in values)
    )


def _counts(content: Coco, path: Path) -> dict[str, int]:
    """A split's counts; InputError where it has no keypoint to train or test on."""
    entries = content["annotations"]
    found = {"images": len(content["images"]), "annotations": len(entries)}
    found["crowds"] = sum(one["iscrowd"] for one in entries)
    found["people with keypoints"] = sum(one["num_keypoints"] > 0 and not one["iscrowd"] for one in entries)
    if not found["people with keypoints"]:
        raise InputError(f"{path} has no visible keypoint: add some, {AWAY}")
    return found
