"""What a refusal names, and the commands that it and inspect print: every one of them works."""

import functools
import re
import shlex
import time
from pathlib import Path

import pytest
import torch
import torchvision

from pretrain.common.errors import InputError
from tests.transfer.layouts import SAMPLES
from tests.transfer.layouts.parts import linear, random_backbone, under, zeros
from transfer.__main__ import parse
from transfer.checkpoints import architecture, foreign, key_map
from transfer.checkpoints.advice import advice, ways
from transfer.checkpoints.backbone import backbone_of, read_backbone
from transfer.checkpoints.families import FAMILIES, detect
from transfer.checkpoints.given import NOTHING_GIVEN
from transfer.checkpoints.inspect import inspect
from transfer.checkpoints.reading.read import CheckpointFile


@functools.cache
def shapes_of(build):
    """Names and shapes of a network of torchvision's."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build(weights=None).state_dict().items()}


def state_of(shapes):
    return {name: zeros(*shape) for name, shape in shapes.items()}


def in_memory(content, path="x.pth"):
    return CheckpointFile(path=Path(path), content=content, meta=None)


@pytest.fixture(scope="module")
def backbone():
    return random_backbone("resnet18", 1)


@pytest.mark.parametrize("architecture_", key_map.BLOCKS)
def test_expected_shapes_are_torchvisions(architecture_):
    theirs = architecture.build(architecture_).state_dict()
    wanted = {name: tuple(theirs[name].shape) for name in key_map.to_detectron2(architecture_)}
    assert architecture.expected_shapes(architecture_) == wanted


OTHERS = {
    "a Vision Transformer, patch 16, width 768": (
        shapes_of(torchvision.models.vit_b_16),
        {
            "cls_token": (1, 1, 768),
            "patch_embed.proj.weight": (768, 3, 16, 16),
            "blocks.0.attn.qkv.weight": (2304, 768),
        },
        {
            "vit.embeddings.patch_embeddings.projection.weight": (768, 3, 16, 16),
            "vit.encoder.layer.0.attention.attention.query.weight": (768, 768),
        },
        {
            "visual.conv1.weight": (768, 3, 16, 16),
            "visual.transformer.resblocks.0.attn.in_proj_weight": (2304, 768),
        },
    ),
    "a Vision Transformer, patch 16, width 384": (
        {"student.backbone.patch_embed.proj.weight": (384, 3, 16, 16), "student.backbone.blocks.0.attn.qkv.bias": (9,)},
    ),
    "a Swin Transformer, patch 4, width 96": (
        shapes_of(torchvision.models.swin_t),
        {
            "patch_embed.proj.weight": (96, 3, 4, 4),
            "layers.0.blocks.0.attn.relative_position_bias_table": (169, 3),
            "layers.1.downsample.reduction.weight": (192, 384),
        },
    ),
    "a Swin Transformer V2, patch 4, width 96": (shapes_of(torchvision.models.swin_v2_t),),
    "a ConvNeXt, width 96": (
        shapes_of(torchvision.models.convnext_tiny),
        {
            "downsample_layers.0.0.weight": (96, 3, 4, 4),
            "stages.0.0.dwconv.weight": (96, 1, 7, 7),
            "stages.0.0.gamma": (96,),
        },
        {
            "stem.0.weight": (96, 3, 4, 4),
            "stages.0.blocks.0.conv_dw.weight": (96, 1, 7, 7),
            "stages.0.blocks.0.gamma": (96,),
        },
    ),
    "a RegNet, width 32": (
        {"stem.0.weight": (32, 3, 3, 3), "trunk_output.block1.block1-0.f.a.0.weight": (48, 32, 1, 1)},
        {"stem.conv.weight": (32, 3, 3, 3), "s1.b1.conv1.conv.weight": (24, 32, 1, 1)},
    ),
    "an EfficientNet, width 32": (
        shapes_of(torchvision.models.efficientnet_b0),
        {
            "conv_stem.weight": (32, 3, 3, 3),
            "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
            "blocks.0.0.se.conv_reduce.weight": (8, 32, 1, 1),
        },
        {
            "_conv_stem.weight": (32, 3, 3, 3),
            "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
            "_blocks.0._se_reduce.weight": (8, 32, 1, 1),
        },
    ),
    "a MobileNet, width 32": (shapes_of(torchvision.models.mobilenet_v2),),
    "a DenseNet, width 64": (shapes_of(torchvision.models.densenet121),),
    "a VGG or an AlexNet, width 64": (shapes_of(torchvision.models.vgg11), shapes_of(torchvision.models.alexnet)),
}


@pytest.mark.parametrize(("title", "shapes"), [(title, one) for title, many in OTHERS.items() for one in many])
def test_another_network_is_named(title, shapes):
    assert foreign.describe(shapes) == title
    for content in (state_of(shapes), {"model": under("module.", state_of(shapes))}):
        assert not ways(in_memory(content))
        with pytest.raises(InputError, match=f"^x.pth: {title}: only ResNets can be converted"):
            detect(in_memory(content))


def resnet(blocks, bottleneck):
    """Names and shapes of a ResNet with as many blocks of the kind, without its norms' statistics."""
    convolutions = ("conv1", "conv2", "conv3") if bottleneck else ("conv1", "conv2")
    shapes = {
        f"layer{n}.{i}.{one}.weight": (64, 64, 1, 1)
        for n in range(1, 5)
        for i in range(blocks[n - 1])
        for one in convolutions
    }
    return shapes | {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,)}


