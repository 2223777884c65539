"""Every family's file: recognised by its family alone, the published network bit for bit, all else left out by name."""

import functools
import json
import pickle
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18, resnet50

from pretrain.common.errors import InputError
from tests.transfer.layouts import SAMPLES, haiku
from tests.transfer.layouts.parts import IMAGENET, UNIT, linear, random_backbone, under, zeros
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.families import FAMILIES, detect, register
from transfer.checkpoints.families.layout import Layout
from transfer.checkpoints.reading.read import CheckpointFile, load_checkpoint

FALLBACK = "torchvision"  # takes whatever bare network no other family recognises, and comes last


@functools.cache
def blank(build):
    with torch.device("meta"):
        return build(weights=None).state_dict()


def empty(build=resnet50):
    """A backbone's names and shapes; its tensors take no space."""
    return {n: zeros(*v.shape, dtype=v.dtype) for n, v in blank(build).items() if not n.startswith("fc.")}


def in_memory(content, path="x.pth"):
    return CheckpointFile(path=Path(path), content=content, meta=None)


def recognisers(content):
    return [name for name, family in FAMILIES.items() if family.recognise(in_memory(content))]


def same(found, wanted):
    return set(found) == set(wanted) and all(found[name] is wanted[name] for name in wanted)


@pytest.fixture(scope="module")
def states():
    return random_backbone("resnet18", 1), random_backbone("resnet18", 2)


@pytest.mark.parametrize("name", SAMPLES)
def test_recognised_by_its_source_alone(name):
    sample = SAMPLES[name](empty(resnet18), empty(resnet18))
    assert set(recognisers(sample.content)) - {FALLBACK} == {sample.family} - {FALLBACK}
    family, reason = detect(in_memory(sample.content))
    assert family.name == sample.family and reason


def test_the_fallback_comes_last():
    assert list(FAMILIES)[-1] == FALLBACK


def test_a_family_from_outside_is_registered(monkeypatch):
    monkeypatch.setattr("transfer.checkpoints.families.FAMILIES", dict(FAMILIES))
    outside = Layout(name="outside", title="Outside", known_from="here", networks={"net": "trunk."}, marks=("mine",))
    register(outside.family())
    content = {"mine": 1} | under("trunk.", empty(resnet18))
    assert detect(in_memory(content))[0].name == "outside"
    bare = {"mine": 1} | empty(resnet18)
    assert detect(in_memory(bare))[0].name == "torchvision"
    with pytest.raises(InputError, match="a family called outside is registered already"):
        register(outside.family())


def test_a_family_from_outside_may_be_asked_first(monkeypatch):
    monkeypatch.setattr("transfer.checkpoints.families.FAMILIES", dict(FAMILIES))
    outside = Layout(name="outside", title="Outside", known_from="here", networks={"net": ""}, marks=("mine",))
    register(outside.family(), first=True)
    assert detect(in_memory({"mine": 1} | empty(resnet18)))[0].name == "outside"
    assert detect(in_memory(empty(resnet18)))[0].name == "torchvision"


@pytest.mark.parametrize("name", SAMPLES)
def test_each_network_is_taken_whole(name):
    sample = SAMPLES[name](empty(), empty())
    family, file = FAMILIES[sample.family], in_memory(sample.content)
    assert family.extract(file, None).networks == tuple(sample.networks)
    for network, wanted in sample.networks.items():
        raw = family.extract(file, network)
        assert raw.network == network and same(raw.state, wanted)
    assert family.extract(file, None).network == next(iter(sample.networks))


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_left_out_is_named_with_a_reason(name):
    sample = SAMPLES[name](empty(), empty())
    dropped = FAMILIES[sample.family].extract(in_memory(sample.content), None).dropped
    assert all(any(part in key for key in dropped) for part in sample.dropped)
    assert all(dropped.values())
    for other in list(sample.networks)[1:]:
        assert any(
            reason == f"of the network {other}, not of {next(iter(sample.networks))}" for reason in dropped.values()
        )


