"""VISSL, SwAV, Barlow Twins, VICReg, VICRegL, SimSiam, DINO and PAWS."""

import argparse
from collections import OrderedDict

from tests.transfer.layouts.parts import Sample, linear, mlp, norm, optimizer, sample, under, width, zeros

# facebookresearch/vissl: vissl/models/trunks/resnext.py, extra_scripts/convert_vissl_to_{detectron2,torchvision}.py,
#     extra_scripts/convert_dino_checkpoint.py


def _vissl(trunk, loss=None, heads=None):
    return {
        "phase_idx": 99,
        "iteration": 31299,
        "iteration_num": 312,
        "train_phase_idx": 99,
        "type": "consolidated",
        "loss": loss or {},
        "config": {"MODEL": {"TRUNK": {"NAME": "resnet"}}},
        "classy_state_dict": {
            "train": True,
            "base_model": {
                "model": {"trunk": trunk, "heads": heads or linear("0.clf.0", 128, 2048)},
                "meters": {"train": {}},
            },
            "meters": [],
            "optimizer": {"optim": optimizer(), "parameters": ["lr"]},
            "phase_idx": 99,
            "loss": loss or {},
            "hooks": {},
        },
    }


@sample
def vissl_trunk(first, second):
    content = _vissl(under("_feature_blocks.", first))
    return Sample(family="vissl", content=content, networks={"trunk": first}, dropped=("heads", "optimizer", "config"))


@sample
def vissl_frozen(first, second):
    """A trunk that was evaluated with frozen features (FEATURE_EVAL_SETTINGS): wrapped once more."""
    content = _vissl(under("base_model._feature_blocks.", first))
    return Sample(family="vissl", content=content, networks={"trunk": first}, dropped=("heads",))


@sample
def vissl_dino(first, second):
    loss = under("momentum_teacher.module.trunk._feature_blocks.", first)
    loss |= linear("momentum_teacher.module.heads.0.clf.0", 2048, width(first)) | {"center": zeros(1, 65536)}
    content = _vissl(under("_feature_blocks.", second), loss)
    content["loss"] = {}
    return Sample(
        family="vissl",
        content=content,
        networks={"teacher": first, "trunk": second},
        dropped=("heads", "center", "momentum_teacher.heads."),
    )


@sample
def vissl_model_state_dict(first, second):
    content = {"model_state_dict": under("_feature_blocks.", first)}
    return Sample(family="vissl", content=content, networks={"trunk": first})


@sample
def vissl_bare(first, second):
    content = under("_feature_blocks.", first)
    return Sample(family="vissl", content=content, networks={"trunk": first})


@sample
def vissl_exported(first, second):
    """What convert_vissl_to_torchvision.py writes is torchvision's own layout."""
    return Sample(family="torchvision", content=dict(first), networks={"model": first})


# facebookresearch/swav: src/resnet50.py, main_swav.py, main_deepclusterv2.py


@sample
def swav(first, second):
    d = width(first)
    state = first | mlp("projection_head", d, 2048, 128, bias=True, last_bias=True)
    state |= linear("prototypes", 3000, 128, False)
    content = {
        "epoch": 800,
        "state_dict": under("module.", state),
        "optimizer": optimizer(),
        "amp": {"loss_scaler0": {"loss_scale": 1.0, "unskipped": 2}},
    }
    return Sample(
        family="swav", content=content, networks={"model": first}, dropped=("projection_head.", "prototypes.")
    )


@sample
def deepcluster_v2_released(first, second):
    """The released files are the bare state dict, and DeepCluster v2 has several sets of prototypes."""
    d = width(first)
    state = first | mlp("projection_head", d, 2048, 128, bias=True, last_bias=True)
    for n in range(3):
        state |= linear(f"prototypes.prototypes{n}", 3000, 128, False)
    return Sample(
        family="swav", content=under("module.", state), networks={"model": first}, dropped=("prototypes.prototypes2.",)
    )


@sample
def swav_without_prototypes(first, second):
    """--nmb_prototypes 0: src/resnet50.py then makes no such layer."""
    state = first | linear("projection_head", 128, width(first))
    return Sample(
        family="swav",
        content={"epoch": 8, "state_dict": under("module.", state), "optimizer": optimizer()},
        networks={"model": first},
        dropped=("projection_head.",),
    )


# facebookresearch/barlowtwins: main.py; facebookresearch/vicreg: main_vicreg.py; facebookresearch/simsiam


@sample
def barlow_twins(first, second):
    d = width(first)
    state = under("backbone.", first) | mlp("projector", d, 8192, 8192, 8192) | norm("bn", 8192, affine=False)
    content = {"epoch": 1000, "model": under("module.", state), "optimizer": optimizer()}
    return Sample(
        family="barlow-twins", content=content, networks={"backbone": first}, dropped=("projector.", "bn.running_mean")
    )


@sample
def barlow_twins_bare(first, second):
    """resnet50.pth: nothing in it says where it is from."""
    return Sample(family="torchvision", content=OrderedDict(first), networks={"model": first})


