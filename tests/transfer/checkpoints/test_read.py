"""Reading files: harmless objects become plain data, hostile ones have no effect, other kinds are named."""

import argparse
import collections
import contextlib
import datetime
import functools
import gzip
import io
import json
import os
import pathlib
import pickle
import re
import resource
import struct
import subprocess
import sys
import types
import zipfile
from collections import namedtuple

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pretrain.common.errors import InputError
from tests.transfer.layouts import haiku
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.families import detect, extract
from transfer.checkpoints.inspect import inspect
from transfer.checkpoints.reading import pickle_values, torch_files
from transfer.checkpoints.reading.pickle_values import Inert
from transfer.checkpoints.reading.read import load_checkpoint

STATE = {"conv1.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
VALUES = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    np.zeros((0, 3), np.float16),
    np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
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


def module_of_classes(name, family):
    module = types.ModuleType(name)
    exec(family, module.__dict__)
    return module


@pytest.mark.parametrize("kind", ["zip", "legacy", "2", "4"])
def test_classes_of_other_projects_are_never_imported(kind, tmp_path, monkeypatch):
    """As OmegaConf's nodes lie in a solo-learn or lightly checkpoint: objects with state, made without a call."""
    family = (
        "class Node:\n def __init__(self): self.content = {'lr': 3}\n"
        " def __getstate__(self): return dict(vars(self))\n"
        " def __setstate__(self, state): raise AssertionError('ran')\n"
    )
    module = module_of_classes("omegaconf.nodes", family)
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


def test_settings_do_not_cost_the_file(tmp_path):
    """What only rides along and runs nothing is kept as it is described, whatever it is."""
    extra = {
        "norm": functools.partial(torch.nn.LayerNorm, eps=1e-6),
        "act": functools.partial(torch.nn.functional.relu, inplace=True),
        "builtin": functools.partial(print, "x"),
        "pattern": re.compile("a+"),
        "names": np.array(["a", "bc"]),
        "records": np.zeros(2, [("a", "f4")]),
        "text": np.str_("abc"),
        "random": np.random.default_rng(0),
        "error": ValueError("x"),
        "member": re.RegexFlag.DOTALL,
    }
    for kind in ("legacy", "2", "4"):
        WRITERS[kind]({"model": STATE, "hyper_parameters": extra}, tmp_path / kind)
        content = load_checkpoint(tmp_path / kind).content
        assert equal(content["model"], STATE)
        assert vars(content["hyper_parameters"]["act"])["pickled_state"][2] == {"inplace": True}


@pytest.mark.parametrize("kind", ["zip", "legacy", "2"])
def test_methods_and_members_of_other_projects_are_described(kind, tmp_path, monkeypatch):
    """As mmengine's runner saves its HistoryBuffers; protocols before 4 write getattr(class, name)."""
    name = "mmengine.logging.history_buffer"
    family = (
        "class HistoryBuffer:\n def mean(self): raise AssertionError('ran')\n"
        " def __init__(self): self._statistics_methods = {'mean': HistoryBuffer.mean}\n"
    )
    for parent in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module := module_of_classes(name, family))
    buffer = module.HistoryBuffer()
    WRITERS[kind]({"state_dict": STATE, "message_hub": {"loss": buffer}}, tmp_path / "x")
    monkeypatch.undo()
    content = load_checkpoint(tmp_path / "x").content
    assert equal(content["state_dict"], STATE)
    (method,) = vars(content["message_hub"]["loss"])["_statistics_methods"].values()
    assert method.name == f"{name}.HistoryBuffer.mean"


def test_files_that_dill_writes(tmp_path):
    """BYOL's code saves with it: named tuples, arrays and what is in modules have functions of dill's own."""
    dill = pytest.importorskip("dill")
    fields = namedtuple("Fields", "params state")  # of no module that can be imported, so that dill describes it

    class Array(np.ndarray):
        pass

    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {"experiment": fields({"w": values}, 3), "own": values.view(Array), "step": lambda: 1, "kind": type(None)}
    (tmp_path / "x.pkl").write_bytes(dill.dumps(content, protocol=2))
    found = load_checkpoint(tmp_path / "x.pkl").content
    arguments = vars(found["experiment"])
    assert arguments["pickled_class"].endswith(".Fields") and arguments["pickled_args"][1] == 3
    assert np.array_equal(arguments["pickled_args"][0]["w"], values)
    assert torch.equal(found["own"], torch.from_numpy(values))


