"""detectron2's files back to torchvision's names: our .pkl, MSRA's, whole detectors; and BGR images all the way."""

import pickle
import re

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from PIL import Image

from benchmarks.tasks.compute.features import FeatureView, build_backbone, eval_transform
from pretrain.common.errors import InputError
from pretrain.common.tensors import IMAGENET_MEAN, IMAGENET_STD
from transfer.checkpoints import converted as proofs
from transfer.checkpoints import key_map, verify
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert
from transfer.detection.checks import detector_names
from transfer.detection.config import build_cfg, detector_cfg

MSRA_MEAN, MSRA_STD = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]  # detectron2/config/defaults.py


def bare(state):
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def test_round_trip_is_bitwise(converted, full_state):
    backbone = read_backbone(converted.path)
    wanted = without_counters(bare(full_state))
    assert backbone.family == "detectron2" and backbone.state.keys() == wanted.keys()
    assert all(torch.equal(backbone.state[name].view(torch.int32), wanted[name].view(torch.int32)) for name in wanted)
    assert (backbone.input.mean, backbone.input.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert backbone.input.assumed == converted.input.assumed


def test_a_pkl_without_its_proof_is_assumed_to_be_torchvisions(converted, scratch):
    (scratch / "x.pkl").write_bytes(converted.path.read_bytes())
    backbone = read_backbone(scratch / "x.pkl")
    assert backbone.input.order == "RGB" and "ImageNet" in backbone.input.assumed
    assert "by transfer-benchmark" in backbone.reason


def caffe2_name(name):
    """A torchvision name as MSRA's .pkl has it, written from that file's keys in detectron2's own log."""
    kinds = {"running_mean": "_running_mean", "running_var": "_running_var", "weight": "_gamma", "bias": "_beta"}
    module, _, kind = name.rpartition(".")
    if module in ("conv1", "bn1"):
        return "conv1_w" if module == "conv1" else f"res_conv1_bn{kinds[kind]}"
    layer, block, part, *index = module.split(".")
    branch = "branch1" if part == "downsample" else f"branch2{'abc'[int(part[-1]) - 1]}"
    norm = part.startswith("bn") or index == ["1"]
    return f"res{int(layer[-1]) + 1}_{block}_{branch}" + (f"_bn{kinds[kind]}" if norm else "_w")


@pytest.fixture
def msra(full_state, scratch):
    arrays = {caffe2_name(name): value.numpy() for name, value in without_counters(bare(full_state)).items()}
    assert len(arrays) == 265
    arrays |= {"conv1_b": np.zeros(64, np.float32), "fc1000_w": np.zeros((10, 2048)), "fc1000_b": np.zeros(10)}
    (scratch / "R-50.pkl").write_bytes(pickle.dumps(arrays, 2))
    return scratch / "R-50.pkl"


@pytest.mark.parametrize("protocol", ["voc_c4_24k", "coco_fpn_1x"])
def test_msras_weights_arrive_as_detectron2_itself_loads_them(msra, scratch, protocol):
    model = build_model(detector_cfg(protocol, "resnet50", stride_in_1x1=True))
    DetectionCheckpointer(model).load(str(msra))
    state, arrays = model.state_dict(), convert(msra, scratch / "out.pkl").arrays()
    assert all(
        np.array_equal(state[place].numpy(), arrays[n]) for n, place in detector_names(model, "resnet50").items()
    )


def detectron(full_state):
    """Detectron's {"blobs", "cfg"}: batch norms of scale (_s) and offset (_b) alone, the optimiser's state, a head."""
    state = without_counters(bare(full_state))
    state = {name: value for name, value in state.items() if not name.endswith(("running_mean", "running_var"))}
    blobs = {re.sub("_gamma$", "_s", re.sub("_beta$", "_b", caffe2_name(name))): v.numpy() for name, v in state.items()}
    blobs |= {f"{name}_momentum": np.zeros_like(value) for name, value in blobs.items()}
    head = (
        "fpn_inner_res5_2_sum_w",
        "conv_rpn_fpn2_w",
        "fc6_w",
        "cls_score_b",
        "bbox_pred_w",
        "mask_fcn1_w",
        "_[mask]_fcn1_w",
    )
    return {"blobs": blobs | {name: np.zeros(3, np.float32) for name in (*head, "lr")}, "cfg": "MODEL: {}"}


def test_detectrons_blobs_arrive_as_detectron2_itself_loads_them(full_state, scratch):
    path = scratch / "model_final.pkl"
    path.write_bytes(pickle.dumps(detectron(full_state), 2))
    cfg = detector_cfg("coco_fpn_1x", "resnet50", stride_in_1x1=True)
    cfg.MODEL.RESNETS.NORM = "FrozenBN"  # as detectron2's own configs have it for such files
    model = build_model(cfg)
    DetectionCheckpointer(model).load(str(path))
    converted = convert(path, scratch / "out.pkl")
    state, arrays = model.state_dict(), converted.arrays()
    places = detector_names(model, "resnet50")
    same = [name for name, place in places.items() if np.array_equal(state[place].numpy(), arrays[name])]
    assert len(places) == 265 and {name for name in places if name not in same} == {
        name for name in places if name.endswith("running_var")
    }
    # detectron2's checkpointer makes it 1, which is off by its epsilon; the file means x · scale + offset.
    variances = np.concatenate([arrays[name] for name in places if name.endswith("running_var")])
    np.testing.assert_allclose(1 / np.sqrt(variances + np.float32(1e-5)), 1, rtol=1e-7, atol=0)
    assert (converted.input.order, converted.input.stride_in_1x1, converted.family) == ("BGR", True, "detectron2")
    assert "122.7717" in converted.input.assumed and "scale and offset alone" in converted.input.assumed
    assert converted.dropped["conv1_w_momentum"].startswith("state of the optimiser") and "fc6_w" in converted.dropped


def test_one_missing_statistic_is_not_made_up(full_state, scratch):
    content = detectron(full_state)
    content["blobs"]["res2_0_branch2a_bn_rm"] = np.zeros(64, np.float32)
    (scratch / "x.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(InputError, match=r"missing bn1\.running_mean"):
        read_backbone(scratch / "x.pkl")


def test_msras_conventions_reach_the_detector(msra, scratch):
    converted = convert(msra, scratch / "out.pkl")
    assert converted.max_difference < 1e-5 and set(converted.dropped) == {"conv1_b", "fc1000_w", "fc1000_b"}
    assert "MSRA" in converted.input.assumed and (converted.input.order, converted.input.stride_in_1x1) == ("BGR", True)
    cfg = build_cfg(
        protocol="coco_fpn_1x", profile="paper", converted=converted, train=("a",), test=("b",), num_classes=3,
        mask_format="polygon", seed=0, output_dir=scratch, num_gpus=0, opts=[],
    )  # fmt: skip
    assert (pytest.approx(MSRA_MEAN), MSRA_STD) == (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BGR", True)
    assert any("proved: res2" in line for line in verify.verify(converted.path, msra))
    again = read_backbone(converted.path)  # and from the converted file, whose proof says so
    assert (again.input.order, again.input.stride_in_1x1, again.input.std) == ("BGR", True, converted.input.std)


def test_frozen_features_see_what_detectron2_sees(msra, scratch):
    """The whole way from an image file to res5, in detectron2's code and in ours."""
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)).save(scratch / "x.png")
    backbone = read_backbone(msra)
    ours = eval_transform(FeatureView(resize=64, crop=64), backbone)(Image.open(scratch / "x.png"))
    cfg = detector_cfg("coco_fpn_1x", "resnet50", stride_in_1x1=True)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = MSRA_MEAN, MSRA_STD
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(msra))
    pixels = torch.from_numpy(read_image(str(scratch / "x.png"), "BGR").transpose(2, 0, 1).copy())
    theirs = model.preprocess_image([{"image": pixels}]).tensor[0]
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)  # of values up to 150
    with torch.inference_mode():
        wanted = model.backbone.bottom_up(theirs[None])["res5"].mean((2, 3))
        found = build_backbone(backbone)(ours[None])
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def detector(protocol, architecture, **changes):
    cfg = detector_cfg(protocol, architecture, stride_in_1x1=False)
    cfg.MODEL.RESNETS.NORM = changes.get("norm", "BN")
    torch.manual_seed(3)
    return build_model(cfg)


