"""Reading files: harmless objects become plain data, hostile ones have no effect, other kinds are named."""

import argparse
import collections
import datetime
import gzip
import io
import json
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pretrain.errors import InputError
from transfer.pickles import Inert
from transfer.read import load_checkpoint

STATE = {"conv1.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
VALUES = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    np.zeros((0, 3), np.float16),
    np.array(5),
    np.float32(3),
    np.int64(4),
    np.bool_(True),
]


def legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def plain(protocol):
    return lambda value, path: path.write_bytes(pickle.dumps(value, protocol))


WRITERS = {
    "zip": torch.save,
    "zip 4": lambda value, path: torch.save(value, path, pickle_protocol=4),
    "legacy": legacy,
    "0": plain(0),
    "1": plain(1),
    "2": plain(2),
    "4": plain(4),
    "5": plain(5),
}


def equal(found, wanted):
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("kind", WRITERS)
def test_harmless_objects_come_through_as_plain_data(kind, tmp_path):
    extra = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/x")),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "when": datetime.datetime(2020, 1, 2),
        "queue": collections.deque([1, 2]),
        "bytes": b"\xff\x00",
        "arrays": VALUES,
        "types": (float, dict),
    }
    WRITERS[kind]({"model": STATE} | extra, tmp_path / "x")
    content = load_checkpoint(tmp_path / "x").content
    assert equal(content["model"], STATE)
    assert vars(content["args"])["lr"] == 0.1 and type(content["args"]) is Inert
    assert content["counts"] == {"a": [1]} and content["bytes"] == b"\xff\x00"
    assert content["queue"] == [1, 2]
    for found, wanted in zip(content["arrays"], VALUES, strict=True):
        assert np.array_equal(found, wanted) and np.asarray(found).shape == wanted.shape


def module_of_classes(name, source):
    module = types.ModuleType(name)
    exec(source, module.__dict__)
    return module


@pytest.mark.parametrize("kind", ["zip", "legacy", "2", "4"])
def test_classes_of_other_projects_are_never_imported(kind, tmp_path, monkeypatch):
    """As OmegaConf's nodes lie in a solo-learn or lightly checkpoint: objects with state, made without a call."""
    source = (
        "class Node:\n def __init__(self): self.content = {'lr': 3}\n"
        " def __getstate__(self): return dict(vars(self))\n"
        " def __setstate__(self, state): raise AssertionError('ran')\n"
    )
    module = module_of_classes("omegaconf.nodes", source)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.nodes", module)
    WRITERS[kind]({"state_dict": STATE, "hyper_parameters": module.Node()}, tmp_path / "x")
    monkeypatch.delitem(sys.modules, "omegaconf.nodes")
    monkeypatch.delitem(sys.modules, "omegaconf")
    content = load_checkpoint(tmp_path / "x").content
    assert equal(content["state_dict"], STATE)
    assert vars(content["hyper_parameters"])["content"] == {"lr": 3}
    assert vars(content["hyper_parameters"])["pickled_class"] == "omegaconf.nodes.Node"
    assert "omegaconf" not in sys.modules


def op_global(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module, name, *arguments):
    return op_global(module, name) + b"(" + b"".join(arguments) + b"tR"


