"""The store of imported checkpoints: found again without reading them, and written again where it is damaged."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pretrain import train
from pretrain.common.errors import InputError, RunError
from pretrain.methods.cmc import CMCConfig
from tests.pretrain.conftest import class_folders, results, tiny  # noqa: F401  (fixtures)
from tests.transfer.layouts.parts import random_backbone, under
from transfer.checkpoints import store
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert
from transfer.checkpoints.given import Given
from transfer.checkpoints.store import find, import_checkpoint

CHECKOUT = Path(__file__).resolve().parents[3]
FILES = ("backbone.safetensors", "model.pkl", "proof.json")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr(store, "_hashes", {})
    return tmp_path


@pytest.fixture(scope="module")
def backbone():
    return random_backbone("resnet18", 1)


@pytest.fixture
def checkpoint(backbone, folder):
    torch.save(backbone, folder / "x.pth")
    return folder / "x.pth"


def forbidden(*args, **kwargs):
    raise AssertionError("read again")


def test_an_imported_checkpoint_is_found_and_equal(checkpoint, folder, monkeypatch):
    assert find(checkpoint) is None
    stored = import_checkpoint(checkpoint)
    assert sorted(path.name for path in stored.folder.iterdir() if path.suffix) == sorted(FILES)
    assert stored.folder == folder / "results" / "backbones" / stored.identity
    read = read_backbone(checkpoint)
    assert (stored.sha256, stored.input, stored.architecture) == (read.sha256, read.input, "resnet18")
    assert (stored.family, stored.reason, stored.source) == (read.family, read.reason, checkpoint)
    assert stored.detectron2.read_bytes() == convert(checkpoint, folder / "y.pkl").path.read_bytes()
    loaded = stored.load()
    assert all(torch.equal(loaded.state[name], read.state[name]) for name in read.state)
    assert dataclasses.replace(loaded, state={}) == dataclasses.replace(read, state={})
    monkeypatch.setattr("transfer.checkpoints.reading.read.load_checkpoint", forbidden)
    assert find(checkpoint) == import_checkpoint(checkpoint) == stored
    assert (stored.proof.mapped, stored.proof.max_difference) == (100, 0)


def test_finding_takes_no_torch(checkpoint):
    import_checkpoint(checkpoint)
    code = (
        "import sys; from transfer.checkpoints.store import find; found = find(sys.argv[1]);"
        "sys.exit(not found or bool({'torch', 'detectron2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(checkpoint)], cwd=CHECKOUT).returncode == 0


def test_the_same_tensors_in_another_file_are_stored_once(backbone, checkpoint, folder):
    torch.save({"state_dict": under("net.trunk.", backbone)}, folder / "other.pth")
    first = import_checkpoint(checkpoint)
    other = import_checkpoint(folder / "other.pth", family="prefix", network="state_dict.net.trunk.")
    assert (other.folder, other.sha256) == (first.folder, first.sha256)
    assert (other.family, other.network, other.source) == ("prefix", "state_dict.net.trunk.", folder / "other.pth")
    assert find(folder / "other.pth") is None
    assert find(folder / "other.pth", family="prefix", network="state_dict.net.trunk.") == other


def test_another_input_is_another_backbone(checkpoint):
    usual, given = import_checkpoint(checkpoint), Given(channel_order="BGR")
    other = import_checkpoint(checkpoint, given=given)
    assert other.identity != usual.identity and other.input.order == "BGR"
    assert find(checkpoint) == usual and find(checkpoint, given=given) == other
    assert import_checkpoint(other.detectron2).identity == other.identity  # by the proof beside it


def test_a_moved_file_is_found_and_a_changed_one_is_not(checkpoint, folder):
    stored = import_checkpoint(checkpoint)
    moved = checkpoint.rename(folder / "moved.pth")
    assert find(moved) == dataclasses.replace(stored, source=moved)
    (folder / "config.json").write_text("{}")  # of timm's or Hugging Face's, as far as anybody knows
    assert find(moved) is None
    (folder / "config.json").unlink()
    torch.save(random_backbone("resnet18", 2), moved)
    assert find(moved) is None and import_checkpoint(moved).identity != stored.identity


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["missing", "changed", "truncated"])
def test_what_is_damaged_is_imported_again(name, fault, checkpoint):
    stored = import_checkpoint(checkpoint)
    before = {name: (stored.folder / name).read_bytes() for name in FILES}
    path = stored.folder / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(before[name][: len(before[name]) // 2] + (b"x" if fault == "changed" else b""))
    assert find(checkpoint) is None
    if name == "backbone.safetensors":
        with pytest.raises(RunError, match="missing or damaged; run the same command again"):
            stored.load()
    assert import_checkpoint(checkpoint) == stored
    assert all((stored.folder / name).read_bytes() == before[name] for name in FILES[:2]) and stored.proof.mapped == 100


def test_a_damaged_index_is_written_again(checkpoint, folder):
    stored = import_checkpoint(checkpoint)
    for entry in (folder / "results" / "backbones" / "index").rglob("*.json"):
        entry.write_text("[")
    assert find(checkpoint) is None and import_checkpoint(checkpoint) == stored == find(checkpoint)


def test_a_conversion_of_an_earlier_version_is_not_found(checkpoint):
    stored = import_checkpoint(checkpoint)
    path = stored.folder / "proof.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 4}))
    assert find(checkpoint) is None


def test_the_bytes_of_a_file_are_hashed_once(checkpoint, monkeypatch):
    os.utime(checkpoint, (1e9, 1e9))
    before = store.known_sha256(checkpoint)
    monkeypatch.setattr(store, "file_sha256", forbidden)
    assert store.known_sha256(checkpoint) == before
    monkeypatch.setattr(store, "_hashes", {})  # another process
    assert store.known_sha256(checkpoint) == before
    os.utime(checkpoint, (1e9, 1e9 + 1))
    with pytest.raises(AssertionError, match="read again"):
        store.known_sha256(checkpoint)


def test_a_file_that_may_still_change_is_hashed_again(checkpoint):
    before = store.known_sha256(checkpoint)
    status = checkpoint.stat()
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    os.utime(checkpoint, ns=(status.st_atime_ns, status.st_mtime_ns))  # within one tick of the clock
    assert store.known_sha256(checkpoint) != before


def test_refusals_are_those_of_reading(folder):
    with pytest.raises(InputError, match=r"none\.pth: no such file"):
        find(folder / "none.pth")
    torch.save({"a": 1}, folder / "a.pth")
    for _ in range(2):
        with pytest.raises(InputError, match="holds no tensors"):
            import_checkpoint(folder / "a.pth")
    assert find(folder / "a.pth") is None


def test_cmcs_two_encoders_are_for_features_alone(class_folders, results, tiny):  # noqa: F811
    run = dataclasses.replace(tiny, method=CMCConfig(dim=16, negatives=8, space="ydbdr"), steps=1)
    path = train.run("x", run, class_folders)
    stored = import_checkpoint(path)
    assert stored.architecture == "cmc-resnet18" and stored.detectron2 is None
    assert not (stored.folder / "model.pkl").exists()
    assert stored.load().meta["config"]["raw"]["method"]["space"] == "ydbdr"
    assert find(path) == find(path.parent) == stored and stored.proof.reason == "CMC's two encoders"
    with pytest.raises(InputError, match="CMC has two ResNets"):
        import_checkpoint(path, family="superinfo")


def test_two_processes_import_at_once(checkpoint):
    code = "import sys; from transfer.checkpoints.store import import_checkpoint as i; print(i(sys.argv[1]).identity)"
    command = [sys.executable, "-c", code, str(checkpoint)]
    both = [subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0] for process in both)
    assert first == second and [process.returncode for process in both] == [0, 0]
    assert find(checkpoint).identity == first.strip()
