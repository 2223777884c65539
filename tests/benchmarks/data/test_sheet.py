"""Contact sheets of data roots."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.data import sheet
from benchmarks.data.prepare import main as prepare
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError


@pytest.fixture
def drawn(monkeypatch):
    """Every line of text drawn in headings and below images."""
    texts = []
    for name in ("heading", "captioned"):
        function = getattr(sheet, name)

        def keep(*arguments, function=function):
            texts.extend(one for one in arguments if isinstance(one, str))
            return function(*arguments)

        monkeypatch.setattr(sheet, name, keep)
    return texts


@pytest.fixture
def source(tmp_path, monkeypatch):
    """24 pictures as COCO without masks; every third has no object."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    images, entries = [], []
    for number in range(1, 25):
        picture(tmp_path / "coco" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
        if number % 3:
            about = {"id": number, "image_id": number, "category_id": 1, "area": 100, "iscrowd": 0}
            entries.append(about | {"bbox": [5, 6, 10, 10]})
    categories = [{"id": 1, "name": "犬 $x$"}, {"id": 2, "name": "unused"}]
    stored = {"images": images, "annotations": entries, "categories": categories}
    (tmp_path / "coco" / "all.json").write_text(json.dumps(stored))
    return tmp_path / "coco"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(path)


def laid(kind, source, capsys):
    prepare([kind, str(source), "--name", "toy", "--val-fraction", "0.25"])
    return DataRoot.load(capsys.readouterr().out.strip())


def test_a_sheet_says_which_split_it_shows_and_how_much_of_it(source, drawn, capsys, tmp_path):
    root = laid("coco", source, capsys)
    assert sheet.main([str(root.path), "-o", str(tmp_path / "sheet.png")]) == 0
    assert [text for text in drawn if " of " in text] == ["train: 10 of 18 images", "val: 6 of 6 images"]
    objects = [text for text in drawn if text.endswith(".png")]
    assert len(objects) == 16 and {text.split(" · ")[0] for text in objects} == {"1 object", "0 objects"}
    assert not any("mask" in text for text in drawn)


def test_a_sheet_of_folders_says_how_many_classes_and_images_it_shows(drawn, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for number in range(22):
        for split, count in (("train", 16 if number == 0 else 1), ("val", 1)):
            for place in range(count):
                picture(tmp_path / "folders" / split / f"class {number:02d}" / f"{place}.png")
    root = laid("imagenet", tmp_path / "folders", capsys)
    sheet.main([str(root.path), "-o", str(tmp_path / "sheet.png")])
    assert "train: 20 of 22 classes" in drawn and "10 of 16 · class 00" in drawn and "1 of 1 · class 20" in drawn


def test_a_sheet_of_pictures_that_were_changed_is_refused(source, capsys, tmp_path):
    root = laid("coco", source, capsys)
    (source / "7.png").unlink()
    with pytest.raises(InputError, match="has changed since toy was prepared"):
        sheet.main([str(root.path), "-o", str(tmp_path / "sheet.png")])
    assert not (tmp_path / "sheet.png").exists()