def test_byol_as_its_own_code_saves_it(tmp_path):
    dill = pytest.importorskip("dill")
    shapes = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv2.weight": (4, 4, 3, 3), "bn1.bias": (64,)}
    shapes |= {"layer2.0.downsample.1.weight": (8,), "bn1.running_mean": (64,), "layer4.1.bn2.running_var": (8,)}
    online, target = ({name: torch.randn(shape) for name, shape in shapes.items()} for _ in range(2))
    haiku.write(tmp_path / "x.pkl", online, target, dill.dumps)
    assert b"dill._dill" in (tmp_path / "x.pkl").read_bytes()
    file = load_checkpoint(tmp_path / "x.pkl")
    family, _ = detect(file)
    assert family.name == "byol"
    assert equal(extract(family, file, "online").state, online)
    assert equal(extract(family, file, "target").state, target)


@pytest.mark.parametrize("kind", ["0", "2", "5"])
def test_arrays_are_tensors(kind, tmp_path):
    arrays = {"a": np.arange(6, dtype=">f4").reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3))), "n": np.array(3)}
    WRITERS[kind]({"top": arrays["a"], "blobs": arrays}, tmp_path / "x")
    content = load_checkpoint(tmp_path / "x").content
    wanted = {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in arrays.items()}
    assert equal(content["blobs"], wanted) and torch.equal(content["top"], wanted["a"])
    assert all(content["blobs"][name].dtype == wanted[name].dtype for name in wanted)