@pytest.mark.parametrize(
    ("protocol", "architecture", "norm"),
    [("voc_c4_24k", "resnet50", "BN"), ("coco_fpn_1x", "resnet50", "FrozenBN"), ("voc_fpn_24k", "resnet18", "BN")],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_backbone_of_a_whole_detector(protocol, architecture, norm, wrapped, scratch):
    model = detector(protocol, architecture, norm=norm)
    state = model.state_dict()
    content = {"model": state, "iteration": 3, "optimizer": {"state": {}}} if wrapped else dict(state)
    torch.save(content, scratch / "model_final.pth")
    backbone = read_backbone(scratch / "model_final.pth")
    places = detector_names(model, architecture)
    table = key_map.to_torchvision(architecture)
    assert all(torch.equal(backbone.state[table[name]], state[place]) for name, place in places.items())
    assert backbone.architecture == architecture
    assert len(backbone.state) - len(places) == (len(key_map.counters(architecture)) if norm == "BN" else 0)
    used = set(places.values()) | {name for name in state if name.endswith("num_batches_tracked")}
    assert set(backbone.dropped) - {"iteration", "optimizer"} >= {n for n in state if n not in used}
    assert "detection head" in backbone.dropped.values() and "ImageNet" in backbone.input.assumed


def test_input_of_a_detector_is_what_its_config_says(scratch):
    torch.save({"model": detector("voc_fpn_24k", "resnet18").state_dict()}, scratch / "model_final.pth")
    cfg = detector_cfg("voc_fpn_24k", "resnet18", stride_in_1x1=True)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = MSRA_MEAN, MSRA_STD, "BGR"
    (scratch / "config.yaml").write_text(cfg.dump())
    backbone = read_backbone(scratch / "model_final.pth")
    assert (backbone.input.order, backbone.input.stride_in_1x1) == (
        "BGR",
        True,
    ) and "config.yaml" in backbone.input.assumed
    assert [255 * value for value in backbone.input.mean] == pytest.approx(MSRA_MEAN)
    (scratch / "config.yaml").write_text("MODEL: [")
    assert read_backbone(scratch / "model_final.pth").input.order == "RGB"


@pytest.mark.parametrize(
    ("mean", "std", "order", "in_1x1"),
    [
        (MSRA_MEAN, MSRA_STD, "BGR", True),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "RGB", False),
        ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395], "BGR", False),
    ],
)
def test_old_detectors_hold_their_pixel_statistics(mean, std, order, in_1x1, scratch):
    state = detector("voc_fpn_24k", "resnet18").state_dict()
    state |= {"pixel_mean": torch.tensor(mean).view(3, 1, 1), "pixel_std": torch.tensor(std).view(3, 1, 1)}
    torch.save({"model": state}, scratch / "x.pth")
    backbone = read_backbone(scratch / "x.pth")
    assert (backbone.input.order, backbone.input.stride_in_1x1) == (order, in_1x1)
    assert [255 * value for value in backbone.input.std] == pytest.approx(std)


