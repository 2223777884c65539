"""Folders of classes as people bring them: each image under its class, or one line that says why not."""

import os
import shutil
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torchvision
from PIL import Image

from benchmarks.data import from_folders
from pretrain.common.errors import InputError
from pretrain.data import list_images

GREY = {"ant": 40, "bee": 200}


def pictures(folder, grey, count=5, seed=0, suffix=".png"):
    """``count`` different images of about one grey, which tells the class."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng([seed, number, grey]).integers(grey - 20, grey + 20, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}{suffix}")


def classes(folder, seed=0, **options):
    for name, grey in GREY.items():
        pictures(folder / name, grey, seed=seed, **options)


def build(source, drop=False):
    """(section, {split: images of each class}) of the view, every image checked to be under its class."""
    target = source.with_name("view")
    section = from_folders.build(source, target, 0.2, 0, drop)
    counts = {}
    for split in ("train", "val"):
        data = torchvision.datasets.ImageFolder(target / "imagenet" / split, is_valid_file=lambda path: True)
        assert data.classes == section["classes"] and len(data) == section["counts"][split]
        for image, label in data:
            assert abs(np.asarray(image).mean() - sorted(GREY.values())[label % 2]) < 25
        counts[split] = dict(Counter(data.classes[label] for label in data.targets))
    return section, counts


def both(source, train="train", val="val", **options):
    classes(source / train, **options)
    classes(source / val, seed=1, **options)


def tiny(source, rows=6):
    """Tiny ImageNet's layout; in val the even images are ants."""
    for name, grey in GREY.items():
        pictures(source / "train" / name / "images", grey)
        (source / "train" / name / f"{name}_boxes.txt").write_text("0.png\t0\t0\t9\t9\n")
    pictures(source / "test" / "images", 100)
    names = ["ant", "bee"] * 3
    for number, name in enumerate(names):
        pictures(source / "one", GREY[name], 1, seed=number + 2)
        (source / "val" / "images").mkdir(parents=True, exist_ok=True)
        (source / "one" / "0.png").rename(source / "val" / "images" / f"val_{number}.png")
    shutil.rmtree(source / "one")
    lines = "".join(f"val_{number}.png\t{name}\t0\t0\t9\t9\n" for number, name in enumerate(names[:rows]))
    (source / "val" / "val_annotations.txt").write_text(lines)


def composed(source):
    both(source)
    (source / "train" / "bee").rename(source / "train" / "käfer")
    (source / "val" / "bee").rename(source / "val" / unicodedata.normalize("NFD", "käfer"))


GIVEN = {
    "train and val": both,
    "test in place of val": lambda s: both(s, val="test"),
    "Training and Testing": lambda s: both(s, "Training", "Testing"),
    "upper case": lambda s: both(s, "TRAIN", "VAL"),
    "three splits": lambda s: (both(s), classes(s / "test", 2)),
    "each split one down": lambda s: (
        both(s, "seg_train/seg_train", "seg_test/seg_test"),
        pictures(s / "seg_pred", 99),
    ),
    "masks beside": lambda s: (both(s, "train", "valid"), classes(s / "train_masks", 3)),
    "one down": lambda s: (both(s / "archive"), (s / "README.md").touch(), (s / "__MACOSX").mkdir()),
    "composed and decomposed": composed,
    "Tiny ImageNet": tiny,
}


@pytest.mark.parametrize("case", GIVEN)
def test_given_splits(case, tmp_path):
    GIVEN[case](tmp_path / "source")
    section, counts = build(tmp_path / "source")
    of_val = 3 if case == "Tiny ImageNet" else 5
    assert [sorted(one.values()) for one in counts.values()] == [[5, 5], [of_val, of_val]]
    assert "test images also in train" not in section["validation"]


@pytest.mark.parametrize("inside", [".", "flowers", "train", "a/b"])
def test_folders_without_a_split(inside, tmp_path):
    classes(tmp_path / "source" / inside)
    assert build(tmp_path / "source")[1] == {"train": {"ant": 4, "bee": 4}, "val": {"ant": 1, "bee": 1}}


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("bus", "car", "train", "train_station", "test_tube"):
        pictures(tmp_path / "source" / name, 100)
    section = from_folders.build(tmp_path / "source", tmp_path / "view", 0.2, 0, False)
    assert section["classes"] == ["bus", "car", "test_tube", "train", "train_station"]


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".webp", ".bmp", ".TIF", ".tga", ".jp2"])
def test_usual_suffixes_are_images_in_prepare_and_in_pretraining(suffix, tmp_path):
    classes(tmp_path / "source", suffix=suffix)
    assert build(tmp_path / "source")[0]["validation"] == {"images checked": 10}
    assert len(list_images(tmp_path / "source")) == 10