class Network(torch.nn.Module):
    """With what a state dict leaves out, holds twice, or has only where it is set."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.BatchNorm2d(2))
        self.again = self.first[1]
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("shown", torch.ones(2))
        self.register_parameter("none", None)
        self.scale = torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_pickled_module_gives_its_state_dict(kind, tmp_path):
    model = torch.nn.Sequential(Network(), torch.nn.DataParallel(Network()))
    WRITERS[kind](model, tmp_path / "x")
    assert equal(load_checkpoint(tmp_path / "x").content, model.state_dict())
    WRITERS[kind]({"model": model, "epoch": 1}, tmp_path / "x")
    assert list(load_checkpoint(tmp_path / "x").content["model"]) == list(model.state_dict())


def op_global(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module, name, *arguments):
    return op_global(module, name) + b"(" + b"".join(arguments) + b"tR"


def number(value):
    return b"\x8a\x0a" + value.to_bytes(10, "little")


def doubled(operations, times, before=b""):
    """Each time the value on the stack, kept in the memo, twice."""
    return (b"q\x00" + b"0" + before + b"h\x00h\x00" + operations) * times


def module(children):
    """A pickled module with these names and children."""
    attributes = b"}(" + text("_parameters") + b"}" + text("_modules") + b"}(" + children + b"uu"
    return call("nowhere", "Module") + attributes + b"b"


def hostile(marker):
    """Name → a pickle's operations that would make ``marker`` if anything in them ran, and what the refusal says."""
    touch, path = text(f"touch {marker}"), text(str(marker))
    python = text(f"open({str(marker)!r}, 'w')")
    huge = b"\x8a\x06" + (10**12).to_bytes(6, "little")
    changes = b"}(" + text("update") + b"K\x01" + text("__defaults__") + b"Nu"
    equal_hashes = [k * sys.hash_info.modulus for k in range(1, 20_000)]
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
        "bytearray": (call("builtins", "bytearray", huge), r"asks for builtins\.bytearray with a length"),
        "huge array": (
            empty + b"(K\x01" + huge + b"\x85" + dtype + b"\x89" + b"U\x04abcd" + b"tb",
            "does not have its|truncated",
        ),
        "setattr": (call("builtins", "setattr", op_global("os", "path"), path, path), "asks for builtins.setattr"),
        "from a module": (
            call("dill._dill", "_get_attr", call("dill._dill", "_import_module", text("os")), text("system"))
            + touch
            + b"\x85R",
            r"asks for os\.system",
        ),
        **{
            f"change of {name}": (op_global(module, name) + changes + b"b", f"changes {module}.{name}")
            for module, name in (("collections", "Counter"), ("numpy", "ndarray"), ("builtins", "dict"))
        },
        "change of a function": (
            op_global("numpy.core.multiarray", "scalar") + b"N" + changes + b"\x86b",
            r"changes numpy\.core\.multiarray\.scalar",
        ),
        "change of a type": (op_global("torch", "float32") + changes + b"b", "changes|truncated, damaged"),
        "filling a class": (op_global("collections", "OrderedDict") + path + path + b"s", "no container of its own"),
        "shared parts in a key": (b"}" + b")" + doubled(b"\x86", 60) + b"Ns", "keys are deeper or longer"),
        "equal hashes": (b"}(" + b"N".join(map(number, equal_hashes)) + b"Nu", "keys are deeper or longer"),
        "a long key of shared text": (
            b"}" + text("x" * 1_000_000) + b"q\x000(" + b"h\x00" * 200 + b"tNs",
            "copies are larger",
        ),
        "a class with a long name": (
            text("a" * 1_000_000) + text("B") + b"\x93)R",
            r"holds an object of a{5000,} … a+\.B, not a state dict",
        ),
        "equal hashes in a set": (
            call("builtins", "set", b"](" + b"".join(map(number, equal_hashes)) + b"e"),
            "keys are deeper or longer",
        ),
        "shared mappings": (
            b"}" + b"".join(b"q\x00}(" + b"".join(number(n) + b"h\x00" for n in range(300)) + b"u" for _ in range(4)),
            "mappings have more than",
        ),
        "shared text": (
            text("x") + doubled(b"\x86\x85R", 60, op_global("builtins", "str")),
            "an object of builtins.str",
        ),
        "growing bytes": (
            text("x") + doubled(b"\x86R", 1, op_global("_codecs", "encode")),
            "of something other than bytes",
        ),
        "hexadecimal bytes": (call("_codecs", "encode", text("x"), text("hex")), "of something other than bytes"),
        "copies": (
            b"](" + b"N" * 100_000 + b"eq\x00](" + (op_global("builtins", "list") + b"h\x00\x85R") * 400 + b"e",
            "copies are larger",
        ),
        "equal hashes in the memo": (
            b"}" + b"".join(b"p%d\n" % value for value in equal_hashes),
            "memo is not from 0 to",
        ),
        "text of numbers": (
            text("x" * 1_000_000)
            + b"q\x00"
            + call("numpy", "dtype", text("O8"))
            + b"q\x01]("
            + (op_global("numpy.core.multiarray", "scalar") + b"h\x01h\x00\x86R") * 200
            + b"e",
            "copies are larger",
        ),
        "a tensor of a thousand dimensions": (
            call(
                "torch._utils",
                "_rebuild_meta_tensor_no_storage",
                op_global("torch", "float32"),
                *[b"(" + b"K\x01" * 1000 + b"t"] * 2,
                b"\x89",
            ),
            "has an impossible size|asks for",
        ),
        "a long name of many parts": (
            b"}"
            + text("model")
            + module(text("x" * 10_000) + module(b"N".join(text(str(n)) for n in range(1000)) + b"N"))
            + b"s",
            "names that no network has",
        ),
        "hole in the memo": (b"]r\x00\x00\x00\x10", "holds a list"),
        "claimed bytes of another kind": (b"\x96" + (10**15).to_bytes(8, "little"), "truncated|operation"),
        "shape of text": (
            empty + b"(K\x01(" + text("x" * 1000) + huge + b"t" + dtype + b"\x89U\x04abcdtb",
            "does not have its",
        ),
        "deep": (b")" + b"\x85" * 100_000, "holds a tuple"),
        "deep key": (b"}" + b")" + b"\x85" * 100_000 + b"K\x01s", "deep"),
        "deep lists": (b"]" * 100_000 + b"a" * 99_999, "holds a list"),
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