@pytest.mark.parametrize("name", SAMPLES)
def test_from_the_file_bit_for_bit(name, states, scratch):
    sample = SAMPLES[name](*states)
    torch.save(sample.content, scratch / "x.pth")
    backbone = read_backbone(scratch / "x.pth")
    wanted = next(iter(sample.networks.values()))
    assert (backbone.family, backbone.architecture) == (sample.family, "resnet18")
    assert set(backbone.state) == set(wanted)
    assert all(torch.equal(backbone.state[key], wanted[key]) for key in wanted)
    assert (backbone.input.mean, backbone.input.std) == sample.pixels
    assert (backbone.input.order, backbone.input.stride_in_1x1) == ("RGB", False) and backbone.input.assumed


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pickle_of_arrays_is_read_like_one_of_tensors(order, states, scratch):
    arrays = {name: value.numpy() for name, value in states[0].items()}
    arrays = {name: value.astype(value.dtype.newbyteorder(order)) for name, value in arrays.items()}
    (scratch / "x.pkl").write_bytes(pickle.dumps({"state_dict": under("encoder.", arrays)}))
    found = read_backbone(scratch / "x.pkl", "prefix", "state_dict.encoder.").state
    assert found.keys() == states[0].keys() and all(torch.equal(found[name], states[0][name]) for name in found)


def test_a_network_that_is_not_there_is_refused_with_the_choices():
    sample = SAMPLES["moco-v1"](empty(), empty())
    with pytest.raises(InputError, match=r"no network ema in the file.*query or key"):
        FAMILIES["moco"].extract(in_memory(sample.content), "ema")


def test_a_source_that_does_not_fit_is_refused():
    sample = SAMPLES["moco-v1"](empty(), empty())
    for name in set(FAMILIES) - {"moco", "msf", "superinfo", "detectron2", "byol"}:  # MSF has the same query encoder
        with pytest.raises(InputError, match=r"nothing in it is laid out as|no tensor's name starts with"):
            FAMILIES[name].extract(in_memory(sample.content), None)


def test_cmc_is_refused_with_the_reason():
    half = {"conv1.weight": zeros(32, 1, 7, 7), "layer1.0.conv1.weight": zeros(32, 32, 1, 1)}
    state = under("module.encoder1.", half) | under("module.encoder2.", half) | linear("module.head1.0", 128, 1024)
    content = {"model": state, "contrast": {"memory_1": zeros(9, 128)}, "epoch": 240}
    assert recognisers(content) == ["pycontrast"]
    with pytest.raises(InputError, match="CMC has two ResNets of half the width"):
        FAMILIES["pycontrast"].extract(in_memory(content), None)


@pytest.mark.parametrize("name", ["solo-learn-simclr", "simclr-sthalles", "lightly-byol"])
def test_a_cifar_stem_is_refused_with_the_reason(name, states, scratch):
    sample = SAMPLES[name](states[0] | {"conv1.weight": torch.ones(64, 3, 3, 3)}, states[1])
    torch.save(sample.content, scratch / "x.pth")
    with pytest.raises(InputError, match=r"CIFAR"):
        read_backbone(scratch / "x.pth")


def test_two_state_dicts_are_refused():
    content = {"state_dict": empty(resnet18), "model": empty(resnet18)}
    with pytest.raises(InputError, match='both "state_dict" and "model"'):
        FAMILIES["torchvision"].extract(in_memory(content), None)


@pytest.mark.parametrize("name", ["swav", "moco-v2-released", "pycontrast-memory", "densecl-extracted"])
def test_an_unknown_tensor_is_never_lost_in_silence(name):
    sample = SAMPLES[name](empty(resnet18), empty(resnet18))
    inner = sample.content.get("state_dict", sample.content.get("model", sample.content))
    wrapper = "module." if all(key.startswith("module.") for key in inner) else ""
    inner[f"{wrapper}adapter.weight"] = zeros(3)
    raw = FAMILIES[sample.family].extract(in_memory(sample.content), None)
    assert [key for key in raw.state if "adapter.weight" in key] and "adapter.weight" not in raw.dropped


