"""Checkpoints of one pretraining run by epoch."""

import pytest

from benchmarks.checkpoints import with_series
from benchmarks.report.cells import collect
from benchmarks.report.paper.pictures import series_files
from benchmarks.series import series_of
from benchmarks.suites import read_suite
from pretrain.common.errors import InputError
from tests.benchmarks.report.records import saved


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "epochs"),
    [
        (["ckpt_0100.pth", "ckpt_0020.pth"], [20, 100]),
        (["epoch=9-step=500.ckpt", "epoch=19-step=1000.ckpt"], [9, 19]),
        (["r50_1.pth", "r50_10.pth", "r50_2.pth"], [1, 2, 10]),
        (["ep3.pth"], [3]),
        (["200ep_ckpt_5_v2.pth", "200ep_ckpt_6_v2.pth"], [5, 6]),
    ],
)
def test_epochs_are_read_from_the_names(tmp_path, names, epochs):
    touch(tmp_path, *names)
    found = series_of(f"mine={tmp_path}/*", "--series")
    assert list(found) == [f"mine @{epoch}" for epoch in epochs] and all(path.is_file() for path in found.values())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no file matches"),
        (["last.pth"], "no epoch in the name of last.pth"),
        (["ep1_a.pth", "ep1_b.pth"], "ep1_a.pth and ep1_b.pth are both of epoch 1"),
    ],
)
def test_names_that_leave_the_epoch_open(tmp_path, names, words):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=words):
        series_of(f"mine={tmp_path}/*.pth", "--series")


def test_a_series_without_a_name():
    with pytest.raises(InputError, match="give NAME=PATTERN"):
        series_of("/run/*.pth", "--series")


def test_a_suites_row_is_a_row_per_checkpoint(tmp_path):
    touch(tmp_path, "ckpt_1.pth", "ckpt_20.pth")
    path = tmp_path / "suite.toml"
    rows = f'[[rows]]\nlabel = "mine"\nseries = "{tmp_path}/ckpt_*.pth"\n'
    figure = '[[figures]]\nname = "c"\nkind = "curve"\nx = "epoch"\ny = ["knn/top1"]\n'
    path.write_text(f'title = "t"\nprofile = "smoke"\n{rows}[[columns]]\ntask = "knn"\n{figure}')
    suite = read_suite(path)
    assert [(row.label, row.group, row.at) for row in suite.rows] == [
        ("mine @1", "mine", {"epoch": 1}),
        ("mine @20", "mine", {"epoch": 20}),
    ]
    path.write_text(path.read_text().replace('label = "mine"', 'label = "mine"\npreset = "x"'))
    with pytest.raises(InputError, match=r"rows\[0\] has series and preset"):
        read_suite(path)


def test_the_curve_has_a_line_per_series_and_is_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    runs = [
        (f"{name} @{epoch}", {"task": "knn", "checkpoint_sha256": sha * 64}, 10.0 + epoch)
        for sha, name, epoch in [("1", "mine", 0), ("2", "mine", 50), ("3", "mine", 100), ("4", "other", 50)]
    ]
    cells = collect(saved(*runs))
    files = series_files("t", cells)
    assert set(files) == {"t-series.svg", "t-series.pdf", "t-series.png"} and files == series_files("t", cells)
    assert b"cost of these runs" in files["t-series.svg"] and b"other" in files["t-series.svg"]
    assert series_files("t", collect(saved(("alone", {"task": "knn", "checkpoint_sha256": "9" * 64}, 1.0)))) == {}


def test_series_beside_checkpoints(tmp_path):
    touch(tmp_path, "ckpt_1.pth", "ckpt_2.pth")
    found = with_series({"other": tmp_path / "x"}, (f"mine={tmp_path}/*.pth",))
    assert list(found) == ["other", "mine @1", "mine @2"] and found["mine @2"] == tmp_path / "ckpt_2.pth"
    with pytest.raises(InputError, match="mine @1 is there twice"):
        with_series({}, (f"mine={tmp_path}/*.pth", f"mine={tmp_path}/*.pth"))