@pytest.mark.parametrize("holder", HOLDERS)
def test_attributes_cannot_hide_a_mappings_own(holder, tmp_path):
    attributes = b"}(" + b"".join(text(name) + b"K\x01" for name in ("items", "pickled_args", "epoch")) + b"u"
    value = op_global("collections", "OrderedDict") + b")R" + text("a") + call("nowhere", "Thing") + attributes + b"bs"
    HOLDERS[holder](b"\x80\x02" + value + attributes + b"b.", tmp_path / "x")
    ((_, thing),) = load_checkpoint(tmp_path / "x").content.items()
    assert not thing.items() and vars(thing) == {"pickled_class": "nowhere.Thing", "pickled_args": (), "epoch": 1}


def test_operations_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_values, "MAX_OPERATIONS", 1000)
    for count in (900, 1100):
        (tmp_path / "x").write_bytes(pickle.dumps({"a": [None] * count}, 2))
        if count < 1000:
            assert load_checkpoint(tmp_path / "x").content == {"a": [None] * count}
    with pytest.raises(InputError, match="operations are more than those of any checkpoint"):
        load_checkpoint(tmp_path / "x")


def test_operations_of_nested_pickles_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_values, "MAX_OPERATIONS", 1000)
    inner = call("os", "system", text("true"))  # refused in another way, if it is reached
    for _ in range(3):
        buffer = tmp_path / "inner"
        legacy_of(b"\x80\x02" + inner + b".", buffer)
        data = buffer.read_bytes()
        inner = b"N0" * 200 + call("torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", len(data)) + data)
    (tmp_path / "x").write_bytes(b"\x80\x02" + inner + b".")
    with pytest.raises(InputError, match="operations are more than those of any checkpoint"):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("protocol", [2, 4])
def test_one_array_under_many_names_is_one_tensor(protocol, tmp_path):
    array = np.arange(3.0)
    (tmp_path / "x").write_bytes(pickle.dumps({"a": array, "inside": {"b": array, "c": array}}, protocol))
    content = load_checkpoint(tmp_path / "x").content
    tensors = [content["a"], *content["inside"].values()]
    assert {id(tensor) for tensor in tensors} == {id(tensors[0])} and tensors[0].tolist() == [0.0, 1.0, 2.0]


def test_one_module_under_many_names_counts_each_time(tmp_path):
    module = torch.nn.BatchNorm1d(2)
    torch.save({str(n): module for n in range(100)}, tmp_path / "x")
    content = load_checkpoint(tmp_path / "x").content
    assert {id(state) for state in content.values()} == {id(content["0"])} and "running_mean" in content["0"]
    torch.save({str(n): module for n in range(5001)}, tmp_path / "x")
    with pytest.raises(InputError, match="more than 20000 tensors"):
        load_checkpoint(tmp_path / "x")


def test_names_that_cannot_be_printed_are_escaped(tmp_path):
    torch.save({"state_dict": {"a\nb": torch.ones(1), "\x1b[31m": torch.ones(1), "é": torch.ones(1)}}, tmp_path / "x")
    assert list(load_checkpoint(tmp_path / "x").content["state_dict"]) == [r"a\nb", r"\x1b[31m", "é"]


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
    "index of two": (lambda p: p.write_text(json.dumps({"weight_map": {"a": "m-1.bin", "b": "m-2.bin"}})),
        r"in 2 files \(m-1.bin …\); load_file each"),
    "exported": (lambda p: zipfile.ZipFile(p, "w").writestr("x/archive_format", "pt2"), r"torch\.export; save model"),
    "Keras": (lambda p: zipfile.ZipFile(p, "w").writestr("model.weights.h5", "x"), "a Keras model"),
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
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_are_called_by_name(kind, tmp_path):
    write, message = OTHER_KINDS[kind]
    write(tmp_path / "x.pth")
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(tmp_path / "x.pth")
    assert "\n" not in str(error.value)