def test_model_zoo_detectors_are_msras(scratch):
    state = detector("voc_fpn_24k", "resnet18").state_dict() | {"decoder.weight": torch.zeros(2)}
    arrays = {name: value.numpy() for name, value in state.items()}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    (scratch / "model_final_1.pkl").write_bytes(pickle.dumps(content))
    backbone = read_backbone(scratch / "model_final_1.pkl")
    assert backbone.input.order == "BGR"
    assert backbone.dropped["decoder.weight"] == "of the detector, not of its backbone"


def test_what_is_not_the_backbones_and_not_known_is_named(converted, scratch):
    (scratch / "x.pkl").write_bytes(proofs.pickled(converted.arrays() | {"res6.0.conv1.weight": np.zeros(1)}))
    with pytest.raises(InputError, match=re.escape("not mapped res6.0.conv1.weight")):
        read_backbone(scratch / "x.pkl")


def test_a_basic_resnet_has_no_c4_detector(scratch):
    with pytest.raises(InputError, match="bottleneck blocks; a ResNet-18 has basic ones: use an FPN protocol"):
        detector_cfg("voc_c4_24k", "resnet18", stride_in_1x1=False)


@pytest.mark.parametrize("protocol", ["voc_c4_24k", "coco_fpn_1x"])
def test_verify_loads_the_real_detector_and_says_what_is_not_from_the_file(converted, protocol):
    lines = verify.verify(converted.path, detector=protocol)
    assert f"all 265 backbone tensors of {protocol}'s detector equal the file bit for bit" in lines[-2]
    heads = {"voc_c4_24k": "roi_heads.res5.norm", "coco_fpn_1x": "backbone.fpn_lateral2"}
    assert "not from the file" in lines[-1] and heads[protocol] in lines[-1] and "proposal_generator" in lines[-1]
