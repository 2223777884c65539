"""Conversion of a ResNet-50: all tensors, bit for bit, with a proof that has the power to refuse."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from benchmarks.tasks.compute.features import build_backbone
from pretrain.checkpoint import save_checkpoint
from pretrain.common.errors import InputError
from pretrain.common.files import file_sha256
from pretrain.common.pixels import PixelInput
from tests.transfer.earlier import as_earlier
from transfer.__main__ import main
from transfer.checkpoints import converted as proofs
from transfer.checkpoints import key_map, verify
from transfer.checkpoints.backbone import read_backbone, weights_digest
from transfer.checkpoints.convert import convert
from transfer.checkpoints.reading.detectron2_pkl import read_detectron2_pkl
from transfer.detection.config import protocol_cfg
from transfer.detection.protocol_files import protocol_names


def rewritten(converted, arrays, path):
    proofs.write_pkl(path, proofs.pickled(arrays))
    return path


def test_every_tensor_arrives_and_the_forward_pass_agrees_exactly(converted, full_state):
    assert (converted.mapped, converted.expected) == (265, 265)
    assert converted.forward_difference == dict.fromkeys(verify.MAPS, 0)
    assert {key for key in converted.dropped if not key.endswith("num_batches_tracked")} == {"fc.weight", "fc.bias"}
    assert len(converted.dropped) == 2 + 53
    arrays = read_detectron2_pkl(converted.path)["model"]
    assert len(arrays) == 265
    for ours, theirs in key_map.to_torchvision("resnet50").items():  # the round trip
        assert np.array_equal(arrays[ours], full_state[theirs].numpy()), theirs
        assert arrays[ours].dtype == np.float32


def test_proof_on_disk(converted, checkpoint):
    proof = json.loads(converted.json_path.read_text())
    assert proof["sha256"] == file_sha256(converted.path)
    assert proof["source_sha256"] == weights_digest(read_backbone(checkpoint).state)
    assert (proof["family"], proof["input"]["order"], proof["input"]["stride_in_1x1"]) == ("torchvision", "RGB", False)
    assert {"versions", "detectron2", "git", "created"} <= set(proof) and {"mean", "std"} <= set(proof["input"])
    assert proofs.load(converted.path) == converted


def test_second_conversion_is_the_first_one(converted, checkpoint, monkeypatch, scratch):
    again = convert(checkpoint, scratch / "again.pkl")
    assert again.sha256 == converted.sha256

    def fail(*args):
        raise AssertionError("proved again")

    monkeypatch.setattr(verify, "forward_difference", fail)
    assert convert(checkpoint, scratch / "again.pkl") == again
    with again.path.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(AssertionError, match="proved again"):  # a changed .pkl is not up to date
        convert(checkpoint, scratch / "again.pkl")


@pytest.mark.parametrize("fault", ["no json", "no pkl", "version", "broken", "a list", "fields", "bytes"])
def test_usable_only_while_proof_and_weights_belong_together(converted, scratch, fault):
    path = scratch / "x.pkl"
    path.write_bytes(converted.path.read_bytes())
    proof = json.loads(converted.json_path.read_text())
    path.with_suffix(".json").write_text(json.dumps(proof))
    assert proofs.usable(path) == dataclasses.replace(converted, path=path)
    if fault in ("no pkl", "bytes"):
        path.unlink() if fault == "no pkl" else path.write_bytes(b"x")
    elif fault == "no json":
        path.with_suffix(".json").unlink()
    else:
        bad = {
            "version": proof | {"version": 0},
            "a list": [proof],
            "fields": proof | {"input": {"mean": 3}},
            "broken": "",
        }
        path.with_suffix(".json").write_text(json.dumps(bad[fault])[: None if fault != "broken" else 1])
    assert proofs.usable(path) is None


def test_looking_at_a_proof_imports_neither_torch_nor_detectron2():
    code = "import sys, transfer.checkpoints.converted; sys.exit(bool({'torch', 'detectron2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_command_prints_the_path_and_proof(checkpoint, scratch, capsys):
    assert main(["convert", str(checkpoint), "-o", str(scratch / "x.pkl")]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(scratch / "x.pkl")
    assert "265/265" in err and "fc.weight" in err and "make benchmark" in err
    assert "assumed: RGB images normalised with ImageNet's mean and std" in err
    assert "ImageNet" in json.loads((scratch / "x.json").read_text())["input"]["assumed"]
    assert main(["verify", str(scratch / "x.pkl"), str(checkpoint)]) == 0
    err = capsys.readouterr().err
    assert "bit for bit" in err and "not proved" not in err
    (scratch / "x.json").unlink()
    assert main(["verify", str(scratch / "x.pkl")]) == 0
    assert "not proved: nothing ties the file to a checkpoint" in capsys.readouterr().err
    assert main(["inspect", str(checkpoint)]) == 0
    assert "265 of the 265" in capsys.readouterr().out


def test_swapped_tensors_of_equal_shape_are_found(converted, checkpoint, scratch):
    arrays = converted.arrays()
    one, two = "res2.1.conv1.weight", "res2.2.conv1.weight"
    arrays[one], arrays[two] = arrays[two], arrays[one]
    swapped = rewritten(converted, arrays, scratch / "swapped.pkl")
    with pytest.raises(InputError, match=rf"2 tensors differ from .*: {one}, {two}"):
        verify.verify(swapped, checkpoint)
    (scratch / "swapped.json").write_bytes(converted.json_path.read_bytes())
    with pytest.raises(InputError, match="changed since"):  # alone: the hash in the proof
        verify.verify(swapped)


def test_claims_of_huge_arrays_cost_nothing(converted, scratch):
    """The unpickler makes the array without touching its memory; neither must the check."""
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (10**6, 10**6), (0, 0))
    assert verify.array_problems({"stem.conv1.weight": huge})[1].startswith(
        "wrong shape conv1.weight (1000000, 1000000)"
    )
    wrong = converted.arrays() | {"stem.conv1.weight": np.zeros((64, 3, 7, 7))}
    assert verify.array_problems(wrong) == ["not plain float32 or half conv1.weight float64"]


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_verify_refuses_another_set_of_arrays(converted, scratch, fault):
    arrays = converted.arrays()
    array = arrays.pop("res5.2.conv3.weight")
    if fault == "extra":
        arrays |= {"res5.2.conv3.weight": array, "res6.0.conv1.weight": array}
    if fault == "shape":
        arrays["res5.2.conv3.weight"] = array[:5]
    with pytest.raises(InputError, match=r"layer4\.2\.conv3|res6\.0"):
        verify.verify(rewritten(converted, arrays, scratch / "bad.pkl"))


def test_forward_proof_sees_what_shapes_do_not(converted, full_state, scratch, monkeypatch):
    protocol = scratch / "other.yaml"
    protocol.write_text("MODEL: {RESNETS: {RES5_DILATION: 2}}")
    monkeypatch.setattr(verify, "PROTOCOL", str(protocol))
    with pytest.raises(InputError, match="is built differently"):  # dilation changes the map's size
        verify.forward_difference(backbone_of(full_state), converted.arrays(), "resnet50", PixelInput())


@pytest.mark.parametrize("in_1x1", [False, True])
def test_stride_is_where_it_is_said_to_be(in_1x1, converted, full_state):
    state, arrays = backbone_of(full_state), converted.arrays()
    images = verify.check_images((0.5,) * 3, (0.25,) * 3)
    theirs = verify.torchvision_maps(state, images, "resnet50", in_1x1)["res5"]
    for build in (False, True):
        ours = verify.detectron2_maps(arrays, images, "resnet50", build)["res5"]
        difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        assert difference < 1e-5 if build == in_1x1 else difference > 1e-2


def test_forward_proof_has_a_limit():
    verify.require_agreement({"res2": 9e-6}, "x")
    for value in (1.1e-5, float("nan")):
        with pytest.raises(InputError, match="x: detectron2's res2 differs by"):
            verify.require_agreement({"res2": value}, "x")


def test_one_proof_is_for_every_protocol():
    """Their configs differ in no key that build_resnet_backbone reads and detectron2_maps does not set."""
    own = ("DEPTH", "RES2_OUT_CHANNELS", "STRIDE_IN_1X1", "OUT_FEATURES", "NORM")
    of_each = [protocol_cfg(protocol).MODEL for protocol in protocol_names()]
    networks = [{key: value for key, value in model.RESNETS.items() if key not in own} for model in of_each]
    assert all(network == networks[0] for network in networks) and networks[0]["RES5_DILATION"] == 1
    # A frozen stage has FrozenBatchNorm2d in place of its norm, which in eval mode computes the same.
    assert {model.BACKBONE.FREEZE_AT for model in of_each} == {0, 4, 5}


def backbone_of(state):
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    "kind", ["wrapped", "ddp", "parameters", "half", "safetensors", "channels_last", "no counters"]
)
def test_the_same_weights_in_other_wrapping(full_state, scratch, kind):
    state = backbone_of(full_state)
    path = scratch / "x.pth"
    if kind == "wrapped":
        torch.save({"epoch": 3, "model": state, "optimizer": {"state": {}}}, path)
    elif kind == "ddp":
        torch.save({"state_dict": {f"module.{name}": value for name, value in full_state.items()}}, path)
    elif kind == "parameters":
        torch.save({n: torch.nn.Parameter(v) if v.is_floating_point() else v for n, v in state.items()}, path)
    elif kind == "half":
        torch.save({n: v.half() if v.is_floating_point() else v for n, v in state.items()}, path)
    elif kind == "safetensors":
        path = scratch / "x.safetensors"
        save_file(state, path)
    elif kind == "channels_last":
        torch.save({n: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for n, v in state.items()}, path)
    else:
        state = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
        torch.save(state, path)
    expected = {n: v.half().float() if kind == "half" and v.is_floating_point() else v for n, v in state.items()}
    backbone = read_backbone(path)
    assert backbone.sha256 == weights_digest(expected) and not any(v.requires_grad for v in backbone.state.values())
    assert (backbone.family, backbone.architecture) == ("torchvision", "resnet50")


def test_a_conversion_of_an_earlier_version_still_says_how_its_images_are_wanted(converted, checkpoint, scratch):
    """Read as if it had no proof, it would be taken for RGB with ImageNet's statistics; and it is ours to replace."""
    for path in (converted.path, converted.json_path):
        (scratch / f"x{path.suffix}").write_bytes(path.read_bytes())
    proof = json.loads((scratch / "x.json").read_text())
    old = {"version": 3, "pixel_mean": [0.0, 0.0, 0.0], "channel_order": "BGR", "source_sha256": "0" * 64}
    (scratch / "x.json").write_text(json.dumps(as_earlier(proof, **old)))
    backbone = read_backbone(scratch / "x.pkl")
    assert (backbone.input.mean, backbone.input.order) == ((0.0, 0.0, 0.0), "BGR")
    again = convert(checkpoint, scratch / "x.pkl")
    assert again.version == proofs.VERSION and again.source_sha256 == converted.source_sha256


