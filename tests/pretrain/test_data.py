"""Folders of images."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from pretrain import data
from pretrain.common.errors import InputError
from pretrain.common.files import fingerprint
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


def test_what_is_no_image_is_counted_by_suffix(class_folders):
    for name in ("a.heic", "b.heic", "notes.txt", "README", ".hidden"):
        (class_folders / "cat" / name).write_bytes(b"no image")
    images = data.list_images(class_folders)
    assert len(images) == 24 and images.passed_over == {".heic": 2, ".txt": 1, "": 1}
    assert data.by_suffix(images.passed_over) == "2 .heic, 1 without a suffix, 1 .txt"
    with pytest.raises(InputError, match=r"no images in .*only 2 \.heic, 1 without"):
        for path in class_folders.rglob("*.jpg"):
            path.unlink()
        data.list_images(class_folders)


def test_many_and_odd_suffixes_are_one_short_line():
    suffixes = {f".{number:04d}": 1 for number in range(500)} | {".a\nb": 3}
    assert data.by_suffix(suffixes).startswith("3 .a\\nb, 1 .0000, 1 .0001") and len(data.by_suffix(suffixes)) < 90
    assert data.by_suffix(suffixes).endswith("495 of other suffixes")


DEEP = {
    "I;16 .png": lambda ramp: Image.fromarray(ramp.astype(np.uint16) * 257),
    "I .tif": lambda ramp: Image.fromarray(ramp.astype(np.int32) * 65537),
    "F .tif": lambda ramp: Image.fromarray(ramp.astype(np.float32) / 255),
}


@pytest.mark.parametrize("kind", DEEP)
def test_pixels_that_eight_bits_cannot_hold_are_refused(kind, tmp_path):
    """Pillow alone turns them white or black."""
    path = tmp_path / f"deep{kind.split()[1]}"
    DEEP[kind](np.tile(np.arange(256), (32, 1))).save(path)
    with pytest.raises(InputError, match=r"deep\..*16-bit, 32-bit or float pixels, mode [IF]"):
        data.decode(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA", "YCbCr"])
def test_eight_bit_modes_keep_their_picture(mode, tmp_path):
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    gray = np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1).repeat(8, axis=0)
    Image.fromarray(gray).convert("RGB").convert(mode).save(tmp_path / f"a{suffix}")
    assert np.abs(np.asarray(data.decode(tmp_path / f"a{suffix}")).mean(2) - gray).max() < 4


def fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link_bomb(folder):
    """Each level has two links to the next: 2^40 ways to the last one."""
    for level in range(40):
        place = folder / f"l{level}"
        place.mkdir()
        for name in ("a", "b"):
            (place / name).symlink_to(folder / f"l{level + 1}")
    (folder / "l40").mkdir()


HOSTILE = {
    "a link to the folder itself": (lambda s: (s / "loop").symlink_to(s), "loop cannot be read .*: remove the link"),
    "a link to the folder above": (lambda s: (s / "cat" / "up").symlink_to(".."), "cat/up cannot be read"),
    "links that multiply": (link_bomb, "cannot be read .links lead round"),
    "a pipe": (lambda s: fifo(s / "cat" / "pipe.jpg"), "cannot read .*pipe.jpg .not a regular file"),
    "a pipe for a list": (lambda s: fifo(s / "cat" / "labels.txt"), "cannot read .*labels.txt .not a regular file"),
    "a name that is not UTF-8": (lambda s: (s / os.fsdecode(b"\xff\xfe")).mkdir() or write_images(
        s / os.fsdecode(b"\xff\xfe"), 1), "is not UTF-8"),
    "a line end in the name of a pipe": (lambda s: fifo(s / "cat" / "a\nb.jpg"), r"a\\nb.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders_are_one_line_at_once(case, class_folders):
    spoil, message = HOSTILE[case]
    spoil(class_folders)
    with pytest.raises(InputError, match=message) as caught:
        data.describe(data.list_images(class_folders))
    assert str(caught.value).isprintable()


def test_a_folder_with_an_image_name_and_a_linked_class_are_folders(class_folders, tmp_path):
    write_images(class_folders / "cat" / "album.jpg", 2)
    write_images(tmp_path / "elsewhere", 3)
    (class_folders / "elk").symlink_to(tmp_path / "elsewhere")
    images = data.list_images(class_folders)
    assert len(images) == 24 + 2 + 3 and images.classes == ("cat", "dog", "elk")
    data.describe(images)


@pytest.mark.parametrize("spoil", [fifo, lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: (
    path.unlink(), path.mkdir())])  # fmt: skip
def test_decode_names_what_is_no_image(spoil, flat_folder):
    path = flat_folder / "003.jpg"
    spoil(path)
    with pytest.raises(InputError, match=r"cannot read image .*003\.jpg"):
        data.decode(path)


def test_data_json_that_cannot_be_read_is_ignored(tmp_path):
    write_images(tmp_path / "images", 2)
    alone = data.describe(data.list_images(tmp_path / "images"))
    (tmp_path / "data.json").write_text("[" * 100_000)
    assert data.describe(data.list_images(tmp_path / "images")) == alone
    fifo(tmp_path / "data.json")
    assert data.describe(data.list_images(tmp_path / "images")) == alone


def test_the_fingerprint_of_linked_folders_is_that_of_the_files(tmp_path):
    write_images(tmp_path / "real" / "cat", 2)
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "cat").symlink_to(tmp_path / "real" / "cat")
    assert fingerprint(tmp_path / "view") == fingerprint(tmp_path / "real")