@sample
def vicreg(first, second):
    d = width(first)
    state = under("backbone.", first) | mlp("projector", d, 8192, 8192, 8192, bias=True)
    content = {"epoch": 1000, "model": under("module.", state), "optimizer": optimizer()}
    return Sample(family="vicreg", content=content, networks={"backbone": first}, dropped=("projector.",))


@sample
def simsiam(first, second):
    d = width(first)
    state = under("encoder.", first) | mlp("encoder.fc", d, d, d, 2048, last_bias=True, last_norm=True)
    state |= mlp("predictor", 2048, 512, 2048, last_bias=True)
    content = {"epoch": 100, "arch": "resnet50", "state_dict": under("module.", state), "optimizer": optimizer()}
    return Sample(
        family="simsiam", content=content, networks={"encoder": first}, dropped=("encoder.fc.6.", "predictor.")
    )


# facebookresearch/dino: main_dino.py, utils.py (MultiCropWrapper), hubconf.py


def _dino_head(d):
    layers = linear("head.mlp.0", 2048, d) | linear("head.mlp.2", 2048, 2048) | linear("head.mlp.4", 256, 2048)
    return layers | {"head.last_layer.weight_g": zeros(65536, 1), "head.last_layer.weight_v": zeros(65536, 256)}


def _dino(student, teacher):
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": optimizer(),
        "epoch": 800,
        "args": argparse.Namespace(arch="resnet50", out_dim=60000, global_crops_scale=(0.14, 1.0)),
        "dino_loss": {"center": zeros(1, 60000)},
    }


@sample
def dino(first, second):
    """Both networks wrapped: the teacher is too where it has batch norms."""
    head = _dino_head(width(first))
    student = under("module.", under("backbone.", second) | head)
    content = _dino(student, under("module.", under("backbone.", first) | head))
    content["fp16_scaler"] = {"scale": 65536.0, "_growth_tracker": 0}
    return Sample(
        family="dino",
        content=content,
        networks={"teacher": first, "student": second},
        dropped=("head.mlp.0.", "optimizer", "dino_loss", "args", "fp16_scaler"),
    )


@sample
def dino_unwrapped_teacher(first, second):
    head = _dino_head(width(first))
    content = _dino(under("module.", under("backbone.", second) | head), under("backbone.", first) | head)
    return Sample(
        family="dino", content=content, networks={"teacher": first, "student": second}, dropped=("head.mlp.0.",)
    )


@sample
def dino_backbone(first, second):
    """dino_resnet50_pretrain.pth: the teacher's backbone, bare."""
    return Sample(family="torchvision", content=OrderedDict(first), networks={"model": first})


# facebookresearch/VICRegL: main_vicregl.py, utils.py (checkpoint)


def _vicregl(first, local, whole):
    d = width(first)
    state = under("backbone.", first) | linear("classifier", 1000, d)
    state |= mlp("maps_projector", d, 512, 512, 512, bias=True) if local else {}
    state |= mlp("projector", d, 8192, 8192, 8192, bias=True) if whole else {}
    content = {"epoch": 299, "model": under("module.", state), "optimizer": optimizer()}
    heads = ["maps_projector."] * local + ["projector."] * whole
    return Sample(
        family="vicregl", content=content, networks={"backbone": first}, dropped=("classifier.weight", *heads)
    )


@sample
def vicregl(first, second):
    return _vicregl(first, True, True)


@sample
def vicregl_local_alone(first, second):
    """--alpha 0 makes no projector."""
    return _vicregl(first, True, False)


@sample
def vicregl_whole_alone(first, second):
    """--alpha 1 makes no maps_projector."""
    return _vicregl(first, False, True)


# facebookresearch/suncet: src/paws_train.py (save_dict, init_model), src/suncet_train.py


def _paws(first, predicts):
    d = width(first)
    state = first | linear("fc.fc1", d, d) | norm("fc.bn1", d) | linear("fc.fc2", d, d) | norm("fc.bn2", d)
    state |= linear("fc.fc3", 128, d)
    if predicts:
        state |= (
            norm("pred.bn1", 128) | linear("pred.fc1", 32, 128) | norm("pred.bn2", 32) | linear("pred.fc2", 128, 32)
        )
    content = {
        "encoder": under("module.", state),
        "opt": optimizer(),
        "epoch": 100,
        "unlabel_prob": 0.9,
        "loss": 1.5,
        "s_batch_size": 6720,
        "u_batch_size": 64,
        "world_size": 64,
        "lr": 6.4,
        "temperature": 0.1,
        "amp": {"scale": 65536.0},
    }
    heads = ("fc.fc1.", "fc.bn2.", *(["pred.bn1.", "pred.fc2."] if predicts else []))
    return Sample(family="paws", content=content, networks={"encoder": first}, dropped=(*heads, "opt", "temperature"))


@sample
def paws(first, second):
    return _paws(first, True)


@sample
def suncet(first, second):
    """use_pred_head false, as SuNCEt's configs have it."""
    return _paws(first, False)