def test_a_checkpoint_and_its_conversion_are_one(converted, checkpoint):
    """The one has BatchNorm's counters, the other not."""
    before, after = read_backbone(checkpoint), read_backbone(converted.path)
    assert any(name.endswith(key_map.COUNTER) for name in before.state.keys() - after.state.keys())
    assert (before.sha256, before.input) == (after.sha256, after.input) == (converted.source_sha256, converted.input)


OTHERS = [
    ("resnet18", 100, 512),
    ("resnet34", 180, 512),
    pytest.param("resnet101", 520, 2048, marks=pytest.mark.slow),
    pytest.param("resnet152", 775, 2048, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "count", "dim"), OTHERS)
def test_other_depths(name, count, dim, scratch):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    torch.save(model.state_dict(), scratch / "x.pth")
    converted = convert(scratch / "x.pth")
    assert (converted.architecture, converted.mapped, converted.expected) == (name, count, count)
    assert set(converted.forward_difference) == set(verify.MAPS) and converted.max_difference < 1e-5
    assert any(f"{count}/{count}" in line for line in verify.verify(converted.path, scratch / "x.pth"))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        model.fc = torch.nn.Identity()
        assert torch.equal(build_backbone(read_backbone(scratch / "x.pth"))(images), model(images))
        assert model(images).shape == (2, dim)


