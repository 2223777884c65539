"""What a user may say of a checkpoint, what its config says, and what both do to the proof."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pretrain.common.errors import InputError
from tests.transfer.earlier import as_earlier
from tests.transfer.layouts.parts import linear, norm, random_backbone, under
from transfer.__main__ import main
from transfer.checkpoints import converted as proofs
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert, summary
from transfer.checkpoints.families import FAMILIES, mmconfig
from transfer.checkpoints.families.base import IMAGENET_ASSUMED, config_beside
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading.read import CheckpointFile
from transfer.checkpoints.verify import MAPS, verify

CAFFE = ((102.9801 / 255, 115.9465 / 255, 122.7717 / 255), (1 / 255,) * 3)
IMAGENET_255 = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]"


@pytest.fixture(scope="module")
def backbone():
    return random_backbone("resnet18", 1)


def test_what_is_dropped_is_in_the_proof_and_verified(backbone, tmp_path):
    path, head = tmp_path / "x.pth", norm("pred.bn1", 8) | linear("pred.fc1", 8, 8) | linear("projector", 8, 8)
    torch.save({"state_dict": backbone | head}, path)
    with pytest.raises(
        InputError, match=r"if pred\.\*, projector\.\* are no part of the backbone: python -m "
    ) as caught:
        convert(path)
    assert "\n" not in str(caught.value)
    assert main([word.strip("'") for word in str(caught.value).split("python -m transfer ")[1].split(" ")]) == 0
    proof = proofs.load(path.with_suffix(".pkl"))
    assert proof.given == Given(drop=("pred.", "projector."))
    assert proof.dropped["pred.bn1.weight"] == "left out, as --drop pred. says" and "projector.bias" in proof.dropped
    assert "given: --drop pred. --drop projector." in summary(proof) and summary(proof)[-1].endswith(f'{proof.path}"')
    assert any("bit for bit" in line for line in verify(proof.path, path))
    assert proof.source_sha256 == read_backbone(path, given=proof.given).sha256


@pytest.mark.parametrize(
    ("extra", "prefix", "message"),
    [
        ({}, "pred.", "--drop pred.: no left-over tensor starts with it"),
        ({}, "layer4.", "--drop layer4.: layer4.0.conv1.weight is a part of the ResNet itself"),
        (
            {"layer4.2.conv1.weight": torch.zeros(1)},
            "layer4.2.",
            "layer4.2.conv1.weight is a part of the ResNet itself",
        ),
        ({"head.weight": torch.zeros(1)}, "", "conv1.weight is a part of the ResNet itself"),
    ],
)
def test_what_cannot_be_dropped(extra, prefix, message, backbone, tmp_path):
    torch.save(backbone | extra, tmp_path / "x.pth")
    with pytest.raises(InputError, match=f"x.pth: .*{message.replace('.', '[.]')}"):
        read_backbone(tmp_path / "x.pth", given=Given(drop=(prefix,)))


def test_a_part_of_the_network_is_never_advised_to_be_dropped(backbone, tmp_path):
    torch.save(backbone | {"layer1.0.se.fc1.weight": torch.zeros(1), "head.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError) as caught:
        read_backbone(tmp_path / "x.pth")
    assert "squeeze-and-excitation" in str(caught.value) and "--drop" not in str(caught.value)


def test_a_given_input_is_another_checkpoint_and_nothing_given_is_the_same(backbone, tmp_path):
    torch.save(backbone, tmp_path / "x.pth")
    usual = convert(tmp_path / "x.pth")
    flags = ["--pixel-mean", "0", "0", "0", "--pixel-std", "1", "1", "1", "--channel-order", "BGR", "--stride-in-1x1"]
    assert main(["convert", str(tmp_path / "x.pth"), "-o", str(tmp_path / "y.pkl"), *flags]) == 0
    other = proofs.load(tmp_path / "y.pkl")
    assert (other.input.mean, other.input.std, other.input.order) == ((0.0,) * 3, (1.0,) * 3, "BGR")
    assert other.input.stride_in_1x1 and other.input.assumed == "a last stage of stride 2"
    assert (other.source_sha256, other.given.words()) == (usual.source_sha256, [*flags[-1:], *flags[:-1]])
    assert usual.given == NOTHING_GIVEN and usual.input != other.input
    assert read_backbone(other.path).input == other.input
    said = dataclasses.replace(usual.input, order="BGR")
    assert read_backbone(tmp_path / "x.pth", given=Given(channel_order="BGR")).input == said


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        (Given(), "RGB images normalised with ImageNet's mean and std, "),
        (Given(channel_order="BGR"), "images normalised with ImageNet's mean and std, "),
        (Given(pixel_mean=(0.5,) * 3), "RGB images normalised with ImageNet's std, "),
        (Given(pixel_std=(0.5,) * 3, channel_order="RGB"), "images normalised with ImageNet's mean, "),
        (Given(pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3), "RGB images, "),
    ],
)
def test_what_is_given_is_not_assumed(given, pixels, backbone, tmp_path):
    torch.save(backbone, tmp_path / "x.pth")
    rest = "the stride in the 3×3 convolutions, a last stage of stride 2"
    assert read_backbone(tmp_path / "x.pth", given=given).input.assumed == pixels + rest


def test_no_stride_in_1x1_is_given_too():
    assert Given(stride_in_1x1=False).words() == ["--no-stride-in-1x1"] and Given(stride_in_1x1=False) != NOTHING_GIVEN


@pytest.mark.parametrize("field", ["pixel_mean", "pixel_std"])
def test_statistics_for_0_to_255_are_refused_with_the_remedy(field):
    with pytest.raises(InputError, match=rf"--{field.replace('_', '-')} 123.675 116.28 103.53: give it for .* by 255"):
        Given(**{field: (123.675, 116.28, 103.53)})


def test_a_proof_from_before_anything_could_be_given_is_still_read(backbone, tmp_path):
    torch.save(backbone, tmp_path / "x.pth")
    now = convert(tmp_path / "x.pth")
    old = as_earlier(json.loads(now.json_path.read_text()), version=4)
    now.json_path.write_text(json.dumps(old))
    proof = proofs.usable(now.path)
    assert proof.given == NOTHING_GIVEN and (proof.input, proof.sha256) == (now.input, now.sha256)
    assert convert(tmp_path / "x.pth").version == proofs.VERSION


def test_what_is_beside_a_file_and_nested_without_end_says_nothing(tmp_path):
    for name in ("x.json", "config.json", "config.yaml"):
        (tmp_path / name).write_text("[" * 100_000)
    assert proofs.load(tmp_path / "x.pkl") is None and proofs.written_here(tmp_path / "x.json") is None
    file = CheckpointFile(path=tmp_path / "x.pth", content={"stem.conv1.weight": torch.zeros(1)}, meta=None)
    assert config_beside(file, "config.json") == {}
    assert FAMILIES["detectron2"].extract(file, None).input.assumed == IMAGENET_ASSUMED


MMCV = f"""img_norm_cfg = dict({IMAGENET_255}, to_rgb=True)
model = dict(type='MoCo', backbone=dict(type='ResNet', depth=50, strides=(1, 2, 2, 2), style='pytorch'))
data = dict(train=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='Normalize', **img_norm_cfg)]))
total_epochs = 200
"""
MMDET_CAFFE = """/configs/_base_/faster_rcnn_r50_fpn.py
model = dict(backbone=dict(type='ResNet', depth=50, style='pytorch'), neck=dict(type='FPN'))
_base_/coco.py
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
/configs/mine.py
_base_ = ['faster_rcnn_r50_fpn.py', 'coco.py']
model = dict(backbone=dict(norm_eval=True, style='caffe'))
img_norm_cfg = dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], to_rgb=False)
optimizer = dict(lr=0.02 * 8 / 16)
print(open('/etc/passwd').read())
"""
MMENGINE_CAFFE = """
model = dict(
    backbone=dict(depth=50, init_cfg=dict(checkpoint='open-mmlab://resnet50_caffe'), style='caffe', type='ResNet'),
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False))
"""
MMPRETRAIN = f"data_preprocessor = dict({IMAGENET_255}, num_classes=1000, to_rgb=True)\nmodel = dict(backbone=dict())"
OPENSELFSUP = """img_norm_cfg = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
model = dict(backbone=dict(type='ResNet', depth=50, in_channels=3))
train_pipeline = [dict(type='ToTensor'), dict(type='Normalize', **img_norm_cfg)]
"""
# Each name stands for its two halves: 2^60 parts in some lines, to be walked through, merged, or found in a pickle.
SHARED = "a0 = [1]\n" + "".join(f"a{n + 1} = dict(l=a{n}, r=a{n})\n" for n in range(60)) + "a60 = a59\n"
HUGE = "1" + "0" * 400  # no float is as large


def _holding_itself():
    config = {"type": "Normalize"}
    for _ in range(60):
        config = {"l": config, "r": [config, config]}
    config["self"] = config
    return config


UNIT_255 = "img_norm_cfg = dict(mean=[0, 0, 0], std=[255, 255, 255])"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS, STRIDE, LAST = "RGB images normalised", "3×3", "last stage"


@pytest.mark.parametrize(
    ("meta", "pixels", "order", "in_1x1", "assumed"),
    [
        ({"config": MMCV}, IMAGENET, "RGB", False, ()),
        ({"config": MMDET_CAFFE}, CAFFE, "BGR", True, ()),
        ({"cfg": MMENGINE_CAFFE}, CAFFE, "BGR", True, ()),
        ({"cfg": MMPRETRAIN}, IMAGENET, "RGB", False, ()),
        ({"config": OPENSELFSUP}, IMAGENET, "RGB", False, ()),
        ({"config": {"model": {"backbone": {"style": "caffe"}}}}, IMAGENET, "RGB", True, (PIXELS,)),
        ({"cfg": "model = dict(backbone=dict(style='caffe'))"}, IMAGENET, "RGB", True, (PIXELS,)),
        ({"cfg": f"data_preprocessor = dict({IMAGENET_255})"}, IMAGENET, "BGR", False, (STRIDE, LAST)),
        ({"config": UNIT_255}, ((0,) * 3, (1,) * 3), "RGB", False, (STRIDE, LAST)),
        ({"epoch": 12}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": "model = dict("}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": "x = " + "(" * 5000}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": None, "cfg": 3}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": SHARED}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": _holding_itself()}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": f"x = {HUGE} * 1.5"}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"config": f"img_norm_cfg = dict(mean=[0, {HUGE}, 0], std=[1, 1, 1])"},
         IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
        ({"cfg": "model = build(style='caffe')"}, IMAGENET, "RGB", False, (PIXELS, STRIDE, LAST)),
    ],
)  # fmt: skip
def test_openmmlabs_config_says_the_input(meta, pixels, order, in_1x1, assumed):
    state = {f"backbone.layer1.0.conv{n}.weight": torch.zeros(1) for n in (1, 2, 3)}
    file = CheckpointFile(path=Path("x.pth"), content={"meta": meta, "state_dict": state}, meta=None)
    found = FAMILIES["openmmlab"].extract(file, None)
    assert (found.input.order, found.input.stride_in_1x1) == (order, in_1x1)
    assert found.input.mean == pytest.approx(pixels[0]) and found.input.std == pytest.approx(pixels[1])
    clauses = [clause for clause in found.input.assumed.split(", ") if clause]
    assert len(clauses) == len(assumed) and all(one in clause for one, clause in zip(assumed, clauses, strict=True))


def test_a_network_of_style_caffe_is_converted_with_its_stride_and_colours(scratch):
    state = random_backbone("resnet50", 1)
    torch.save({"meta": {"config": MMDET_CAFFE}, "state_dict": under("backbone.", state)}, scratch / "x.pth")
    converted = convert(scratch / "x.pth")
    assert (converted.input.stride_in_1x1, converted.input.order, converted.input.assumed) == (True, "BGR", "")
    assert converted.input.mean == pytest.approx(CAFFE[0]) and converted.input.std == pytest.approx(CAFFE[1])
    assert set(converted.forward_difference) == set(MAPS) and converted.max_difference == 0


@pytest.mark.parametrize("key", ["strides=(1, 2, 2, 1)", "dilations=(1, 1, 2, 4)"])
def test_a_network_of_other_strides_is_refused_by_name(key, backbone, tmp_path):
    config = f"model = dict(backbone=dict({key}))"
    torch.save({"meta": {"cfg": config}, "state_dict": under("backbone.", backbone)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=f"its config says {key.split('=')[0]}"):
        read_backbone(tmp_path / "x.pth")


def test_a_config_is_read_and_never_run(tmp_path):
    bomb = tmp_path / "bomb"
    text = f"""import pathlib
a = pathlib.Path({str(bomb)!r}).mkdir()
b = dict(c=[1, -2.5, None], d=4 * 10 / 2, **dict(e='f'))
b.update(x=1)
[g for g in ()]
h = b
b = dict(_delete_=True, c=7)
long = 9 ** 9 ** 9
"""
    found = mmconfig.parse(text)
    assert found["h"] == {"c": [1, -2.5, None], "d": 20.0, "e": "f"} and found["b"]["c"] == 7 and "d" not in found["b"]
    assert found["a"] is None and found["long"] is None and not bomb.exists()


def test_resnet18_of_style_caffe_is_an_ordinary_one(backbone, tmp_path):
    """Basic blocks have no 1×1 convolution to have the stride in."""
    config = {"cfg": "model = dict(backbone=dict(style='caffe'))"}
    torch.save({"meta": config, "state_dict": under("backbone.", backbone)}, tmp_path / "x.pth")
    assert not read_backbone(tmp_path / "x.pth").input.stride_in_1x1