@pytest.mark.parametrize(
    ("shapes", "title"),
    [
        (shapes_of(torchvision.models.resnet18), "ResNet-18"),
        (shapes_of(torchvision.models.resnet50), "ResNet-50"),
        (shapes_of(torchvision.models.wide_resnet50_2), "ResNet-50, width 2×"),
        (shapes_of(torchvision.models.resnext50_32x4d), "ResNet-50, 32 groups"),
        (resnet((2, 2, 2, 2), True), "ResNet-26 (2-2-2-2 bottleneck blocks)"),
        (resnet((1, 1, 1, 1), False), "ResNet-10 (1-1-1-1 basic blocks)"),
        (resnet((3, 24, 36, 3), True), "ResNet-200 (3-24-36-3 bottleneck blocks)"),
        (resnet((3, 4, 6, 3), True) | {"layer1.0.conv2.paths.0.conv.weight": (9,)}, "ResNet-50, selective kernels"),
        (resnet((3, 4, 6, 3), True) | {"layer1.0.conv2.mixing_conv.0.weight": (9,)}, "ResNet-50, selective kernels"),
        (resnet((3, 4, 6, 3), True) | {"conv1.0.weight": (32, 3, 3, 3)}, "ResNet-50, deep stem (several convolutions)"),
        (resnet((3, 4, 6, 3), True) | {"stem.0.weight": (32, 3, 3, 3)}, "ResNet-50, deep stem (several convolutions)"),
        (
            resnet((3, 4, 6, 3), True) | {"conv1.weight": (32, 3, 3, 3), "conv2.weight": (32, 32, 3, 3)},
            "ResNet-50, deep stem (several convolutions)",
        ),
        (
            resnet((3, 4, 6, 3), True) | {"layer2.0.downsample.1.weight": (512, 256, 1, 1)},
            "ResNet-50, shortcuts that pool (ResNet-D)",
        ),
        (
            resnet((3, 4, 6, 3), True) | {"layer1.0.convs.0.weight": (9,)},
            "ResNet-50, several scales per block (Res2Net)",
        ),
    ],
)  # fmt: skip
def test_a_resnet_of_another_kind_is_named(shapes, title):
    assert architecture.describe(shapes) == title