def saved_run(folder, state, **changes):
    meta = {
        "architecture": "resnet50", "method": "random", "epoch": 0.0, "images_seen": 0, "dataset": {},
        "config": {}, "git": None, "versions": {}, "created": "", "pixel_mean": (0.1, 0.2, 0.3),
    }  # fmt: skip
    return save_checkpoint(folder, state, **meta | changes)


def test_own_run_folder(full_state, scratch):
    saved_run(scratch, backbone_of(full_state))
    backbone = read_backbone(scratch)
    assert (backbone.family, backbone.sha256) == ("superinfo", weights_digest(backbone_of(full_state)))
    assert backbone.input.mean == (0.1, 0.2, 0.3) and backbone.meta["method"] == "random"
    assert len(backbone.state) == 318


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"pixel_mean": (math.nan, 0.2, 0.3)}, "finite pixel means"),
        ({"pixel_std": (0.1, 0.0, 0.3)}, "positive stds"),
        ({"channel_order": "GRB"}, "channel order GRB; choose RGB or BGR"),
    ],
)
def test_own_run_with_unusable_pixels(full_state, scratch, meta, message):
    saved_run(scratch, backbone_of(full_state))
    known = json.loads((scratch / "meta.json").read_text())
    (scratch / "meta.json").write_text(json.dumps(known | meta))
    with pytest.raises(InputError, match=message):
        read_backbone(scratch)