def test_models_in_several_files_are_told_how_to_become_one(tmp_path):
    names = [tmp_path / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, part in zip(names, (STATE, {"x": torch.zeros(1)}), strict=True):
        save_file(part, name)
    with pytest.raises(InputError, match=r"a model in 2 files \(model-00001-of-00002.safetensors …\); load_file each"):
        load_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"one of several files: load_file each"):
        read_backbone(names[1])
    names[0].rename(tmp_path / "__0_0.distcp")
    for path in (tmp_path, tmp_path / "__0_0.distcp"):
        with pytest.raises(InputError, match=r"distributed checkpoint; .* dcp_to_torch FOLDER FILE\.pth"):
            load_checkpoint(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    data[data.find(STATE["conv1.weight"].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged: 1 parts have a wrong checksum, the first is x/data/0"):
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


@pytest.mark.parametrize("writer", ["zip", "legacy", "2"])
@pytest.mark.parametrize(
    "place",
    [(1, (6,), (1,)), (0, (2, 3), (4, 1)), (0, (-1,), (1,)), (0, (2,), (-1,)), (-1, (1,), (1,)), (0, (2,), (2**62,))],
)
def test_a_tensor_reaches_no_further_than_its_storage(writer, place, tmp_path):
    class Tensor:
        def __reduce__(self):
            storage = torch.arange(6.0)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, *place, False, collections.OrderedDict())

    WRITERS[writer]({"a": Tensor()}, tmp_path / "x")
    with pytest.raises(InputError, match="larger than its storage"):
        load_checkpoint(tmp_path / "x")


def test_conjugate_and_negated_views_are_read_as_their_numbers(tmp_path):
    value, other = (torch.complex(torch.arange(3.0), torch.ones(3)).conj() for _ in range(2))
    torch.save({"a": value, "b": other.imag}, tmp_path / "x")
    content = load_checkpoint(tmp_path / "x").content
    assert equal(content, {"a": value.resolve_conj(), "b": other.imag.resolve_neg()})
    assert not content["a"].is_conj() and not content["b"].is_neg()


def test_damaged_names_in_an_archive(tmp_path):
    """A part's own header repeats its name; where its bytes begin is by the length of that."""
    torch.save(STATE, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    place = whole.index(b"x/data/0")
    (tmp_path / "x.pth").write_bytes(whole[:place] + b"\xff\xfe" + whole[place + 2 :])
    assert equal(load_checkpoint(tmp_path / "x.pth").content, STATE)
    (tmp_path / "x.pth").write_bytes(whole[: place - 4] + b"\x07" + whole[place - 3 :])
    with pytest.raises(InputError, match="have a wrong checksum, the first is x/data/0"):
        load_checkpoint(tmp_path / "x.pth")


def test_empty_tensors_in_archives_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.zeros(0), "b": torch.ones(2)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(tmp_path / "x.pth").content["a"].shape == (0,)


def test_folders_are_called_by_name(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(InputError, match=r"without backbone\.safetensors; give .* such as model\.pth in it"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.ckpt-1.data-00000-of-00001").touch()
    with pytest.raises(InputError, match="a folder of TensorFlow files"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.ckpt-1.meta").write_bytes(b"\n\xd6\x05\x12\xc4\x05\n9\n\x03Add\x12\x06\n\x01x")
    with pytest.raises(InputError, match="a part of a TensorFlow checkpoint"):
        load_checkpoint(tmp_path / "model.ckpt-1.meta")


@pytest.mark.slow
def test_memory_of_a_training_checkpoint_is_bounded(tmp_path):
    """Two thirds of the file is optimiser state, which is not touched."""
    state = {f"layer{n}": torch.full((1 << 21,), float(n)) for n in range(8)}
    momentum = {n: {"exp_avg": torch.zeros(1 << 21), "exp_avg_sq": torch.zeros(1 << 21)} for n in range(8)}
    torch.save({"model": state, "optimizer": {"state": momentum}}, tmp_path / "x.pth")
    code = (
        "import sys; from transfer.checkpoints.reading.read import load_checkpoint as load\n"
        # Not ru_maxrss, which starts at what the parent process had.
        "peak = lambda: int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) * 1024\n"
        "start = peak(); content = load(sys.argv[1]).content\n"
        "total = sum(float(v.sum()) for v in content['model'].values()); print(peak() - start)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.pth")], capture_output=True, text=True, check=True
    )
    assert 0.3 * (tmp_path / "x.pth").stat().st_size < int(result.stdout) < 0.6 * (tmp_path / "x.pth").stat().st_size


def test_an_archive_of_too_many_parts_is_refused_before_they_are_read(tmp_path):
    directory = (b"PK\1\2" + bytes(42)) * 200_000
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0, 0, len(directory), 30, 0)
    (tmp_path / "a.pth").write_bytes(b"PK\3\4" + bytes(26) + directory + end)
    with pytest.raises(InputError, match="lists more parts than any checkpoint has"):
        load_checkpoint(tmp_path / "a.pth")


def test_tensors_are_bounded(tmp_path):
    one = torch.zeros(1)
    torch.save({"state_dict": {f"layer1.{n}.conv1.weight": one for n in range(20_001)}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="more than 20000 tensors"):
        load_checkpoint(tmp_path / "a.pth")


def nested_pair(levels):
    value = (1, 2)
    for _ in range(levels):
        value = (value, value)
    return value


def test_a_safetensors_file_of_a_million_tensors_is_refused_before_they_are_read(tmp_path):
    one = b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(one % n for n in range(200_000)) + b"}"
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(1))
    with pytest.raises(InputError, match="its header is larger"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("place", ["key", "view"])
def test_keys_of_storages_are_plain(place, tmp_path):
    shared = b"K\1" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(60))
    key, view = (shared, b"N") if place == "key" else (b"K\1", b"(" + shared + b"K\0K\1t")
    identifier = b"(X\7\0\0\0storagectorch\nFloatStorage\n" + key + b"X\3\0\0\0cpuK\1" + view + b"tQ."
    head = b"".join(pickle.dumps(one, 2) for one in (torch_files.MAGIC, torch_files.VERSION, {}))
    (tmp_path / "a.pth").write_bytes(head + b"\x80\2" + identifier)
    with pytest.raises(InputError, match="neither text nor a number"):
        load_checkpoint(tmp_path / "a.pth")


SHARED = nested_pair(60)  # 2^60 numbers, for who goes through them one by one
STATE_18 = {key: value for key, value in torchvision.models.resnet18().state_dict().items() if key[:2] != "fc"}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE_18, "arch": SHARED},
        {"state_dict": {f"backbone.{k}": v for k, v in STATE_18.items()}, "meta": {"cfg": {"model": SHARED}}},
        {
            "state_dict": {f"backbone.{k}": v for k, v in STATE_18.items()},
            "meta": {"cfg": {"model": {"backbone": {"strides": [SHARED]}}}},
        },
        {
            "state_dict": {f"backbone.{k}": v for k, v in STATE_18.items()},
            "meta": {"cfg": "a0 = [1]\n" + "\n".join(f"a{n} = [a{n - 1}, a{n - 1}]" for n in range(1, 60))},
        },
        {
            "state_dict": {f"backbone.{k}": v for k, v in STATE_18.items()},
            "meta": {"cfg": f"x = 1{'0' * 400} * 1.5"},
        },
    ],
)
def test_shared_parts_and_large_numbers_in_settings_end_in_a_verdict(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with contextlib.suppress(InputError):
        read_backbone(tmp_path / "a.pth")
    assert inspect(tmp_path / "a.pth")


HUGGING_FACE = {"embedder.embedder.convolution.weight": torch.zeros(1)}
DETECTRON2 = {"model": {"backbone.stem.conv1.weight": torch.zeros(1)}}


@pytest.mark.parametrize(
    ("content", "name", "text"),
    [
        (HUGGING_FACE, "config.json", "[" * 100_000),
        (HUGGING_FACE, "preprocessor_config.json", '{"image_mean": ["a"], "image_std": [1]}'),
        (HUGGING_FACE, "preprocessor_config.json", f'{{"image_mean": [1{"0" * 400}], "image_std": [1]}}'),
        (HUGGING_FACE, "config.json", None),
        (DETECTRON2, "config.yaml", "[" * 10_000),
        (DETECTRON2, "config.yaml", None),
    ],
)
def test_hostile_files_beside_a_checkpoint_end_in_a_verdict(content, name, text, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    if text is None:  # it would be waited for
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        read_backbone(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(2**45), torch.empty(3, device="meta"), torch.zeros(3).to_sparse()]
)
def test_a_runs_digest_is_not_taken_of_what_is_larger_than_its_file(tensor, tmp_path):
    torch.save({"conv1.weight": tensor}, tmp_path / "backbone.safetensors")
    (tmp_path / "meta.json").write_text('{"sha256": "0"}')
    with pytest.raises(InputError, match="of its own size"):
        read_backbone(tmp_path)
