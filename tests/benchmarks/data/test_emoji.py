"""The embedded set: deterministic, agreeing with itself, filled, and readable by standard readers."""

import csv
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from pycocotools.coco import COCO

from benchmarks.data import drawing
from benchmarks.data.drawing import CLASSES
from benchmarks.data.emoji import annotate
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig, scene
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError

CHECKOUT = Path(__file__).resolve().parents[3]
TINY = EmojiConfig(
    train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32, scene_size=96, crowd_rate=0.3
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    before, os.environ["DATA_DIR"] = os.environ.get("DATA_DIR"), str(folder)
    yield DataRoot.load(generate(TINY, "tiny", 1))
    os.environ.pop("DATA_DIR") if before is None else os.environ.update(DATA_DIR=before)


def tree(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def coco_of(root, part):
    return COCO(str(root.path / "coco" / "annotations" / f"instances_{part}2017.json"))


def voc_targets(root, year, image_set):
    data = torchvision.datasets.VOCDetection(str(root.path), year=year, image_set=image_set)
    return [(image, target["annotation"]) for image, target in data]


def test_bytes_do_not_depend_on_workers(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert tree(generate(TINY, "tiny", 2)) == tree(root.path)


def test_seed_changes_the_pixels():
    pictures = [np.asarray(scene(config, "scenes-train", 3)[0]) for config in (TINY, replace(TINY, seed=1))]
    assert not np.array_equal(*pictures)


def test_existing_root_is_returned_and_another_configuration_gets_its_own(root, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(root.path.parent))
    written = (root.path / "data.json").stat().st_mtime_ns
    assert generate(TINY, "tiny", 1) == root.path
    other = generate(replace(TINY, seed=5), "tiny", 1)
    assert other.name.startswith("tiny-") and other != root.path
    assert (root.path / "data.json").stat().st_mtime_ns == written


def test_every_split_shows_each_class_twice(root):
    for part in ("train", "val"):
        images = Counter(path.parent.name for path in (root.path / "imagenet" / part).glob("*/*.jpg"))
        assert set(images) == set(CLASSES) and min(images.values()) >= 2
        coco = coco_of(root, part)
        counts = Counter(one["category_id"] for one in coco.dataset["annotations"] if not one["iscrowd"])
        assert len(counts) == 20 and min(counts.values()) >= 2
    for sets in (root.section("voc")["train"], root.section("voc")["test"]):
        counts = Counter(
            one["name"]
            for folder, name in sets
            for _, target in voc_targets(root, folder.removeprefix("VOC"), name)
            for one in target["object"]
            if one["difficult"] == "0"
        )
        assert len(counts) == 20 and min(counts.values()) >= 2


def test_coco_boxes_and_areas_are_those_of_the_rasterised_polygons(root):
    crowds = 0
    for part in ("train", "val"):
        coco = coco_of(root, part)
        assert min(coco.anns) == 1 and len(coco.anns) == len(coco.dataset["annotations"])
        for one in coco.dataset["annotations"]:
            mask = coco.annToMask(one)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert one["bbox"] == box and one["area"] == mask.sum()
            assert isinstance(one["segmentation"], dict) == bool(one["iscrowd"])
            crowds += one["iscrowd"]
    assert crowds


def test_voc_boxes_are_coco_boxes_counted_from_one_inclusive(root):
    number_of = {number: name for name, (number, _) in annotate.COCO_NAMES.items()}
    checked = 0
    for part, sets in (("train", root.section("voc")["train"]), ("val", root.section("voc")["test"])):
        coco = coco_of(root, part)
        for folder, name in sets:
            for image, target in voc_targets(root, folder.removeprefix("VOC"), name):
                entry = coco.imgs[int(Path(target["filename"]).stem)]
                with Image.open(root.path / "coco" / f"{part}2017" / entry["file_name"]) as same:
                    assert np.array_equal(np.asarray(image), np.asarray(same))
                expected = []
                for one in coco.imgToAnns[entry["id"]]:
                    if not one["iscrowd"]:
                        rows, columns = np.nonzero(coco.annToMask(one))
                        corners = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
                        expected.append((number_of[one["category_id"]], corners))
                found = [
                    (one["name"], [int(one["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")])
                    for one in target["object"]
                ]
                assert found == expected
                checked += len(found)
    assert checked > 100


def square(left, top, side, size=64, whole=None):
    silhouette = np.zeros((size, size), bool)
    silhouette[max(top, 0) : top + side, max(left, 0) : left + side] = True
    return drawing.Placed(
        factors={"class": "cat"},
        picture=Image.new("RGBA", (side, side)),
        corner=(left, top),
        silhouette=silhouette,
        whole=side * side if whole is None else whole,
    )


@pytest.mark.parametrize(
    ("covered", "expected"),
    [(0, (20, False)), (13, (7, False)), (15, (5, True)), (19, None)],
)
def test_difficult_under_30_percent_and_left_out_under_10(covered, expected):
    """A 20 × 20 square of which `covered` columns lie under another: (20 - covered) / 20 of it is visible."""
    behind, front = square(20, 20, 20), square(20 - 40 + covered, 0, 40)
    shown = drawing.visible([behind, front])[0]
    entry = annotate.annotate(behind, shown)
    assert (entry and (entry["bbox"][2], entry["difficult"])) == expected
    if entry:
        assert entry["area"] == 20 * (20 - covered) and not entry["truncated"]


def test_truncated_is_cut_by_the_border_and_small_objects_are_left_out():
    cut, inside = square(-5, 10, 20), square(0, 10, 20)
    assert annotate.annotate(cut, cut.silhouette)["truncated"]
    assert annotate.annotate(cut, cut.silhouette)["bbox"] == [0, 10, 15, 20]
    assert not annotate.annotate(inside, inside.silhouette)["truncated"]
    assert annotate.annotate(square(5, 5, 11), square(5, 5, 11).silhouette) is None
    assert annotate.annotate(square(5, 5, 12), square(5, 5, 12).silhouette) is not None


def test_outlines_fill_holes_and_keep_separate_parts():
    ring = np.zeros((40, 40), bool)
    ring[5:25, 5:25] = True
    ring[10:20, 10:20] = False
    ring[30:36, 30:36] = True
    placed = replace(square(0, 0, 4, 40), silhouette=ring, whole=int(ring.sum()))
    entry = annotate.annotate(placed, ring)
    assert len(entry["segmentation"]) == 2 and entry["area"] == 400 + 36


def test_standard_readers_and_factors(root):
    images = torchvision.datasets.ImageFolder(str(root.path / "imagenet" / "train"))
    assert images.classes == list(CLASSES) == root.section("imagenet")["classes"]
    assert len(images) == root.section("imagenet")["counts"]["train"]
    annotations = root.path / "coco" / "annotations" / "instances_val2017.json"
    detection = torchvision.datasets.CocoDetection(str(root.path / "coco" / "val2017"), str(annotations))
    assert detection[0][0].size == (96, 96) and detection[0][1]
    with gzip.open(root.path / "imagenet" / "val" / "factors.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"].split("/")[0] for row in rows] == [row["class"] for row in rows]
    assert all((root.path / "imagenet" / "val" / row["image"]).is_file() for row in rows)
    assert all(0.5 <= float(row["scale"]) <= 1 and abs(float(row["hue"])) <= 180 for row in rows)
    # Uniform in the logarithm: the mean logarithm is the middle within four standard errors (40 images).
    logs = np.log([float(row["exposure"]) for row in rows])
    low, high = np.log(drawing.RECIPE.exposure)
    assert low <= logs.min() and logs.max() <= high
    assert abs(logs.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * len(logs))


def test_exposure_scales_and_haze_pulls_to_the_mean():
    recipe = replace(drawing.RECIPE, exposure=(0.5, 0.5), haze=(0.25, 0.25))
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = 80  # the mean is 40
    picture, light = drawing.expose(Image.fromarray(pixels), recipe, np.random.default_rng(0))
    assert np.array_equal(np.asarray(picture)[:, 0, 0], [35, 5])  # (80 - 10) / 2, (0 + 10) / 2
    assert light == {"exposure": pytest.approx(0.5), "haze": 0.25}
    unchanged = replace(recipe, exposure=(1.0, 1.0), haze=(0.0, 0.0))
    plain, _ = drawing.expose(Image.fromarray(pixels), unchanged, np.random.default_rng(0))
    assert np.array_equal(np.asarray(plain), pixels)


def test_crowds_are_in_coco_only_and_too_small_for_voc(root):
    with gzip.open(root.path / "coco" / "train2017" / "factors.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    members = [row for row in rows if row["crowd"] == "True"]
    assert members and all(float(row["scale"]) * TINY.scene_size < 12 for row in members)
    stored = json.loads((root.path / "coco" / "annotations" / "instances_train2017.json").read_text())
    assert 0 < sum(one["iscrowd"] for one in stored["annotations"]) <= len({row["image"] for row in members})


def test_all_drawings_and_photographs_come_with_the_packages(monkeypatch):
    for drawings in drawing.DRAWINGS.values():
        for name in drawings:
            assert 128 <= max(drawing.sprite(name).size) <= drawing.SPRITE
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a photograph is fetched"))
    drawing.photograph.cache_clear()
    assert all(min(drawing.photograph(name).size) > 100 for name in drawing.PHOTOGRAPHS)


@pytest.mark.parametrize("wrong", [{"val_scenes": 10}, {"scene_size": 8}, {"seed": -1}])
def test_wrong_configurations_are_one_line(wrong):
    with pytest.raises(InputError) as caught:
        EmojiConfig(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_killed_generation_leaves_no_root_and_the_next_run_finishes(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "prepare", "emoji", "--profile", "smoke", "--workers", "1"]
    environment = os.environ | {"DATA_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".emoji-smoke.*.tmp/imagenet/train/*/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".")
    with pytest.raises(InputError, match="prepare emoji"):
        DataRoot.load(tmp_path / "emoji-smoke")
    again = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == f"{tmp_path / 'emoji-smoke'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["emoji-smoke"]