def test_other_pixel_statistics_are_converted_anew(full_state, scratch):
    saved_run(scratch, backbone_of(full_state))
    first = convert(scratch)
    saved_run(scratch, backbone_of(full_state), pixel_mean=(0.4, 0.4, 0.4))
    second = convert(scratch)
    assert (first.input.mean, second.input.mean) == ((0.1, 0.2, 0.3), (0.4, 0.4, 0.4))
    assert (second.source_sha256, second.input.assumed) == (first.source_sha256, "")
    assert proofs.usable(second.path) == second


def test_own_run_whose_meta_is_about_other_tensors(full_state, scratch):
    saved_run(scratch, backbone_of(full_state))
    meta = json.loads((scratch / "meta.json").read_text())
    (scratch / "meta.json").write_text(json.dumps(meta | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="other tensors"):
        read_backbone(scratch)


@pytest.mark.parametrize("damaged", ["x.pkl", "x.json"])
def test_a_damaged_result_is_made_anew(damaged, checkpoint, scratch):
    whole = convert(checkpoint, scratch / "x.pkl")
    (scratch / damaged).write_bytes((scratch / damaged).read_bytes()[:1000])
    assert proofs.usable(whole.path) is None
    assert convert(checkpoint, scratch / "x.pkl") == whole and proofs.usable(whole.path) == whole


def test_never_replaces_what_is_not_ours(full_state, checkpoint, scratch):
    (scratch / "mine.json").write_text("{}")
    with pytest.raises(InputError, match=r"mine\.json: exists"):
        convert(checkpoint, scratch / "mine.pkl")
    (scratch / "msra.pkl").write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"msra\.pkl: exists"):
        convert(checkpoint, scratch / "msra.pkl")
    (scratch / "cut.json").write_text("{")
    with pytest.raises(InputError, match=r"cut\.json: exists"):
        convert(checkpoint, scratch / "cut.pkl")
    torch.save(full_state, scratch / "torch.pkl")
    with pytest.raises(InputError, match="replace the input"):
        convert(scratch / "torch.pkl")
    assert sorted(path.name for path in scratch.iterdir()) == ["cut.json", "mine.json", "msra.pkl", "torch.pkl"]