def hostile(marker):
    """Name → a pickle's operations that would make ``marker`` if anything in them ran, and what the refusal says."""
    touch, path = text(f"touch {marker}"), text(str(marker))
    python = text(f"open({str(marker)!r}, 'w')")
    huge = b"\x8a\x06" + (10**12).to_bytes(6, "little")
    array = op_global("numpy", "ndarray")
    dtype = call("numpy", "dtype", text("f4"))
    empty = op_global("numpy.core.multiarray", "_reconstruct") + b"(" + array + b"K\x00\x85" + text("b") + b"tR"
    return {
        "os.system": (call("os", "system", touch), r"asks for (os|posix)\.system"),
        "posix.system": (call("posix", "system", touch), r"asks for posix\.system"),
        "eval": (call("builtins", "eval", python), "asks for builtins.eval"),
        "exec of Python 2": (call("__builtin__", "exec", python), "asks for builtins.exec"),
        "getattr": (call("builtins", "getattr", op_global("os", "path"), text("join")), "asks for builtins.getattr"),
        "getattr of a known class": (
            call("builtins", "getattr", op_global("collections", "OrderedDict"), text("__subclasses__")),
            "asks for builtins.getattr",
        ),
        "import": (call("builtins", "__import__", text("os")), "asks for builtins.__import__"),
        "open": (call("io", "open", path, text("w")), "asks for io.open"),
        "subprocess": (call("subprocess", "Popen", touch), "asks for subprocess.Popen"),
        "partial": (call("functools", "partial", op_global("os", "mkdir"), path), "an object of functools.partial"),
        "nested reduce": (
            call("builtins", "list", call("builtins", "map", op_global("os", "mkdir"), path)),
            "asks for",
        ),
        "torch.load": (call("torch", "load", path), "asks for torch.load"),
        "torch.hub": (call("torch.hub", "load", path), "asks for torch.hub.load"),
        "numpy.load": (call("numpy", "load", path), "asks for numpy.load"),
        "copyreg extension": (b"\x82\xf0", "extension|operand|operator"),
        "persistent id": (path + b"Q", "persistent"),
        "bytearray": (call("builtins", "bytearray", huge), r"asks for builtins\.bytearray of a length"),
        "huge array": (
            empty + b"(K\x01" + huge + b"\x85" + dtype + b"\x89" + b"U\x04abcd" + b"tb",
            "does not have its|truncated",
        ),
        "deep": (b")" + b"\x85" * 300_000, "holds a tuple"),
        "deep key": (b"}" + b")" + b"\x85" * 300_000 + b"K\x01s", "deep"),
        "deep lists": (b"]" * 300_000 + b"a" * 299_999, "holds a list"),
        "setstate": (
            op_global("os", "_wrap_close") + b")\x81}" + text("a") + path + b"sb",
            r"asks for os\._wrap_close",
        ),
        "claimed string": (b"X\xff\xff\xff\x7fabc", "truncated|pickle"),
        "claimed bytes": (b"\x8e" + (10**15).to_bytes(8, "little") + b"abc", "truncated|pickle|operand"),
    }


def zip_of(operations, path):
    """A torch archive with these operations as its pickle."""
    buffer = io.BytesIO()
    torch.save({}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, operations if name.endswith("data.pkl") else old.read(name))


def legacy_of(operations, path):
    magic, version, system = (pickle.dumps(v, 2) for v in (torch.serialization.MAGIC_NUMBER, 1001, {}))
    path.write_bytes(magic + version + system + operations + pickle.dumps([], 2))


