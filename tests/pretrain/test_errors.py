"""Errors of the operating system as one line: ``python -m pytest tests/pretrain/test_errors.py``."""

import errno
import sys

import pytest
import torch

from pretrain.errors import run_cli
from pretrain.files import results_dir, write_json


def shown(main, capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    message = capsys.readouterr().err
    assert stop.value.code == 1 and message.startswith("error: ") and message.count("\n") == 1
    return message


def test_results_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    def main(argv):
        write_json(results_dir() / "pretrain" / "x.json", {})

    monkeypatch.setattr(sys, "argv", ["x"])
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("RESULTS_DIR", str(place))
        message = shown(main, capsys)
        assert str(tmp_path / "file") in message and "RESULTS_DIR" in message
    monkeypatch.setenv("RESULTS_DIR", "/proc/none/results")
    assert "cannot be made" in shown(main, capsys)


def test_a_full_disk_and_an_unreadable_file_get_different_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x"])

    def failing(number):
        def main(argv):
            raise OSError(number, "reason", "images/secret.jpg")

        return main

    assert "free some space" in shown(failing(errno.ENOSPC), capsys)
    unreadable = shown(failing(errno.EACCES), capsys)
    assert "images/secret.jpg" in unreadable and "cannot be read" in unreadable and "space" not in unreadable
    with pytest.raises(FileNotFoundError):  # a fault of ours keeps its traceback
        run_cli(failing(errno.ENOENT))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore"), "--batch-size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), "--batch-size"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. \nIt is"), "--workers"),
    ],
)
def test_too_little_memory_is_one_line_with_a_remedy(error, remedy, monkeypatch, capsys):
    def main(argv):
        raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    assert remedy in shown(main, capsys)


def test_other_faults_keep_their_traceback(monkeypatch):
    def main(argv):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(RuntimeError, match="mat1"):
        run_cli(main)
