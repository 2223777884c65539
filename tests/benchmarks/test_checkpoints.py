"""Checkpoints as a user names them."""

import pytest

from benchmarks.checkpoints import parse_checkpoints
from pretrain.common.errors import InputError


def test_checkpoints_by_name_by_stem_and_by_folder(tmp_path):
    file, folder = tmp_path / "moco.pth", tmp_path / "run"
    folder.mkdir()
    for path in (file, folder / "backbone.safetensors"):
        path.write_bytes(b"x")
    found = parse_checkpoints((f"mine={file}", str(file), f"own={folder}"))
    assert found == {"mine": file, "moco": file, "own": folder / "backbone.safetensors"}


LIGHTNING = "epoch=99-step=500400"


@pytest.mark.parametrize(
    ("item", "label", "file"),
    [
        (f"{LIGHTNING}.ckpt", LIGHTNING, f"{LIGHTNING}.ckpt"),
        (f"mine={LIGHTNING}.ckpt", "mine", f"{LIGHTNING}.ckpt"),
        (f"{LIGHTNING}={LIGHTNING}.ckpt", LIGHTNING, f"{LIGHTNING}.ckpt"),
        ("lr=0.1/x.pth", "x", "lr=0.1/x.pth"),
        ("./lr=0.1/x.pth", "x", "lr=0.1/x.pth"),
        ("a=lr=0.1/x.pth", "a", "lr=0.1/x.pth"),
        ("lr=0.1", "lr=0.1", "lr=0.1/backbone.safetensors"),
        ("best=lr=0.1", "best", "lr=0.1/backbone.safetensors"),
        ("mein Lauf #1 (50%)=x y.pth", "mein Lauf #1 (50%)", "x y.pth"),
        ("a=b.pth", "a=b", "a=b.pth"),  # what exists is a path, though b.pth exists too
        ("c=b.pth", "c", "b.pth"),
    ],
)
def test_a_path_may_hold_an_equals_sign(item, label, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    for name in (f"{LIGHTNING}.ckpt", "lr=0.1/x.pth", "lr=0.1/backbone.safetensors", "x y.pth", "a=b.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"x")
    assert parse_checkpoints((item,)) == {label: tmp_path / file}


@pytest.mark.parametrize(
    ("item", "missing"),
    [
        ("lr=0.2/x.pth", "0.2/x.pth"),
        ("runs/lr=0.2/x.pth", "runs/lr=0.2/x.pth"),  # no name has a slash in it
        ("mine=nowhere.pth", "nowhere.pth"),
        (f"{LIGHTNING}.ckpt", "99-step=500400.ckpt"),
        ("=b.pth", "b.pth"),
        ("mine=", "mine="),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_a_checkpoint_that_is_not_there(item, missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        parse_checkpoints((item,))
    assert str(caught.value) == f"--checkpoint {item}: {missing} is not a file; give a PATH, or NAME=PATH"


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "caf\udce9", "a" * 201])
def test_a_name_that_no_table_can_show_is_refused_and_a_file_of_that_name_is_not(tmp_path, name):
    file = tmp_path / f"{name}.pth"
    file.write_bytes(b"x")
    if name.isascii() and len(name) < 200:
        assert list(parse_checkpoints((str(file),))) == [name.encode("unicode_escape").decode()]
    with pytest.raises(InputError, match="give a"):
        parse_checkpoints((f"{name}={file}",))
