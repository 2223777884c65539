"""Folders of images: ``python -m pytest tests/pretrain/test_data.py``."""

import json
import os

import pytest

from pretrain import data
from pretrain.errors import InputError
from tests.pretrain.conftest import write_images


def test_class_folders_and_flat_folder(class_folders, flat_folder):
    images = data.list_images(class_folders)
    assert images.classes == ("cat", "dog") and len(images) == 24
    assert all(images.classes[n] == p.split("/")[0] for n, p in zip(images.labels, images.paths, strict=True))
    assert data.list_images(flat_folder).labels is None


def test_folders_that_cannot_be_used(tmp_path, class_folders):
    with pytest.raises(InputError, match="not a folder"):
        data.list_images(tmp_path / "absent")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        data.list_images(tmp_path / "empty")
    with pytest.raises(InputError, match="splits train, not classes"):
        write_images(tmp_path / "root" / "train" / "cat", 1)
        data.list_images(tmp_path / "root")
    write_images(class_folders, 1)
    with pytest.raises(InputError, match="both images"):
        data.list_images(class_folders)


def test_hidden_folders_are_no_classes(class_folders):
    write_images(class_folders / ".ipynb_checkpoints", 2)
    write_images(class_folders / "cat" / ".trash", 2)
    images = data.list_images(class_folders)
    assert images.classes == ("cat", "dog") and len(images) == 24


def test_a_folder_that_cannot_be_read_is_named(class_folders, monkeypatch):
    walk = os.walk

    def refused(root, followlinks, onerror):
        yield from walk(root, followlinks=followlinks)
        onerror(PermissionError(13, "Permission denied", str(class_folders / "dog")))

    monkeypatch.setattr(os, "walk", refused)
    with pytest.raises(InputError, match=r"dog cannot be read \(Permission denied\): change its"):
        data.list_images(class_folders)


def test_prepared_root_gives_its_name_and_fingerprint(tmp_path):
    write_images(tmp_path / "root" / "imagenet" / "train" / "cat", 2)
    train = tmp_path / "root" / "imagenet" / "train"
    before = data.describe(data.list_images(train))
    assert before["name"] == "train" and len(before["fingerprint"]) == 64
    record = {"name": "emoji-smoke", "synthetic": True, "config": {}, "imagenet": {"fingerprint": "abc"}}
    (tmp_path / "root" / "data.json").write_text(json.dumps(record))
    after = data.describe(data.list_images(train))
    assert after == {
        "name": "emoji-smoke", "size": 2, "fingerprint": "abc", "folder": "imagenet/train", "synthetic": True
    }  # fmt: skip


@pytest.mark.parametrize(
    "content", ["[1]", "{not json", '{"images": {"fingerprint": "x"}}', '{"name": "n", "images": {"fingerprint": "x"}}']
)
def test_somebody_elses_data_json_is_ignored(tmp_path, content):
    write_images(tmp_path / "images", 2)
    alone = data.describe(data.list_images(tmp_path / "images"))
    (tmp_path / "data.json").write_text(content)
    assert data.describe(data.list_images(tmp_path / "images")) == alone


def test_files_without_a_target_or_a_proper_name_are_one_line(flat_folder):
    (flat_folder / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match=r"cannot read .*gone\.jpg \(No such file or directory\)"):
        data.describe(data.list_images(flat_folder))
    (flat_folder / "gone.jpg").unlink()
    (flat_folder / "003.jpg").rename(flat_folder / os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(InputError, match=r"caf\\udce9\.jpg' is not UTF-8"):
        data.describe(data.list_images(flat_folder))