def cmc():
    half = {
        name: (max(size[0] // 2, 1), *size[1:]) for name, size in shapes_of(torchvision.models.resnet50).items() if size
    }
    return {"model": under("module.encoder1.", state_of(half)) | under("module.encoder2.", state_of(half))}


@pytest.mark.parametrize(
    "content",
    [
        state_of(shapes_of(torchvision.models.wide_resnet50_2)),
        {"state_dict": under("encoder.", state_of(shapes_of(torchvision.models.wide_resnet50_2)))},
        {"state_dict": under("module.encoder_q.", state_of(shapes_of(torchvision.models.resnext50_32x4d)))},
        {"net": under("backbone.", state_of(resnet((2, 2, 2, 2), True)))},
        cmc(),
        {"head.weight": zeros(3), "epoch": 1},
    ],
    ids=["wide", "wide-inside", "grouped", "resnet26", "cmc", "no-network"],
)
def test_no_command_is_printed_that_must_fail(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    lines = inspect(tmp_path / "x.pth")
    assert any(line.startswith("refused: ") for line in lines) and not any("try: " in line for line in lines)
    assert not any(line.startswith("265 of the 265") or "would map 265 of 265" in line for line in lines)


def commands(text):
    return [shlex.split(one)[3:] for one in re.findall(r"python -m transfer convert .*", text)]


HEAD = linear("pred.fc1", 8, 8)
INSIDE = {
    "lightning": lambda first, second: {"state_dict": under("backbone.", first), "pytorch-lightning_version": "2.1.0"},
    "deepspeed": lambda first, second: {"module": under("encoder.", first), "ds_version": "0.12.3"},
    "detector": lambda first, second: under("backbone.body.", first) | linear("rpn.head", 3, 3),
    "two": lambda first, second: {"model": first, "model_ema": under("module.", second)},
    "two-averaged": lambda first, second: {"model": first, "ema": {"n_averaged": zeros(1)} | under("module.", second)},
    "key-first": lambda first, second: {"net": under("key_net.", second) | under("net.", first)},
    "head": lambda first, second: {"state_dict": first | HEAD | linear("projector", 3, 3)},
    "head-inside": lambda first, second: {"net": under("trunk.", first | HEAD)},
    "known-with-head": lambda first, second: {"state_dict": under("module.encoder_q.", first) | HEAD},
    "fsdp": lambda first, second: {"model": under("net._fsdp_wrapped_module.", first)},
    "compiled-stages": lambda first, second: {
        "weights": {name.replace("layer1.", "layer1._orig_mod."): value for name, value in first.items()}
    },
    "simsiam-without-heads": lambda first, second: {"state_dict": under("encoder.", first)},
}


@pytest.mark.parametrize("name", INSIDE)
def test_every_command_that_is_printed_works_and_the_first_one_takes_the_trained_network(name, backbone, tmp_path):
    second = {key: value + 1 for key, value in backbone.items()}
    path = tmp_path / "mein Lauf #1 (50%)'s.pth"
    torch.save(INSIDE[name](backbone, second), path)
    with pytest.raises(InputError) as caught:
        read_backbone(path)
    assert "\n" not in str(caught.value)
    (first, *_) = commands(str(caught.value).split(" (python -m transfer inspect")[0])
    listed = [words for line in inspect(path) for words in commands(line)]
    found = [taken_by(words, path) for words in listed]
    state = found[listed.index(first)].state
    assert all(torch.equal(state[key], backbone[key]) for key in state)


def taken_by(words, path):
    """What the printed command converts."""
    options = parse(words)
    assert options.file == path
    return read_backbone(path, **options.arguments())


@pytest.mark.parametrize("name", ["moco-v1", "dino", "vicregl", "paws", "slotcon", "detectron2-like"])
def test_a_damaged_file_of_a_family_has_no_command(name):
    if name == "detectron2-like":
        content = {"model": {"stem.conv1.weight": zeros(64, 3, 7, 7), "res2.0.conv1.weight": zeros(64, 64, 1, 1)}}
    else:
        blank = state_of(shapes_of(torchvision.models.resnet18))
        content = SAMPLES[name]({k: v for k, v in blank.items() if k != "layer1.0.conv1.weight"}, {}).content
    assert not ways(in_memory(content))


@pytest.mark.parametrize("letters", ["backbone.", "encoder.", "module."])
def test_names_that_lstrip_cut_are_explained(letters):
    content = {
        (letters + key).lstrip(letters): value
        for key, value in state_of(shapes_of(torchvision.models.resnet18)).items()
    }
    with pytest.raises(InputError, match=r"beginnings of names are cut off \(.*str\.removeprefix"):
        backbone_of(in_memory(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"b": under("net.", state_of(resnet((2, 2, 2, 2), True)))}}, r"looks like a ResNet-26 \(2-2-2-2 "),
        (
            {"state_dict": under("net.", state_of(shapes_of(torchvision.models.wide_resnet50_2)))},
            "ResNet-50, width 2×;",
        ),
        ({"state_dict": {"layer1.0.conv1.weight": zeros(64, 64, 3, 3)}}, r"no conv1\.weight; only ResNet-18"),
        (
            {"backbone": torch.zeros(3)},
            r"not a checkpoint of any known family .*; see: python -m transfer inspect x\.pth",
        ),
    ],
)
def test_what_no_source_knows_is_named_all_the_same(content, message):
    with pytest.raises(InputError, match=message):
        detect(in_memory(content))


@pytest.mark.parametrize(
    "content",
    [
        {f"n{i}.layer1.0.conv1.weight": torch.zeros(1) for i in range(20_000)},
        {f"part{i}.weight": torch.zeros(1) for i in range(20_000)},
        {"a\nb.layer1.0.conv1.weight": torch.zeros(1), "c\n\x1b[31m" + 99_999 * "d": torch.zeros(1)},
    ],
    ids=["prefixes", "parts", "names"],
)
def test_a_hostile_file_is_one_short_line_soon(content):
    for extra in ({}, state_of(shapes_of(torchvision.models.resnet18))):
        file = in_memory(content | extra)
        start = time.monotonic()
        with pytest.raises(InputError) as caught:
            backbone_of(file)
        line = f"{caught.value}{advice(file, None, None, NOTHING_GIVEN)}"
        assert time.monotonic() - start < 20 and "\n" not in line and "\x1b" not in line and len(line) < 2000


def test_a_blurring_network_of_timms_is_not_taken_for_a_plain_one():
    content = {"arch": "resnetblur50", "version": 2, "state_dict": state_of(shapes_of(torchvision.models.resnet50))}
    with pytest.raises(InputError, match="timm's resnetblur50 blurs"):
        FAMILIES["timm"].extract(in_memory(content), None)


def test_a_last_stage_of_stride_1_is_refused_where_the_file_says_it():
    content = SAMPLES["vissl-trunk"](state_of(shapes_of(torchvision.models.resnet50)), {}).content
    content["config"]["MODEL"]["TRUNK"]["RESNETS"] = {"LAYER4_STRIDE": 1}
    with pytest.raises(InputError, match="LAYER4_STRIDE 1"):
        FAMILIES["vissl"].extract(in_memory(content), None)
