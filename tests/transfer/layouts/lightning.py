"""solo-learn and lightly, wrapped by pytorch_lightning."""

import torch

from tests.transfer.layouts.parts import Sample, lightning, linear, mlp, sample, under, width, zeros

# vturrisi/solo-learn: solo/methods/base.py, solo/methods/{simclr,mocov2plus,byol,dino}.py


@sample
def solo_learn_simclr(first, second):
    d = width(first)
    state = under("backbone.", first) | linear("classifier", 100, d)
    state |= linear("projector.0", 2048, d) | linear("projector.2", 128, 2048)
    content = lightning(state, hparams_name="kwargs", hyper_parameters={"backbone": "resnet50", "num_classes": 100})
    return Sample(
        family="solo-learn", content=content, networks={"online": first}, dropped=("classifier.", "projector.")
    )


@sample
def solo_learn_moco(first, second):
    """A momentum method; newer releases keep an OmegaConf node in hyper_parameters."""
    from omegaconf import OmegaConf

    d = width(first)
    state = under("backbone.", first) | linear("classifier", 100, d) | linear("projector.0", 2048, d)
    state |= under("momentum_backbone.", second) | linear("momentum_projector.0", 2048, d)
    state |= {"queue": zeros(2, 256, 65536), "queue_ptr": zeros(1, dtype=torch.int64)}
    state |= linear("momentum_classifier", 100, d)
    cfg = OmegaConf.create({"method": "mocov2plus", "data": {"num_classes": 100}, "optimizer": {"lr": [0.3, 0.4]}})
    return Sample(
        family="solo-learn",
        content=lightning(state, hyper_parameters={"cfg": cfg}),
        networks={"online": first, "momentum": second},
        dropped=("classifier.", "projector.", "momentum_projector.", "momentum_classifier.", "queue"),
    )


@sample
def solo_learn_old(first, second):
    """Releases before the encoder was called backbone (downstream/object_detection/convert_model_to_detectron2.py)."""
    d = width(first)
    state = under("encoder.", first) | linear("classifier", 100, d) | mlp("projector", d, 2048, 256)
    state |= under("momentum_encoder.", second) | mlp("momentum_projector", d, 2048, 256)
    return Sample(
        family="solo-learn",
        content=lightning(state, hyper_parameters={"encoder": "resnet50"}),
        networks={"online": first, "momentum": second},
        dropped=("classifier.", "projector."),
    )


# lightly-ai/lightly: benchmarks/imagenet/resnet50/*.py, lightly/models/modules/heads.py


def _lightly(state, **more):
    hyper = {"batch_size_per_device": 128, "num_classes": 1000}
    return lightning(state, hparams_name="kwargs", hyper_parameters=hyper, **more)


def _heads(name, d):
    return mlp(f"{name}.layers", d, 2048, 128)


@sample
def lightly_simclr(first, second):
    d = width(first)
    state = under("backbone.", first) | _heads("projection_head", d) | linear("online_classifier.linear", 1000, d)
    return Sample(
        family="lightly",
        content=_lightly(state),
        networks={"backbone": first},
        dropped=("projection_head.", "online_classifier."),
    )


@sample
def lightly_moco(first, second):
    d = width(first)
    state = under("backbone.", first) | _heads("projection_head", d)
    state |= under("key_backbone.", second) | _heads("key_projection_head", d)
    state |= {"criterion.memory_bank.bank": zeros(65536, 128)}
    state |= {"criterion.memory_bank.bank_ptr": zeros(1, dtype=torch.int64)}
    state |= linear("online_classifier.linear", 1000, d)
    return Sample(
        family="lightly",
        content=_lightly(state),
        networks={"query": first, "key": second},
        dropped=("projection_head.", "key_projection_head.", "criterion.memory_bank.bank"),
    )


@sample
def lightly_moco_inverted(first, second):
    """Earlier mocov2.py: ``backbone`` is the momentum encoder, the trained one is ``query_backbone``."""
    d = width(first)
    state = under("backbone.", first) | _heads("projection_head", d)
    state |= under("query_backbone.", second) | _heads("query_projection_head", d)
    return Sample(
        family="lightly",
        content=_lightly(state),
        networks={"key": first, "query": second},
        dropped=("query_projection_head.",),
    )


@sample
def lightly_byol(first, second):
    d = width(first)
    state = under("backbone.", first) | _heads("projection_head", d) | _heads("prediction_head", 256)
    state |= under("teacher_backbone.", second) | _heads("teacher_projection_head", d)
    return Sample(
        family="lightly",
        content=_lightly(state),
        networks={"online": first, "teacher": second},
        dropped=("prediction_head.", "teacher_projection_head."),
    )


@sample
def lightly_dino(first, second):
    """Inverted: ``backbone`` is the averaged teacher, the trained one is ``student_backbone``."""
    d = width(first)
    head = mlp("layers", d, 2048, 256, bias=True, last_bias=True) | {
        "last_layer.parametrizations.weight.original0": zeros(65536, 1),
        "last_layer.parametrizations.weight.original1": zeros(65536, 256),
    }
    state = under("backbone.", first) | under("projection_head.", head)
    state |= under("student_backbone.", second) | under("student_projection_head.", head)
    state |= {"criterion.center": zeros(1, 1, 65536)} | linear("online_classifier.linear", 1000, d)
    return Sample(
        family="lightly",
        content=_lightly(state),
        networks={"teacher": first, "student": second},
        dropped=("projection_head.", "student_projection_head.", "criterion.center"),
    )


@sample
def lightly_swav(first, second):
    d = width(first)
    state = under("backbone.", first) | _heads("projection_head", d) | linear("prototypes.heads.0", 3000, 128, False)
    state |= {f"queues.{n}.bank": zeros(3840, 128) for n in (0, 1)}
    return Sample(
        family="lightly", content=_lightly(state), networks={"backbone": first}, dropped=("prototypes.", "queues.")
    )
