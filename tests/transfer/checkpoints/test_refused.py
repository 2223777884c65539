"""Wrong inputs to ``python -m transfer convert``: one line that names the fault, exit status 2, nothing written."""

import os
import pickle
import re
import sys

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnext50_32x4d, wide_resnet50_2

from pretrain.common.errors import run_cli
from transfer.__main__ import main


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def changed(state, **changes):
    """A copy with some tensors replaced; None takes one away."""
    result = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in result.items() if value is not None}


def of_kind(state, convert):
    """A copy in which one tensor is of another kind."""
    return changed(state, bn1__bias=convert(state["bn1.bias"]))


def truncated(write, path):
    write()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def meta_state(build):
    with torch.device("meta"):
        state = build(weights=None).state_dict()
    return {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in state.items()}


CASES = {
    "empty": (lambda p, s: p.write_bytes(b""), "the file is empty"),
    "text": (lambda p, s: p.write_text("hello\n"), "a text file"),
    "html": (lambda p, s: p.write_text("<!DOCTYPE html><html>é 404"), "an HTML or XML page"),
    "lfs": (lambda p, s: p.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"), "Git LFS pointer"),
    "noise": (lambda p, s: p.write_bytes(bytes(range(128, 256)) * 9), "truncated, damaged or not"),
    "truncated": (lambda p, s: truncated(lambda: torch.save(s, p), p), "truncated, damaged"),
    "truncated safetensors": (lambda p, s: truncated(lambda: save_file(s, p), p), "truncated or damaged safetensors"),
    "code": (lambda p, s: p.write_bytes(pickle.dumps({"a": Bomb(p.parent / "boom")}, 2)), "could run code"),
    "code in a plain pickle": (lambda p, s: p.write_bytes(pickle.dumps(Bomb(p.parent / "boom"), 4)), "could run code"),
    "code in zip": (
        lambda p, s: torch.save({"a": Bomb(p.parent / "boom")}, p),
        r"asks for (posix|nt)\.mkdir, which could run code",
    ),
    "module": (lambda p, s: torch.save(torch.nn.Linear(2, 2), p), r"not a checkpoint .*\(keys: weight, bias\)"),
    "list": (lambda p, s: torch.save([1, 2], p), "holds a list"),
    "mixed": (
        lambda p, s: torch.save(meta_state(resnet18) | {"layer1.0.conv3.weight": torch.zeros(1)}, p),
        "usable ResNet-18.*not mapped layer1.0.conv3.weight",
    ),
    "a stage short": (
        lambda p, s: torch.save({n: v for n, v in s.items() if not n.startswith("layer4.")}, p),
        r"bottleneck ResNet with 3-4-6-0 blocks;.*: missing layer4\.0\.conv1\.weight",
    ),
    "squeeze": (
        lambda p, s: torch.save(s | {"layer1.0.se.fc1.weight": torch.zeros(1)}, p),
        r"ResNet-50, squeeze-and-excitation; only .*: not mapped layer1\.0\.se",
    ),
    "wide": (lambda p, s: torch.save(meta_state(wide_resnet50_2), p), "width 2×.*layer1.0.conv1.weight"),
    "resnext": (lambda p, s: torch.save(meta_state(resnext50_32x4d), p), "32 groups.*layer1.0.conv1.weight"),
    "cifar stem": (
        lambda p, s: torch.save(changed(s, conv1__weight=torch.zeros(64, 3, 3, 3)), p),
        r"3×3 stem .* as for CIFAR, without pooling.*conv1\.weight \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)",
    ),
    "deep stem": (
        lambda p, s: torch.save(changed(s, conv1__weight=None, **{"conv1__0__weight": torch.zeros(32, 3, 3, 3)}), p),
        r"deep stem.*missing conv1\.weight; not mapped conv1\.0\.weight",
    ),
    "transposed": (
        lambda p, s: torch.save(changed(s, layer4__0__conv1__weight=s["layer4.0.conv1.weight"].transpose(0, 1)), p),
        r"wrong shape layer4\.0\.conv1\.weight \(1024, 512, 1, 1\)",
    ),
    "missing key": (lambda p, s: torch.save(changed(s, bn1__bias=None), p), r"missing bn1\.bias"),
    "extra key": (lambda p, s: torch.save(changed(s, layer4__3__conv1__weight=torch.zeros(1)), p), r"layer4\.3\.conv1"),
    "integers": (
        lambda p, s: torch.save(changed(s, conv1__weight=s["conv1.weight"].to(torch.int8)), p),
        r"not plain float32 or half conv1\.weight torch\.int8",
    ),
    "sparse": (
        lambda p, s: torch.save(of_kind(s, lambda v: v.to_sparse()), p),
        r"bn1\.bias torch\.float32 .*sparse_coo",
    ),
    "meta": (lambda p, s: torch.save(of_kind(s, lambda v: v.to("meta")), p), r"bn1\.bias torch\.float32 on meta"),
    "complex": (lambda p, s: torch.save(of_kind(s, lambda v: v.cfloat()), p), r"bn1\.bias torch\.complex64"),
    "float8": (lambda p, s: torch.save(of_kind(s, lambda v: v.to(torch.float8_e4m3fn)), p), r"bn1\.bias torch\.float8"),
    "quantised": (
        lambda p, s: torch.save(of_kind(s, lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8)), p),
        r"bn1\.bias torch\.qint8",
    ),
    # 4 bytes in the file; looking at the values would take 4 TB.
    "huge": (
        lambda p, s: torch.save(changed(s, conv1__weight=torch.zeros(1).expand(10**6, 10**6)), p),
        r"wrong shape conv1\.weight \(1000000, 1000000\)",
    ),
    "huge counter": (
        lambda p, s: torch.save(changed(s, bn1__num_batches_tracked=torch.zeros(1).long().expand(10**6, 10**6)), p),
        r"wrong shape bn1\.num_batches_tracked",
    ),
    "nan": (
        lambda p, s: torch.save(changed(s, bn1__bias=torch.full((64,), float("nan"))), p),
        r"NaN or infinite values in bn1\.bias",
    ),
    "negative variance": (
        lambda p, s: torch.save(changed(s, bn1__running_var=torch.full((64,), -1.0)), p),
        r"negative variance in bn1\.running_var",
    ),
    "all zero": (lambda p, s: torch.save({n: torch.zeros_like(v) for n, v in s.items()}, p), "res2 is 0.0"),
    "overflow": (
        lambda p, s: torch.save(changed(s, layer1__0__bn3__weight=torch.full((256,), 3e38)), p),
        "res[2-5] is (inf|nan)",
    ),
    "unknown prefix": (
        lambda p, s: torch.save({"state_dict": {f"net.trunk.{n}": v for n, v in s.items()}}, p),
        r"not a checkpoint of any known family \(keys: net\.trunk\.conv1\.weight",
    ),
    "two networks": (lambda p, s: torch.save({"state_dict": s, "model": s}, p), 'both "state_dict" and "model"'),
}


