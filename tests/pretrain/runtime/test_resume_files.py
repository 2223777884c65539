"""Saves, whole or absent, and the lock."""

import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from pretrain.common.errors import RunError
from pretrain.common.files import locked
from pretrain.runtime.resume import discard, load_state, save_state, saves


def parts(value=0.0, size=2):
    model = nn.Linear(size, size)
    nn.init.constant_(model.weight, value)
    return {"method": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)}


def test_the_newest_saves_are_kept_and_the_newest_is_loaded(tmp_path):
    for step in (5, 10, 100, 1000):
        save_state(tmp_path, step, parts(step), keep=2)
    assert [path.name for path in saves(tmp_path)] == ["state-000001000.pt", "state-000000100.pt"]
    loaded = parts()
    assert load_state(tmp_path, loaded) == 1000 and loaded["method"].weight[0, 0] == 1000
    assert load_state(tmp_path / "elsewhere", loaded) == 0


@pytest.mark.parametrize("damage", [b"PK\x03\x04 half a file", b"", "cut", "flipped"])
def test_a_damaged_save_is_named_and_the_one_before_it_taken(tmp_path, capsys, damage):
    for step in (5, 10):
        save_state(tmp_path, step, parts(step, 50), keep=2)
    newest = saves(tmp_path)[0]
    whole = newest.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - value for value in whole[middle : middle + 64]) + whole[middle + 64 :]
    newest.write_bytes({"cut": whole[:-200], "flipped": flipped}.get(damage, damage))
    loaded = parts(size=50)
    assert load_state(tmp_path, loaded) == 5 and (loaded["method"].weight == 5).all()
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said and said.count("\n") == 1


def test_a_save_of_another_network_is_refused_in_one_line(tmp_path):
    save_state(tmp_path, 5, parts(size=3), keep=1)
    with pytest.raises(RunError, match=r"does not fit .* --resume never") as caught:
        load_state(tmp_path, parts(size=2))
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_previous_save(tmp_path):
    save_state(tmp_path, 1, parts(1, 1000), keep=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(RunError, match=r"could not save .*state-000000002\.pt.*earlier saves are intact") as caught:
            save_state(tmp_path, 2, parts(2, 1000), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and [p.name for p in tmp_path.iterdir()] == ["state-000000001.pt"]
    assert load_state(tmp_path, parts(size=1000)) == 1


def test_discarding_leaves_an_unfinished_folder_without_saves(tmp_path):
    save_state(tmp_path, 1, parts(), keep=1)
    for name in ("meta.json", "backbone.safetensors", "metrics.jsonl", "settings.json"):
        (tmp_path / name).touch()
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []


HOLD = """
import fcntl, pathlib, sys, time
with open(sys.argv[1], "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print(flush=True)
    input()
    time.sleep(0.2)
    pathlib.Path(sys.argv[2]).touch()
"""


def test_a_second_process_waits_for_the_first(tmp_path, monkeypatch):
    folder, done, said = tmp_path / "run", tmp_path / "done", []
    folder.mkdir()
    (folder / ".state.pt.1.tmp").write_bytes(b"half")  # what kill -9 during a save leaves
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, folder / ".lock", done], **pipes) as first:
        first.stdout.readline()

        def say(line, file):  # said before it waits: now let the first process go on
            said.append(line)
            first.stdin.write(b"\n")
            first.stdin.flush()

        monkeypatch.setattr("builtins.print", say)
        with locked(folder):
            assert done.exists() and "another process works in" in said[0]
            assert sorted(path.name for path in folder.iterdir()) == [".claim-1", ".lock"]
