"""PyContrast, MoCo, InfoCL, SimCLR, PixPro, MSF and SlotCon."""

import argparse
from collections import OrderedDict

import torch

from tests.transfer.layouts.parts import UNIT, Sample, linear, mlp, norm, optimizer, sample, under, width, zeros

# HobbitLong/PyContrast: learning/contrast_trainer.py (save), networks/build_backbone.py, networks/util.py


def _pycontrast(state, jigsaw):
    d = width(state)
    head = linear("head.0", d, d) | linear("head.2", 128, d)
    jig = linear("head_jig.fc1.0", d, d) | linear("head_jig.fc1.2", 128, d) | linear("head_jig.fc2", 128, 1152)
    return under("encoder.", state) | head | (jig if jigsaw else {})


@sample
def pycontrast_memory(first, second):
    """InsDis, PIRL: one network and a memory bank."""
    content = {
        "model": under("module.", _pycontrast(first, jigsaw=True)),
        "contrast": {"params": zeros(6), "memory": zeros(1000, 128)},
        "optimizer": optimizer(),
        "epoch": 200,
    }
    return Sample(
        family="pycontrast", content=content, networks={"query": first}, dropped=("head.0.", "head_jig.", "contrast")
    )


@sample
def pycontrast_moco(first, second):
    """MoCo, InfoMin with apex: the momentum encoder is not wrapped."""
    content = {
        "model": under("module.", _pycontrast(first, jigsaw=False)),
        "contrast": {"memory": zeros(65536, 128), "index": zeros(1)},
        "optimizer": optimizer(),
        "epoch": 800,
        "model_ema": _pycontrast(second, jigsaw=False),
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 12}},
    }
    return Sample(
        family="pycontrast", content=content, networks={"query": first, "ema": second}, dropped=("head.", "amp")
    )


@sample
def pycontrast_released(first, second):
    """As linusericsson/ssl-transfer:download_and_prepare_models.py reads the released InfoMin, InsDis and PIRL."""
    d = width(first)
    state = under("encoder.", first) | linear("linear.0", 128, d) | linear("jigsaw.fc1", 128, d)
    return Sample(
        family="pycontrast",
        content={"opt": argparse.Namespace(head="mlp"), "model": under("module.", state), "epoch": 200},
        networks={"query": first},
        dropped=("linear.", "jigsaw."),
    )


# facebookresearch/moco: main_moco.py, moco/builder.py; moco-v3: moco/builder.py, main_moco.py


def _moco(first, second, heads):
    q, k = ({f"fc.{n}" if n else "fc": size for n, size in heads.items()} for _ in range(2))
    state = under("encoder_q.", first)
    for name, (out, into) in q.items():
        state |= linear(f"encoder_q.{name}", out, into)
    state |= under("encoder_k.", second)
    for name, (out, into) in k.items():
        state |= linear(f"encoder_k.{name}", out, into)
    return state | {"queue": zeros(128, 65536), "queue_ptr": zeros(1, dtype=torch.int64)}


@sample
def moco_v1(first, second):
    state = _moco(first, second, {"": (128, width(first))})
    content = {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": under("module.", state),
        "optimizer": optimizer(),
    }
    return Sample(
        family="moco",
        content=content,
        networks={"query": first, "key": second},
        dropped=("encoder_q.fc.weight", "encoder_k.fc.bias", "queue", "queue_ptr", "optimizer"),
    )


@sample
def moco_v2_released(first, second):
    """The released files have the query encoder only and no optimiser (facebookresearch/moco#27)."""
    d = width(first)
    state = under("encoder_q.", first) | linear("encoder_q.fc.0", d, d) | linear("encoder_q.fc.2", 128, d)
    content = {"epoch": 800, "arch": "resnet50", "state_dict": under("module.", state)}
    return Sample(
        family="moco", content=content, networks={"query": first}, dropped=("encoder_q.fc.0.", "encoder_q.fc.2.")
    )


@sample
def moco_v3(first, second):
    d = width(first)
    state = under("base_encoder.", first) | mlp("base_encoder.fc", d, 4096, 256, last_norm=True)
    state |= under("momentum_encoder.", second) | mlp("momentum_encoder.fc", d, 4096, 256, last_norm=True)
    state |= mlp("predictor", 256, 4096, 256, last_norm=True)
    content = {
        "epoch": 300,
        "arch": "resnet50",
        "state_dict": under("module.", state),
        "optimizer": optimizer(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "_growth_tracker": 3},
    }
    return Sample(
        family="moco-v3",
        content=content,
        networks={"base": first, "momentum": second},
        dropped=("base_encoder.fc.0.", "momentum_encoder.fc.", "predictor.", "scaler"),
    )


# Haoqing-Wang/InfoCL: SimCLR/modules/simclr.py, BYOL/modules/byol.py, modules/resnet_imagenet.py, model.py


def _infocl(state):
    names = {name: name.replace(".downsample.0.", ".ds_conv1.").replace(".downsample.1.", ".ds_bn1.") for name in state}
    return OrderedDict(("encoder." + names[name], value) for name, value in state.items())


@sample
def infocl_simclr(first, second):
    d = width(first)
    content = _infocl(first) | linear("projector.0", d, d) | linear("projector.2", 128, d)
    return Sample(family="infocl", content=content, networks={"encoder": first}, dropped=("projector.",))


@sample
def infocl_byol(first, second):
    """The online network only, as BYOL/main.py saves it."""
    d = width(first)
    content = _infocl(first) | mlp("projector", d, 4096, 128, bias=True, last_bias=True)
    content |= mlp("predictor", 128, 4096, 128, bias=True, last_bias=True)
    return Sample(family="infocl", content=content, networks={"encoder": first}, dropped=("projector.", "predictor."))