def test_a_network_of_its_own_does_not_mix_with_one_whose_name_it_ends_in():
    """``str.replace`` and ``str.lstrip`` take "encoder." out of "momentum_encoder." and "c" off "conv1"."""
    state = under("encoder.", empty(resnet18)) | under("momentum_encoder.", {"conv1.weight": zeros(1)})
    raw = FAMILIES["solo-learn"].extract(in_memory({"state_dict": state | linear("classifier", 10, 512)}), None)
    assert raw.state["conv1.weight"].shape == (64, 3, 7, 7) and "momentum_encoder.conv1.weight" in raw.dropped


def test_simclr_v1_is_torchvisions_layout_unless_it_is_named():
    content = {"state_dict": empty() | linear("fc", 1000, 2048)}
    assert recognisers(content) == ["torchvision"]
    raw = FAMILIES["simclr"].extract(in_memory(content), None)
    assert same(raw.state, empty_of(content)) and (raw.input.mean, raw.input.std) == UNIT


@pytest.mark.parametrize(
    ("family", "prefix", "network"),
    [("lightly", "backbone.", "backbone"), ("solo-learn", "encoder.", "online"), ("openmmlab", "backbone.", "online")],
)
def test_a_file_without_the_marks_of_the_source_that_is_named(family, prefix, network):
    content = {"state_dict": under(prefix, empty(resnet18))}
    assert not FAMILIES[family].recognise(in_memory(content))
    raw = FAMILIES[family].extract(in_memory(content), None)
    assert same(raw.state, empty_of(content, prefix)) and (raw.network, raw.networks) == (network, (network,))


def empty_of(content, prefix=""):
    state = content["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if not name.startswith("fc.")}


def test_timms_hub_model_says_its_pixel_statistics(tmp_path):
    config = {"architecture": "resnet50", "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = in_memory(empty(), tmp_path / "model.safetensors")
    family, reason = detect(file)
    raw = family.extract(file, None)
    assert family.name == "timm" and "resnet50" in reason
    assert (raw.input.mean, raw.input.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


@pytest.mark.parametrize("in_1x1", [True, False])
def test_huggingfaces_configs_say_stride_and_pixel_statistics(in_1x1, tmp_path):
    content = SAMPLES["huggingface-classifier"](empty(), empty()).content
    file = in_memory(content, tmp_path / "pytorch_model.bin")
    before = FAMILIES["huggingface"].extract(file, None)
    assert (before.input.mean, before.input.stride_in_1x1) == (IMAGENET[0], False)
    assert "ImageNet" in before.input.assumed and "3×3" in before.input.assumed
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet", "downsample_in_bottleneck": in_1x1}))
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}')
    after = FAMILIES["huggingface"].extract(file, None)
    assert (after.input.mean, after.input.std) == ((0.5,) * 3, (0.2,) * 3)
    assert (after.input.stride_in_1x1, after.input.assumed) == (in_1x1, "RGB images")


def test_a_config_that_is_no_json_is_no_fault(tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert detect(in_memory(empty(), tmp_path / "model.safetensors"))[0].name == "torchvision"


@pytest.mark.parametrize("network", [None, "target"])
def test_byols_pickle(network, states, scratch):
    """Modules by their names, kernels turned, statistics from the averages; haiku is neither there nor asked for."""
    names = {name for name in states[0] if not name.endswith("num_batches_tracked")}
    online, target = ({name: state[name] for name in names} for state in states)
    haiku.write(scratch / "pretrain_res18.pkl", online, target)
    file = load_checkpoint(scratch / "pretrain_res18.pkl")
    family, _ = detect(file)
    raw = family.extract(file, network)
    wanted = target if network else online
    assert (family.name, raw.network, raw.networks) == ("byol", network or "online", ("online", "target"))
    assert set(raw.state) == names and all(torch.equal(raw.state[name], wanted[name]) for name in names)
    assert raw.dropped["online_params/projector/linear"].startswith("projection" if not network else "of the network")
    assert {"step", "rng"} <= set(raw.dropped) and "shifted" in raw.input.assumed