def test_what_is_passed_over_is_counted(tmp_path):
    classes(tmp_path / "source")
    for name in ("ant/0.heic", "ant/1.heic", "bee/Thumbs.db", "labels.csv", "ant/._1.png"):
        (tmp_path / "source" / name).write_bytes(b"no image")
    pictures(tmp_path / "source", 100, 1)
    validation = build(tmp_path / "source")[0]["validation"]
    passed = "2 .heic, 1 .csv, 1 .db"
    assert validation == {"images checked": 10, "images beside the class folders": 1, "files passed over": passed}


def test_archives_beside_the_folders_are_passed_over_aloud(tmp_path):
    classes(tmp_path / "source" / "train")
    (tmp_path / "source" / "val.zip").touch()
    assert build(tmp_path / "source")[0]["validation"]["files passed over"] == "1 .zip"


def test_the_same_images_in_both_splits_are_counted(tmp_path):
    classes(tmp_path / "source" / "train")
    shutil.copytree(tmp_path / "source" / "train", tmp_path / "source" / "val")
    pictures(tmp_path / "source" / "val" / "bee", GREY["bee"], 1, seed=9)
    assert build(tmp_path / "source")[0]["validation"]["test images also in train"] == 9


def test_broken_images_are_dropped_by_the_flag(tmp_path):
    both(tmp_path / "source")
    (tmp_path / "source" / "val" / "bee" / "3.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"unreadable image.*3\.png .*--drop-unreadable"):
        build(tmp_path / "source")
    section, counts = build(tmp_path / "source", drop=True)
    assert counts["val"] == {"ant": 5, "bee": 4} and section["validation"]["unreadable images dropped"] == 1
    for path in (tmp_path / "source" / "val" / "bee").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(InputError, match="class without a readable image: bee"):
        build(tmp_path / "source", drop=True)


def flat_val(source, name):
    classes(source / "train")
    pictures(source / "val", 100)
    for path in (source / "val").iterdir():
        path.rename(path.with_name(f"{name}{path.name}"))


def loop(source):
    classes(source)
    (source / "ant" / "up").symlink_to("..")


def raw_name(source):
    classes(source)
    (source / "ant" / "0.png").rename(source / "ant" / os.fsdecode(b"\xff.png"))


def deep(source):
    classes(source)
    Image.fromarray(np.full((8, 9), 40_000, np.uint16)).save(source / "ant" / "deep.png")


def pipe(source):
    classes(source)
    os.mkfifo(source / "ant" / "pipe.png")


REFUSED = {
    "ImageNet's val": (lambda s: flat_val(s, "ILSVRC2012_val_"), "val has ImageNet's validation images as they come"),
    "flat val": (lambda s: flat_val(s, "x"), r"val has 0 class folders; it has 5 \.png: sort them into one folder per"),
    "empty class of val": (lambda s: (both(s), (s / "val" / "cow").mkdir()), "class folder without an image .*val/cow"),
    "class of other files": (lambda s: (classes(s), pictures(s / "cow", 99), [one.rename(one.with_suffix(".heic"))
        for one in (s / "cow").iterdir()]), r"class folder without an image \(5 .heic\): .*cow: save them as JPEG"),
    "ImageNet as it comes": (lambda s: (both(s / "I" / "Data" / "CLS-LOC"), (s / "I" / "Annotations").mkdir()),
        "its splits are in .*/CLS-LOC: `python -m benchmarks prepare imagenet .*/CLS-LOC`"),
    "Tiny ImageNet's list breaks off": (lambda s: tiny(s, 4), r"image without a class in .*: val_4.png .and 1 more"),
    "case": (lambda s: (both(s), (s / "val" / "ant").rename(s / "val" / "Ant")), '"ant" .in train. and "Ant" .in val'),
    "flat": (lambda s: pictures(s, 100), r"it has 5 .png: .*`python -m pretrain PRESET --data"),
    "one class": (lambda s: pictures(s / "ant", 100), r"fewer than two class folders; it has ant/ .5 .png"),
    "VOC": (lambda s: (pictures(s / "JPEGImages", 99), (s / "Annotations").mkdir(),
        (s / "Annotations" / "1.xml").touch()), r"\(1 .xml\): .*Annotations: it has XML files: `.* prepare voc"),
    "COCO": (lambda s: (pictures(s / "images", 99), (s / "a.json").write_text('{"categories": [1]}')), "prepare coco"),
    "deep pixels": (deep, "16-bit, 32-bit or float pixels.*deep.png"),
    "link to the folder above": (loop, "ant/up.* cannot be read .links lead round"),
    "name that is not UTF-8": (raw_name, r"not UTF-8: .*udcff"),
    "pipe": (pipe, "missing image: .*pipe.png"),
    "a class in other letters": (lambda s: (classes(s), pictures(s / "c\n\x1b[31m", 99, 0)), r"c\\n\\x1b\[31m"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line_and_nothing_is_written(case, tmp_path):
    lay, message = REFUSED[case]
    lay(tmp_path / "source")
    with pytest.raises(InputError, match=message) as caught:
        build(tmp_path / "source")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    assert not (tmp_path / "view").exists()
