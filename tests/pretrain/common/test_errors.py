"""Errors of the operating system as one line."""

import errno
import resource
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from pretrain.common.errors import run_cli
from pretrain.common.files import require_writable, results_dir, write_json


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch):
    """The signals of this process stay pytest's."""
    monkeypatch.setattr("pretrain.common.errors.raise_on_signals", lambda: None)


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


def test_a_folder_that_cannot_be_written_is_found_without_leaving_anything_in_it(tmp_path, monkeypatch):
    require_writable(tmp_path / "not" / "made")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match="file"):
            require_writable(place)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            require_writable(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
        (MemoryError(), "MemoryError"),
        (MemoryError("Unable to allocate 2.00 GiB for an array with shape (5,) and data type float64"), "2.00 GiB"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("unable to mmap 46 bytes from file </x>: Cannot allocate memory (12)"), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (RuntimeError("can't start new thread"), "ulimit"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v"),
        (BrokenProcessPool("A process in the process pool was terminated abruptly"), "--workers"),
    ],
)
def test_too_little_memory_is_one_line_with_a_remedy(error, remedy, monkeypatch, capsys):
    def main(argv):
        raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    assert remedy in shown(main, capsys)


@pytest.mark.parametrize(
    "error",
    [
        OSError("1024 requested and 512 written"),  # NumPy's
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_in_the_words_of_libraries_is_one_line(error, monkeypatch, capsys):
    def main(argv):
        raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    assert "free some space" in shown(main, capsys)


def test_a_limit_on_file_sizes_is_named(monkeypatch, capsys):
    def main(argv):
        raise OSError(errno.EFBIG, "File too large", "x.npy")

    monkeypatch.setattr(sys, "argv", ["x"])
    assert "ulimit -f" in shown(main, capsys)


def test_other_faults_keep_their_traceback(monkeypatch):
    def main(argv):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(RuntimeError, match="mat1"):
        run_cli(main)


def test_a_broken_pipe_is_passed_over_only_where_nobody_reads_the_output():
    def main(argv):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_cli(main)
    code = "from pretrain.common.errors import run_cli; run_cli(lambda argv: print('a line\\n' * 100_000) or 0)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1
