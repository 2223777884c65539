"""Cityscapes as it is unpacked: linked, its instances as COCO's JSON to the pixel, or refused in one line."""

import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as rle

from benchmarks.data.from_cityscapes import CLASSES
from benchmarks.data.prepare import main
from benchmarks.data.registration import records_of, register
from benchmarks.data.root import DataRoot
from benchmarks.rehearsal.raw_sets import cityscapes
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def source(tmp_path):
    return cityscapes(tmp_path / "cityscapes")


def prepare(source, name="city"):
    assert main(["cityscapes", str(source), "--name", name]) == 0
    return DataRoot.load(data_dir() / name)


def ids_of(record):
    path = record["file_name"].replace("/leftImg8bit/", "/gtFine/")
    return np.asarray(Image.open(path.replace("_leftImg8bit.png", "_gtFine_instanceIds.png")), dtype=int)


def test_every_mask_is_the_pixels_of_one_id_and_every_such_id_is_there(source):
    root = prepare(source)
    section, data = root.section("cityscapes"), register(root, "cityscapes")
    assert (data.num_classes, data.mask_format, data.test_images) == (8, "bitmask", 3)
    assert data.classes == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    kinds = set()
    for names, split, images in ((data.train, "train", 6), (data.test, "val", 3)):
        records = records_of(names)
        assert len(records) == images == section["counts"][split]["images"]
        for record in records:
            ids = ids_of(record)
            single = {key: key // 1000 for key in np.unique(ids).tolist() if key // 1000 in CLASSES}
            wanted = single | {key: key for key in np.unique(ids).tolist() if key in CLASSES}
            assert len(record["annotations"]) == len(wanted)
            for (key, label), one in zip(sorted(wanted.items()), record["annotations"], strict=True):
                mask = rle.decode(one["segmentation"]) > 0
                assert np.array_equal(mask, ids == key)
                assert data.classes[one["category_id"]] == CLASSES[label] and one["iscrowd"] == (key < 1000)
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS) == box
                kinds.add(one["iscrowd"])
    assert kinds == {0, 1} and section["counts"]["train"]["crowds"] > 0


def test_the_evaluator_finds_the_instance_ids_of_every_test_image(source):
    data = register(prepare(source), "cityscapes")
    meta = MetadataCatalog.get(data.test[0])
    names = [one["file_name"] for one in json.loads(open(meta.json_file).read())["images"]]  # noqa: PTH123, SIM115
    assert meta.evaluator_type == "cityscapes" and meta.label_ids == tuple(CLASSES) and len(names) == 3
    assert all(meta.instances_file(name).is_file() for name in names)


def test_detectron2s_folder_of_data_sets_will_do_and_nothing_is_copied(source, tmp_path):
    whole = prepare(source)
    other = prepare(tmp_path, name="other")
    assert whole.section("cityscapes") == other.section("cityscapes")
    links = [path.name for path in (whole.path / "cityscapes").iterdir() if path.is_symlink()]
    assert sorted(links) == ["gtFine", "leftImg8bit"]
    next((source / "gtFine" / "train" / "zurich").glob("*instanceIds.png")).touch()
    with pytest.raises(InputError, match="has changed since city was prepared"):
        whole.check_unchanged()


def bomb():
    """A PNG whose header names 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def first(source, folder, end):
    return min((source / folder / "train").glob(f"*/*{end}"))


REFUSED = {
    "no gtFine": (lambda s: shutil.rmtree(s / "gtFine"), r"has no leftImg8bit/ and gtFine/ \(it has leftImg8bit/"),
    "no val": (lambda s: shutil.rmtree(s / "leftImg8bit" / "val"), r"leftImg8bit/val has no CITY/\*_leftImg8bit.png"),
    "a lost file": (lambda s: first(s, "gtFine", "Ids.png").unlink(), "missing annotation: .*aachen_000000_000019_gt"),
    "a broken annotation": (lambda s: first(s, "gtFine", "instanceIds.png").write_bytes(b"x"), "cannot be read"),
    "ids of other tools": (
        lambda s: Image.new("I", (128, 64), 2**31 - 1).save(first(s, "gtFine", "instanceIds.png"), "TIFF"),
        r"cannot be read \(its ids are not of 16 bits\)",
    ),
    "a bomb": (lambda s: first(s, "gtFine", "instanceIds.png").write_bytes(bomb()), "cannot be read .Image size"),
    "a broken image": (lambda s: first(s, "leftImg8bit", ".png").write_bytes(b"x"), "unreadable image: .*aachen"),
    "another size": (
        lambda s: Image.new("I;16", (9, 9)).save(first(s, "gtFine", "instanceIds.png")),
        r"is of shape \(9, 9\), its image of \(64, 128\)",
    ),
    "no object": (
        lambda s: [Image.new("I;16", (128, 64)).save(path) for path in (s / "gtFine" / "val").glob("*/*Ids.png")],
        "gtFine/val has no object of the classes person",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_or_broken_is_one_line_and_nothing_is_written(case, source, tmp_path):
    change, words = REFUSED[case]
    change(source)
    with pytest.raises(InputError, match=words) as caught:
        prepare(source)
    assert "\n" not in str(caught.value) and not (tmp_path / "data" / "city").exists()