HOLDERS = {"zip": zip_of, "legacy": legacy_of, "plain": lambda operations, path: path.write_bytes(operations)}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("case", hostile(""))
def test_hostile_pickles_have_no_effect_and_are_refused(case, holder, tmp_path, monkeypatch):
    marker, path = tmp_path / "ran", tmp_path / "x.pth"
    operations, message = hostile(marker)[case]
    HOLDERS[holder](b"\x80\x02" + operations + b".", path)
    for name in ("system", "mkdir"):
        monkeypatch.setattr(os, name, lambda *args: marker.touch())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not marker.exists() and sorted(item.name for item in tmp_path.iterdir()) == ["x.pth"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_call_of_an_unknown_class_is_recorded_and_not_made(tmp_path):
    """Enumerations and named tuples of other projects come with arguments; nothing is imported for them."""
    value = b"}" + text("a") + call("nowhere_to_be_found", "Colour", b"K\x02") + b"s"
    zip_of(b"\x80\x02" + value + b".", tmp_path / "x")
    assert vars(load_checkpoint(tmp_path / "x").content["a"])["pickled_args"] == (2,)


def onnx_like():
    return b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:" + bytes(range(256)) * 4


def torchscript(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(path))


def cut(write, share=2):
    def half(path):
        write(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // share])

    return half


OTHER_KINDS = {
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "one byte": (lambda p: p.write_bytes(b"\x80"), "truncated, damaged"),
    "text": (lambda p: p.write_text("hello"), "a text file"),
    "html": (lambda p: p.write_text("\n<!doctype html><p>404"), "an HTML or XML page"),
    "lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "torchscript": (torchscript, "a TorchScript archive"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.zeros(2)), r"NumPy's \.npz"),
    "zip": (lambda p: zipfile.ZipFile(p, "w").writestr("readme", "x"), r"not written by torch\.save \(with readme"),
    "npy": (lambda p: np.save(p.open("wb"), np.zeros(2)), "a single NumPy array"),
    "onnx": (lambda p: p.write_bytes(onnx_like()), "an ONNX model"),
    "tensorflow": (lambda p: p.write_bytes(b"\0\1\2" * 99 + bytes.fromhex("57fb808b247547db")), "TensorFlow"),
    "tensorflow list": (lambda p: p.write_text('model_checkpoint_path: "model.ckpt-1"\n'), "TensorFlow"),
    "index": (lambda p: p.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors"}})), "m-1.safetensors"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x" * 99)), "gzip"),
    "half a zip": (cut(lambda p: torch.save(STATE, p)), "truncated, damaged"),
    "half a legacy file": (cut(lambda p: legacy(STATE, p)), "truncated, damaged"),
    "half a pickle": (cut(lambda p: plain(4)(STATE, p)), "truncated, damaged"),
    "half safetensors": (cut(lambda p: save_file(STATE, p)), "truncated or damaged safetensors"),
    "less of safetensors": (cut(lambda p: save_file(STATE, p), 6), "truncated or damaged safetensors"),
    "object": (lambda p: torch.save(argparse.Namespace(a=1), p), r"an object of argparse\.Namespace"),
    "list": (lambda p: torch.save([1], p), "holds a list"),
    "noise": (lambda p: p.write_bytes(bytes(range(128, 256)) * 9), "truncated, damaged or not a checkpoint format"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_are_called_by_name(kind, tmp_path):
    write, message = OTHER_KINDS[kind]
    write(tmp_path / "x.pth")
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(tmp_path / "x.pth")
    assert "\n" not in str(error.value)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    data[data.find(STATE["conv1.weight"].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged: 1 parts do not have their checksum, the first is x/data/0"):
        load_checkpoint(path)


def test_archives_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert equal(load_checkpoint(tmp_path / "x.pth").content, STATE)


def test_a_compressed_archive_is_not_taken_for_numbers(tmp_path):
    torch.save(STATE, tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as old,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match="a compressed zip archive"):
        load_checkpoint(tmp_path / "y.pth")


def test_claimed_storage_is_not_read_beyond_the_file(tmp_path):
    """A tensor of a terabyte over a storage of 24 bytes."""
    torch.save({"a": torch.arange(6.0)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as old:
        content = old.read("x/data.pkl")
    for numel in (b"K\x06", b"J\x00\x00\x00\x70"):
        zip_of(content.replace(b"K\x06", numel), tmp_path / "y.pth")
        with pytest.raises(InputError, match="truncated, damaged"):
            load_checkpoint(tmp_path / "y.pth")


@pytest.mark.slow
def test_memory_of_a_training_checkpoint_is_bounded(tmp_path):
    """Two thirds of the file is optimiser state, which is not touched."""
    state = {f"layer{n}": torch.full((1 << 21,), float(n)) for n in range(8)}
    momentum = {n: {"exp_avg": torch.zeros(1 << 21), "exp_avg_sq": torch.zeros(1 << 21)} for n in range(8)}
    torch.save({"model": state, "optimizer": {"state": momentum}}, tmp_path / "x.pth")
    code = (
        "import sys; from transfer.read import load_checkpoint as load\n"
        # Not ru_maxrss, which starts at what the parent process had.
        "peak = lambda: int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) * 1024\n"
        "start = peak(); content = load(sys.argv[1]).content\n"
        "total = sum(float(v.sum()) for v in content['model'].values()); print(peak() - start)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.pth")], capture_output=True, text=True, check=True
    )
    assert 0.3 * (tmp_path / "x.pth").stat().st_size < int(result.stdout) < 0.6 * (tmp_path / "x.pth").stat().st_size