def refuse(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transfer", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        run_cli(main)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case, full_state, scratch, monkeypatch, capsys):
    path = scratch / "x.pth"
    write, message = CASES[case]
    write(path, full_state)
    line = refuse(["convert", path], monkeypatch, capsys)
    assert re.search(message, line), line
    assert str(path) in line
    assert [item.name for item in scratch.iterdir()] == ["x.pth"]


def test_refused_paths(full_state, scratch, monkeypatch, capsys):
    assert "no such file" in refuse(["convert", scratch / "none.pth"], monkeypatch, capsys)
    assert "without backbone.safetensors" in refuse(["convert", scratch], monkeypatch, capsys)
    save_file(full_state, scratch / "backbone.safetensors")
    assert "has not finished" in refuse(["convert", scratch], monkeypatch, capsys)
    assert "must end in .pkl" in refuse(
        ["convert", scratch / "backbone.safetensors", "-o", scratch / "x.pth"], monkeypatch, capsys
    )


@pytest.mark.parametrize("below", ["x.pkl", "y/x.pkl"])
def test_result_below_a_file(below, checkpoint, scratch, monkeypatch, capsys):
    (scratch / "file").touch()
    line = refuse(["convert", checkpoint, "-o", scratch / "file" / below], monkeypatch, capsys)
    assert str(scratch / "file" / below) in line and "cannot be written" in line and "-o" in line


@pytest.mark.parametrize("where", ["top", "array"])
def test_verify_runs_no_code(where, scratch, monkeypatch, capsys):
    bomb = Bomb(scratch / "boom")
    content = {"model": {"a": bomb} if where == "array" else {}, "__author__": bomb if where == "top" else ""}
    (scratch / "x.pkl").write_bytes(pickle.dumps(content))
    line = refuse(["verify", scratch / "x.pkl"], monkeypatch, capsys)
    assert "mkdir, which could run code; refused" in line
    assert not (scratch / "boom").exists()


def test_verify_wants_detectron2s_format(scratch, monkeypatch, capsys):
    (scratch / "x.pkl").write_bytes(pickle.dumps({"state_dict": {}}))
    assert 'no "model" and "__author__"' in refuse(["verify", scratch / "x.pkl"], monkeypatch, capsys)
    (scratch / "x.pkl").write_bytes(b"\x80\x04")
    assert "truncated" in refuse(["verify", scratch / "x.pkl"], monkeypatch, capsys)
