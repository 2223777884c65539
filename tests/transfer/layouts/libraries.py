"""OpenMMLab's libraries, timm and transformers."""

import argparse
import re
from collections import OrderedDict

import torch

from tests.transfer.layouts.parts import Sample, linear, norm, optimizer, sample, under, width, zeros

# WXinlong/DenseCL and open-mmlab: OpenSelfSup, mmselfsup (models/algorithms), mmpretrain (models/selfsup)


@sample
def densecl(first, second):
    """``backbone`` is the query encoder's once more (openselfsup/models/densecl.py)."""
    d = width(first)
    neck = linear("mlp.0", 2048, d) | linear("mlp.2", 128, 2048)
    state = under("encoder_q.0.", first) | under("encoder_q.1.", neck)
    state |= under("encoder_k.0.", second) | under("encoder_k.1.", neck) | under("backbone.", first)
    state |= {"queue": zeros(128, 65536), "queue_ptr": zeros(1, dtype=torch.int64)}
    state |= {"queue2": zeros(128, 65536), "queue2_ptr": zeros(1, dtype=torch.int64)}
    content = {
        "meta": {"openselfsup_version": "0.2.0", "config": "model = dict()", "epoch": 200, "iter": 1, "time": "now"},
        "state_dict": state,
        "optimizer": optimizer(),
    }
    return Sample(
        family="openmmlab",
        content=content,
        networks={"online": first, "momentum": second},
        dropped=("encoder_q.0.", "encoder_k.1.", "queue2"),
    )


@sample
def densecl_extracted(first, second):
    """After extract_backbone_weights.py: torchvision's names beside the author's."""
    content = {"state_dict": dict(first), "author": "DenseCL"}
    return Sample(family="torchvision", content=content, networks={"model": first}, dropped=("author",))


@sample
def mmselfsup_byol(first, second):
    d = width(first)
    neck = linear("fc0", 4096, d) | norm("bn0", 4096) | linear("fc1", 256, 4096)
    state = under("online_net.0.", first) | under("online_net.1.", neck)
    state |= under("target_net.0.", second) | under("target_net.1.", neck) | under("backbone.", first)
    state |= under("neck.", neck) | under("head.predictor.", neck)
    content = {"meta": {"mmselfsup_version": "0.9.1", "epoch": 200}, "state_dict": state, "optimizer": optimizer()}
    return Sample(
        family="openmmlab",
        content=content,
        networks={"online": first, "momentum": second},
        dropped=("online_net.1.", "head.predictor.", "neck."),
    )


@sample
def mmpretrain_byol(first, second):
    """The target is an averaged model of mmengine (mmpretrain/models/selfsup/byol.py)."""
    d = width(first)
    neck = linear("fc0", 4096, d) | norm("bn0", 4096) | linear("fc1", 256, 4096)
    state = {"data_preprocessor.mean": zeros(3, 1, 1), "data_preprocessor.std": zeros(3, 1, 1)}
    state |= under("backbone.", first) | under("neck.", neck) | under("head.predictor.", neck)
    state |= {"target_net.steps": zeros(dtype=torch.int64)}
    state |= under("target_net.module.0.", second) | under("target_net.module.1.", neck)
    content = {
        "meta": {"epoch": 200, "experiment_name": "byol", "dataset_meta": {}, "seed": 0},
        "state_dict": state,
        "message_hub": {"log_scalars": {}, "runtime_info": {"epoch": 199}, "resumed_keys": {}},
        "optimizer": optimizer(),
        "param_schedulers": [{"last_step": 200}],
    }
    return Sample(
        family="openmmlab",
        content=content,
        networks={"online": first, "momentum": second},
        dropped=("neck.", "head.predictor.", "target_net.steps", "target_net.1.", "data_preprocessor."),
    )


# rwightman/pytorch-image-models: timm/utils/checkpoint_saver.py


@sample
def timm_training(first, second):
    """checkpoint-N.pth.tar of timm's train.py with averaging: timm itself loads the average where there is one."""
    content = {
        "epoch": 99,
        "arch": "resnet50",
        "state_dict": second | linear("fc", 1000, width(first)),
        "optimizer": optimizer(),
        "version": 2,
        "args": argparse.Namespace(model="resnet50", mean=None, std=None),
        "amp_scaler": {"scale": 65536.0},
        "state_dict_ema": first | linear("fc", 1000, width(first)),
        "metric": 78.1,
    }
    return Sample(
        family="timm",
        content=content,
        networks={"ema": first, "model": second},
        dropped=("fc.weight", "optimizer", "args", "metric"),
    )


@sample
def timm_bare(first, second):
    """resnet50 of timm has torchvision's names."""
    content = OrderedDict(first) | linear("fc", 1000, width(first))
    return Sample(family="torchvision", content=content, networks={"model": first}, dropped=("fc.weight",))


# huggingface/transformers: models/resnet/modeling_resnet.py


def _huggingface_name(name):
    module, _, tensor = name.rpartition(".")
    if not module.startswith("layer"):
        return f"embedder.embedder.{'convolution' if module == 'conv1' else 'normalization'}.{tensor}"
    stage, block, kind, number = re.fullmatch(r"layer(\d)\.(\d+)\.(downsample|conv|bn)\.?(\d)", module).groups()
    if kind == "downsample":
        inner = "shortcut." + ("normalization" if int(number) else "convolution")
    else:
        inner = f"layer.{int(number) - 1}." + ("convolution" if kind == "conv" else "normalization")
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{inner}.{tensor}"


@sample
def huggingface_model(first, second):
    content = OrderedDict((_huggingface_name(name), value) for name, value in first.items())
    return Sample(family="huggingface", content=content, networks={"model": first})


@sample
def huggingface_classifier(first, second):
    content = OrderedDict(("resnet." + _huggingface_name(name), value) for name, value in first.items())
    content |= linear("classifier.1", 1000, width(first))
    return Sample(family="huggingface", content=content, networks={"model": first}, dropped=("classifier.1.",))


# torch: optim/swa_utils.py; microsoft/DeepSpeed: deepspeed/runtime/engine.py; kuangliu/pytorch-cifar: main.py


@sample
def averaged_model(first, second):
    content = {"n_averaged": zeros(dtype=torch.int64)} | under("module.", first | linear("fc", 1000, width(first)))
    return Sample(family="torchvision", content=content, networks={"model": first}, dropped=("n_averaged", "fc.weight"))


@sample
def deepspeed(first, second):
    content = {"module": dict(first), "optimizer": None, "ds_version": "0.12.3", "dp_world_size": 8}
    return Sample(family="torchvision", content=content, networks={"model": first}, dropped=("ds_version",))


@sample
def pytorch_cifar(first, second):
    content = {"net": under("module.", first), "acc": 95.1, "epoch": 199}
    return Sample(family="torchvision", content=content, networks={"model": first}, dropped=("acc", "epoch"))


@sample
def compiled_inside(first, second):
    """torch.compile of the encoders alone, in a wrapped MoCo."""
    state = under("module.encoder_q._orig_mod.", first) | under("module.encoder_k._orig_mod.", second)
    state |= {"module.queue": zeros(128, 8), "module.queue_ptr": zeros(1, dtype=torch.int64)}
    return Sample(
        family="moco",
        content={"state_dict": state},
        networks={"query": first, "key": second},
        dropped=("queue", "queue_ptr"),
    )