# SimCLR in torch: Separius/SimCLRv2-Pytorch:convert.py, resnet.py; sthalles/SimCLR:simclr.py, models/resnet_simclr.py;
#     Spijkervet/SimCLR:simclr/simclr.py. None of them normalises its input.


def _simclr_v2_name(name):
    if not name.startswith("layer"):
        return name.replace("conv1.", "net.0.0.").replace("bn1.", "net.0.1.0.")
    stage, block, module, *tensor = name.removeprefix("layer").split(".")
    if module == "downsample":
        return f"net.{stage}.blocks.{block}.projection.{('shortcut', 'bn.0')[int(tensor[0])]}.{tensor[1]}"
    index = 2 * int(module[-1]) - 2
    return (
        f"net.{stage}.blocks.{block}.net."
        + (f"{index}" if module[:-1] == "conv" else f"{index + 1}.0")
        + f".{tensor[0]}"
    )


@sample
def simclr_v2_converted(first, second):
    """r50_1x_sk0.pth of the converter from TensorFlow."""
    state = OrderedDict((_simclr_v2_name(name), value) for name, value in first.items()) | linear("fc", 1000, 2048)
    head = linear("layers.0", 2048, 2048, False) | norm("layers.1", 2048)
    return Sample(
        family="simclr",
        content={"resnet": state, "head": head},
        networks={"resnet": first},
        dropped=("head", "fc."),
        pixels=UNIT,
    )


@sample
def simclr_sthalles(first, second):
    d = width(first)
    state = under("backbone.", first) | linear("backbone.fc.0", d, d) | linear("backbone.fc.2", 128, d)
    content = {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer()}
    return Sample(
        family="simclr", content=content, networks={"backbone": first}, dropped=("backbone.fc.0.",), pixels=UNIT
    )


@sample
def simclr_spijkervet(first, second):
    d = width(first)
    content = under("encoder.", first) | linear("projector.0", d, d, False) | linear("projector.2", 64, d, False)
    return Sample(family="simclr", content=content, networks={"encoder": first}, dropped=("projector.",), pixels=UNIT)


# zdaxie/PixPro: main_pretrain.py (save_checkpoint), contrast/models/PixPro.py


@sample
def pixpro(first, second):
    d = width(first)
    head = {"linear1.weight": zeros(4096, d, 1, 1), "linear1.bias": zeros(4096)} | norm("bn1", 4096)
    head |= {"linear2.weight": zeros(256, 4096, 1, 1), "linear2.bias": zeros(256)}
    state = under("encoder.", first) | under("projector.", head) | under("encoder_k.", second)
    state |= under("projector_k.", head) | {"value_transform.weight": zeros(256, 256, 1, 1)}
    content = {
        "opt": argparse.Namespace(arch="resnet50", model="PixPro", amp_opt_level="O1"),
        "model": under("module.", state),
        "optimizer": optimizer(),
        "scheduler": {"multiplier": 1, "after_scheduler": {"T_max": 1, "_last_lr": [0.1]}},
        "epoch": 400,
    }
    return Sample(
        family="pixpro",
        content=content,
        networks={"encoder": first, "momentum": second},
        dropped=("projector.", "projector_k.", "value_transform.", "scheduler"),
    )


# UMBCvision/MSF: train_msf.py (MeanShift, data_parallel, state)


@sample
def msf(first, second):
    """Each part is wrapped by itself."""
    d = width(first)
    head = linear("0", 2 * d, d) | norm("1", 2 * d) | linear("3", d // 4, 2 * d)
    state = under("encoder_q.module.", first | under("fc.", head))
    state |= under("encoder_t.module.", second | under("fc.", head)) | under("predict_q.module.", head)
    state |= {"queue": zeros(128000, d // 4), "labels": zeros(128000, dtype=torch.int64)}
    state |= {"queue_ptr": zeros(1, dtype=torch.int64)}
    content = {"opt": argparse.Namespace(arch="resnet50"), "state_dict": state, "optimizer": optimizer(), "epoch": 200}
    return Sample(
        family="msf",
        content=content,
        networks={"query": first, "target": second},
        dropped=("encoder_q.fc.0.", "predict_q.3.", "queue", "labels", "opt"),
    )


# CVMI-Lab/SlotCon: main_pretrain.py (save_checkpoint), models/slotcon.py; its own conversion takes encoder_k


@sample
def slotcon(first, second):
    d = width(first)
    head = {"mlp.0.weight": zeros(4096, d, 1, 1), "mlp.0.bias": zeros(4096)} | norm("mlp.1", 4096)
    head |= {"mlp.3.weight": zeros(256, 4096, 1, 1), "mlp.3.bias": zeros(256)}
    state = under("encoder_q.", second) | under("encoder_k.", first)
    state |= under("projector_q.", head) | under("projector_k.", head) | {"center": zeros(1, 2048)}
    state |= {f"grouping_{one}.slot_embed.weight": zeros(2048, 256) for one in "qk"}
    state |= linear("predictor_slot.mlp.0", 4096, 256) | linear("predictor_slot.mlp.3", 256, 4096)
    content = {
        "args": argparse.Namespace(arch="resnet50", num_prototypes=2048),
        "model": under("module.", state),
        "optimizer": optimizer(),
        "scheduler": {"multiplier": 1, "after_scheduler": {"_last_lr": [0.1]}},
        "epoch": 200,
    }
    return Sample(
        family="slotcon",
        content=content,
        networks={"momentum": first, "encoder": second},
        dropped=("projector_q.mlp.0.", "center", "grouping_k.", "predictor_slot.", "scheduler"),
    )
