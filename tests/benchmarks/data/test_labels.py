"""Lists of labelled images: prepared, checked, stored beside the layout."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.data import labels
from benchmarks.data.root import DataRoot
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.pretrain.conftest import write_images


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two classes with five training images each; ``000.jpg`` and so on in both, ``a_own.jpg`` in one."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for split, count in (("train", 5), ("val", 2)):
        for name in ("a", "b"):
            write_images(tmp_path / "source" / split / name, count)
    (tmp_path / "source" / "train" / "a" / "000.jpg").rename(tmp_path / "source" / "train" / "a" / "a_own.jpg")
    return tmp_path / "source"


def prepared(source, capsys, *options):
    assert main(["prepare", "imagenet", str(source), *map(str, options)]) == 0
    out, err = capsys.readouterr()
    return DataRoot.load(out.strip()), err


def test_a_list_is_stored_beside_the_layout_whose_fingerprint_stays(source, capsys, tmp_path):
    plain, _ = prepared(source, capsys)
    assert labels.stored_list(plain, 1) is None and "labels" not in plain.section("imagenet")
    one, ten = tmp_path / "one.txt", tmp_path / "ten.txt"
    one.write_text("b/003.jpg\r\n\n a_own.jpg \n")
    ten.write_text("a/001.jpg\na_own.jpg\nb/000.jpg\n", encoding="utf-16")
    root, err = prepared(source, capsys, "--labels-1percent", one, "--labels-10percent", ten)
    assert labels.stored_list(root, 1) == ["a/a_own.jpg", "b/003.jpg"]
    assert labels.stored_list(root, 10) == ["a/001.jpg", "a/a_own.jpg", "b/000.jpg"]
    assert "labels of 1 %: 2 images listed" in err and "labels of 10 %: 3 images listed" in err
    assert (
        root.path == plain.path and root.section("imagenet")["fingerprint"] == plain.section("imagenet")["fingerprint"]
    )
    assert root.section("imagenet")["labels"]["1"]["images"] == 2
    # The data of the tasks that use the list are other data; those of the others are the same.
    for name in ("semi-1-swav", "semi-10-barlow"):
        assert TASKS[name].data_fingerprint(root) != TASKS[name].data_fingerprint(plain)
    assert TASKS["semi-1-swav"].data_fingerprint(root) == TASKS["semi-1-vicreg"].data_fingerprint(root)
    for name in ("linear", "finetune-lightly"):
        assert TASKS[name].data_fingerprint(root) == TASKS[name].data_fingerprint(plain)
    again, err = prepared(source, capsys, "--labels-1percent", one, "--labels-10percent", ten)
    assert "laying it out again" not in err and again == root
    root.check_unchanged()
    one.write_text("b/003.jpg\na/001.jpg\n")
    with pytest.raises(InputError, match=r"has changed since .* --labels-1percent .*one.txt"):
        root.check_unchanged()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a_own.jpg\nb/003.jpg\nn01440764_10026.JPEG\n", "line 3: n01440764_10026.JPEG is not a training image"),
        ("a_own.jpg\n000.jpg\n001.jpg", "line 3: 001.jpg is the name of several training images: write class/name"),
        ("a_own.jpg\na/a_own.jpg\n", "line 2: a/a_own.jpg is also in line 1"),
        ("a_own.jpg\n", "has no image of class b"),
        ("", "has no image of class a"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_in_one_line(source, tmp_path, text, words):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        main(["prepare", "imagenet", str(source), "--labels-10percent", str(tmp_path / "list.txt")])
    assert str(tmp_path / "list.txt") in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "results").rglob("data.json"))


def test_files_that_are_no_lists_are_refused(source, capsys, tmp_path):
    with pytest.raises(InputError, match=r"absent.txt is not a file"):
        main(["prepare", "imagenet", str(source), "--labels-1percent", str(tmp_path / "absent.txt")])
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8\xff\xe0\x80")
    with pytest.raises(InputError, match=r"image.jpg cannot be read"):
        main(["prepare", "imagenet", str(source), "--labels-1percent", str(tmp_path / "image.jpg")])


def test_a_stored_list_that_was_edited_is_refused(source, capsys, tmp_path):
    (tmp_path / "one.txt").write_text("b/003.jpg\na_own.jpg\n")
    root, _ = prepared(source, capsys, "--labels-1percent", tmp_path / "one.txt")
    (root.path / "labels" / "1percent.txt").write_text("a/a_own.jpg\nb/002.jpg\n")
    with pytest.raises(InputError, match=r"1percent.txt is not the list that was prepared"):
        labels.stored_list(root, 1)
    (root.path / "labels" / "1percent.txt").unlink()
    with pytest.raises(InputError, match=r"1percent.txt is not the list that was prepared"):
        labels.stored_list(root, 1)
    assert json.loads((root.path / "data.json").read_text())["imagenet"]["labels"]["1"]["images"] == 2


@pytest.mark.parametrize("broken", [[1], {"1": 3}, {"1": {}}, {"1": {"digest": 4}}, "text", None])
def test_a_record_whose_lists_are_none_is_refused_in_one_line(source, capsys, broken):
    root, _ = prepared(source, capsys)
    stored = json.loads((root.path / "data.json").read_text())
    stored["imagenet"]["labels"] = broken
    (root.path / "data.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        DataRoot.load(root.path)
