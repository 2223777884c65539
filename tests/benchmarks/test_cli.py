"""The commands as a user meets them: python -m pytest tests/benchmarks/test_cli.py"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.plan import parse_checkpoints
from benchmarks.suites import run_suite
from pretrain.errors import InputError

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with an imagenet section only, and a file that is no checkpoint."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    folder = tmp_path / "toy"
    folder.mkdir()
    section = {"classes": ["a", "b"], "counts": {"train": 4, "val": 2}, "fingerprint": "f" * 64}
    record = {"name": "toy", "synthetic": True, "description": "a toy", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(record))
    (tmp_path / "x.pth").write_text("<html>404 not found</html>")
    return folder


def run_arguments(root, **changes):
    values = {
        "--task": ["knn"],
        "--checkpoint": [f"x={root.parent / 'x.pth'}"],
        "--data": [str(root)],
        "--profile": ["smoke"],
    } | changes
    return ["run", *(word for flag, words in values.items() for word in (flag, *words))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--task": ["segmentation"]}, "unknown task segmentation: choose from linear"),
        ({"--task": ["voc-det"]}, "voc"),
        ({"--protocol": ["voc_c4_24k"]}, "unknown protocol voc_c4_24k"),
        ({"--data": ["/nowhere"]}, "prepare"),
        ({"--checkpoint": ["x=/nowhere.pth"]}, "/nowhere.pth is not a file"),
        ({"--checkpoint": ["x=/etc/hostname", "x=/etc/hostname"]}, "two checkpoints are named x"),
        ({"--opts": ["SOLVER.MAX_ITER"]}, "KEY VALUE"),
        ({"--workers": ["0"]}, "--workers 0"),
    ],
)
def test_wrong_input_is_one_line_that_names_it_and_nothing_is_written(root, changes, words):
    with pytest.raises(InputError) as caught:
        main(run_arguments(root, **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (root.parent / "results").exists()


def test_a_file_that_is_no_checkpoint_stops_the_run_before_any_record(root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *run_arguments(root)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "x.pth" in last and "Traceback" not in done.stderr
    assert not (root.parent / "results" / "runs").exists() and not (root.parent / "results" / "converted").exists()


@pytest.mark.parametrize("flag", ["--sede", "--profile=huge", "--workers=two"])
def test_unknown_flags_and_wrong_types_are_named_and_exit_with_2(root, flag, capfd):
    with pytest.raises(SystemExit) as caught:
        main([*run_arguments(root), flag])
    assert caught.value.code == 2
    assert flag.split("=")[-1] in capfd.readouterr().err


def test_unknown_command():
    with pytest.raises(InputError, match="unknown command plot: choose from prepare"):
        main(["plot"])


def test_checkpoints_by_name_by_stem_and_by_folder(tmp_path):
    file, folder = tmp_path / "moco.pth", tmp_path / "run"
    folder.mkdir()
    for path in (file, folder / "backbone.safetensors"):
        path.write_bytes(b"x")
    found = parse_checkpoints((f"mine={file}", str(file), f"own={folder}"))
    assert found == {"mine": file, "moco": file, "own": folder / "backbone.safetensors"}


def test_a_checkpoint_may_not_take_a_row_of_the_suite(tmp_path):
    with pytest.raises(InputError, match="simclr"):
        run_suite("smoke", {"simclr": tmp_path}, 1, 0, ())


def test_paper_lists_what_is_missing_and_where_it_looked(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("IMAGENET_DIR", "/data/in1k")
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    with pytest.raises(InputError, match="needs imagenet, voc, coco"):
        run_suite("paper", {"mine": tmp_path / "x.pth"}, 1, 0, ())
    said = capfd.readouterr().err
    assert "IMAGENET_DIR = /data/in1k" in said and "DETECTRON2_DATASETS (not set)" in said
    assert "python -m benchmarks prepare imagenet /data/in1k" in said
    assert list(tmp_path.iterdir()) == []


def test_tables_without_records_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no finished run of profile demo"):
        main(["tables", "demo"])
