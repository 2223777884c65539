"""The embedded sets whose images and scenes share drawings, classes or nothing: their parts and their files."""

import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.data.drawing import DRAWINGS, sprite
from benchmarks.data.emoji import EMBEDDED
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig, classification_image, scene
from benchmarks.data.emoji.sharing import image_drawings, scene_drawings
from benchmarks.data.registration import read_as_run
from benchmarks.data.root import DataRoot
from tests.benchmarks.data.test_emoji import TINY, tree

PARTS = [name for name in EMBEDDED.values() if name != "all"]


def test_all_is_every_drawing_and_the_same_identity_as_before():
    assert image_drawings("all") is scene_drawings("all") is DRAWINGS
    assert "pretraining" not in EmojiConfig().identity()
    assert EmojiConfig(pretraining="same-drawings").identity() == EmojiConfig().identity() | {
        "pretraining": "same-drawings"
    }


def test_the_parts_are_as_large_and_share_what_their_names_say():
    scenes = scene_drawings("same-drawings")
    same, drawings, classes = (image_drawings(name) for name in PARTS)
    flat = [{one for some in part.values() for one in some} for part in (same, drawings, classes)]
    assert {len(part) for part in flat} == {18} and {len(part) for part in (same, drawings, classes)} == {10}
    assert same == scenes and list(drawings) == list(scenes) and not set(classes) & set(scenes)
    assert not flat[0] & flat[1] and not flat[0] & flat[2]
    for part in (same, drawings, classes):
        assert all(set(some) <= set(DRAWINGS[name]) for name, some in part.items())
    assert {name for name, some in DRAWINGS.items() if len(some) == 1} <= set(classes)


def test_no_other_drawing_is_a_near_copy_of_one_in_the_scenes():
    """By the correlation of their grey pictures, mirrored or not: colours are turned and flips drawn anyway."""

    def grey(name):
        picture = Image.new("RGBA", sprite(name).size, "white")
        picture.alpha_composite(sprite(name))
        return np.asarray(ImageOps.pad(picture.convert("L"), (32, 32), color=255))

    def alike(a, b):
        return max(np.corrcoef(grey(a).ravel(), one.ravel())[0, 1] for one in (grey(b), grey(b)[:, ::-1]))

    assert alike("1F408", "1F408-200D-2B1B") > 0.9 and alike("1F697", "1F695") > 0.7  # another cat's and car's colour
    shown, other = scene_drawings("other-drawings"), image_drawings("other-drawings")
    assert max(alike(a, b) for name, some in shown.items() for a in some for b in other[name]) < 0.65


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return {name: DataRoot.load(generate(replace(TINY, pretraining=name), name, 1)) for name in PARTS}


def test_the_scenes_are_the_same_files_and_the_images_are_not(roots):
    for kind in ("VOCdevkit", "coco"):
        trees = [tree(root.path / kind) for root in roots.values()]
        assert trees[0] == trees[1] == trees[2] and len(trees[0]) > 60
    assert len({root.section("voc")["fingerprint"] for root in roots.values()}) == 1
    assert len({root.section("coco")["fingerprint"] for root in roots.values()}) == 1
    assert len({root.section("imagenet")["fingerprint"] for root in roots.values()}) == 3


@pytest.mark.parametrize("name", PARTS)
def test_both_layouts_show_the_classes_that_they_list(roots, name):
    root, scenes = roots[name], scene_drawings(name)
    assert root.section("imagenet")["classes"] == list(image_drawings(name))
    assert root.section("voc")["classes"] == list(scenes) and len(root.section("coco")["classes"]) == 10
    for kind in ("voc", "coco"):
        for split in read_as_run(root, kind).values():
            seen = {one["category_id"] for image in split for one in image["annotations"]}
            assert seen == set(range(10))
    for part in ("train", "val"):
        folder = root.path / "imagenet" / part
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(image_drawings(name))
        for file, drawings in ((folder, image_drawings(name)), (root.path / "coco" / f"{part}2017", scenes)):
            with gzip.open(file / "factors.csv.gz", "rt") as stream:
                shown = {(row["class"], row["drawing"]) for row in csv.DictReader(stream)}
            assert shown <= {(key, one) for key, some in drawings.items() for one in some}
            assert len({key for key, _ in shown}) == 10
    stored = json.loads((root.path / "data.json").read_text())
    assert stored["config"]["pretraining"] == name


def test_the_parts_change_the_pixels_of_what_they_concern_alone():
    same, other = (replace(TINY, pretraining=name) for name in PARTS[:2])
    assert np.array_equal(*(np.asarray(scene(config, "scenes-val", 1)[0]) for config in (same, other)))
    pictures, factors = zip(*(classification_image(config, "imagenet-val", 1) for config in (same, other)), strict=True)
    assert (
        factors[0] | {"drawing": ""} == factors[1] | {"drawing": ""} and factors[0]["drawing"] != factors[1]["drawing"]
    )
    assert not np.array_equal(*map(np.asarray, pictures))
