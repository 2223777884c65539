"""The presets: every name that ``python -m pretrain NAME`` knows, as values derived from one another.

demo-… and smoke-… are for the embedded set on a CPU; …-r50-…ep are the published settings for ImageNet on GPUs, with
sources in docs/pretraining.md. A name ends in the batch, …-b4096 or …-b256, where a method has a recipe for each.
``python -m pretrain --help`` lists them.
"""

from __future__ import annotations

from dataclasses import replace

from pretrain.augment.views import VIEWS, ViewsConfig
from pretrain.config import PretrainConfig
from pretrain.methods.barlowtwins import BarlowTwinsConfig
from pretrain.methods.byol import BYOLConfig
from pretrain.methods.byol_superinfo import BYOLSuperInfoConfig
from pretrain.methods.cmc import CMCConfig
from pretrain.methods.cmcv2 import CMCV2Config
from pretrain.methods.infomin import InfoMinConfig
from pretrain.methods.instdis import InstDisConfig
from pretrain.methods.moco import MoCoConfig
from pretrain.methods.mocov2 import MoCoV2Config
from pretrain.methods.mocov2_superinfo import MoCoV2SuperInfoConfig
from pretrain.methods.pirl import PIRLConfig
from pretrain.methods.random import RandomConfig
from pretrain.methods.simclr import SimCLRConfig
from pretrain.methods.simsiam import SimSiamConfig
from pretrain.methods.split_views import SplitViewsConfig
from pretrain.methods.superinfo import SuperInfoConfig
from pretrain.methods.supervised import SupervisedConfig
from pretrain.methods.vicreg import VICRegConfig
from pretrain.methods.view_generator import ViewGeneratorConfig

# Strong colour augmentation, because object colour is the shortcut of the embedded set.
_EMBEDDED_VIEWS = ViewsConfig(
    crop_scale=(0.35, 1.0), brightness=0.6, contrast=0.6, saturation=0.6, hue=0.5, grayscale=0.3, blur=0.0
)
# One process per core, so images are decoded inline.
_DEMO = PretrainConfig(
    method=SimCLRConfig(temperature=0.2),
    image_size=48,
    batch_size=64,
    steps=445,
    optimizer="adamw",
    learning_rate=1e-3,
    lr_scaling="none",
    weight_decay=0.01,
    views=_EMBEDDED_VIEWS,
    crop_backend="pillow",
    workers=0,
)
# κb = 1/τ and d as SimCLR's here, so that the deterministic switch gives the SimCLR row. λ: docs/demo.md.
_DEMO_SUPERINFO = SuperInfoConfig(dim=128, kappa_b=5.0, lambda_a=0.01, lambda_b=0.01)
# Queue: four batches, full before the rate has risen (against 16 batches of random first keys the queries learnt to be
# all alike), and a key encoder that in 445 steps can follow. Bank: about a third of the images.
# Where the split of the channels makes the views, augmentation leaves the colours alone.
_CROPS = ViewsConfig(
    crop_scale=(0.35, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grayscale=0.0, blur=0.0
)
_NO_GRAYSCALE = replace(_EMBEDDED_VIEWS, grayscale=0.0)
_DEMO_BOUNDED = replace(_DEMO_SUPERINFO, parameterisation="bounded", lambda_a=1e-4, lambda_b=1e-4)
# κe 1024, κb 10, d 256, β = 1 from the first step; the head of its run.py.
_C_SIMCLR = SuperInfoConfig(lambda_a=0.5, lambda_b=0.5, lambda_warmup=0.0, hidden_dim=4096, output_norm=False)

PRESETS: dict[str, PretrainConfig] = {
    "demo-superinfo": replace(_DEMO, method=_DEMO_SUPERINFO),
    "demo-superinfo-bounded": replace(_DEMO, method=_DEMO_BOUNDED),
    "demo-csimclr": replace(_DEMO, method=_C_SIMCLR),
    "demo-simclr": _DEMO,
    "demo-supervised": replace(_DEMO, method=SupervisedConfig(), steps=250),
    "demo-random": replace(_DEMO, method=RandomConfig(), steps=0, zero_init_residual=False),
    "demo-instdis": replace(_DEMO, method=InstDisConfig(negatives=1024, temperature=0.2)),
    "demo-moco": replace(_DEMO, method=MoCoConfig(queue=256, momentum=0.99, temperature=0.2)),
    "demo-mocov2": replace(_DEMO, method=MoCoV2Config(queue=256, momentum=0.99)),
    "demo-mocov2-superinfo": replace(
        _DEMO,
        method=MoCoV2SuperInfoConfig(dim=128, kappa_b=5.0, lambda_a=0.1, lambda_b=0.1, queue=256, momentum=0.99),
    ),
    "demo-pirl": replace(_DEMO, method=PIRLConfig(negatives=1024, temperature=0.2)),
    "demo-cmc": replace(_DEMO, method=CMCConfig(negatives=1024, temperature=0.2), views=_NO_GRAYSCALE),
    "demo-view-generator": replace(_DEMO, method=ViewGeneratorConfig(temperature=0.2), views=_CROPS),
    "demo-split-views": replace(_DEMO, method=SplitViewsConfig(negatives=1024, temperature=0.2), views=_CROPS),
    # At 1e-3 its embeddings collapse.
    "demo-cmcv2": replace(_DEMO, method=CMCV2Config(queue=256, momentum=0.99), views=_NO_GRAYSCALE, learning_rate=3e-4),
    "demo-infomin": replace(
        _DEMO, method=InfoMinConfig(queue=256, momentum=0.99), views=replace(_EMBEDDED_VIEWS, rand_augment=2)
    ),
    "demo-byol": replace(
        _DEMO,
        method=BYOLConfig(dim=128, hidden_dim=512, target_momentum=0.97),
        views2=replace(_EMBEDDED_VIEWS, solarize=0.2),
    ),
    "demo-byol-superinfo": replace(
        _DEMO,
        method=BYOLSuperInfoConfig(dim=128, hidden_dim=512, target_momentum=0.97, lambda_a=0.01, lambda_b=0.01),
        views2=replace(_EMBEDDED_VIEWS, solarize=0.2),
    ),
    "demo-simsiam": replace(_DEMO, method=SimSiamConfig(dim=512, hidden_dim=512, predictor_dim=128)),
    "demo-barlowtwins": replace(_DEMO, method=BarlowTwinsConfig(dim=512, hidden_dim=512)),
    "demo-vicreg": replace(_DEMO, method=VICRegConfig(dim=512, hidden_dim=512)),
}
PRESETS |= {
    name.replace("demo", "smoke"): replace(demo, steps=min(demo.steps, 10), batch_size=32)
    for name, demo in PRESETS.items()
    if demo.steps is not None
}

# PyContrast's, for its whole family: batch 256, SGD 0.03, a tenth at epochs 120 and 160 of 200; crops of its queues.
_PYCONTRAST = PretrainConfig(
    method=MoCoConfig(),
    zero_init_residual=False,
    optimizer="sgd",
    learning_rate=0.03,
    weight_decay=1e-4,
    warmup=0.0,
    schedule="steps",
    views=VIEWS["A"],
)
_MOCOV2 = replace(_PYCONTRAST, method=MoCoV2Config(), schedule="cosine", views=VIEWS["B"])
_INFOMIN = replace(_PYCONTRAST, method=InfoMinConfig(), schedule="cosine", views=VIEWS["D"])
_BANK_VIEWS = replace(VIEWS["A"], crop_scale=(0.08, 1.0))
# SimCLR, C-SimCLR and C-BYOL add up the losses of both directions, ours is the mean: LARS evens that out for weights
# alone.
_SUM_OF_DIRECTIONS = 2.0
# The paper's, for batch 4,096: 0.3·B/256 and weight decay 1e-6 (arXiv 2002.05709, section 2.3). For small batches the
# README of google-research/simclr recommends 0.075·√B, in a command with weight decay 1e-4.
_SIMCLR = PretrainConfig(
    method=SimCLRConfig(), batch_size=4096, bias_lr_ratio=_SUM_OF_DIRECTIONS, views=VIEWS["simclr"]
)
_SIMCLR_SMALL = replace(_SIMCLR, batch_size=256, learning_rate=0.075, lr_scaling="sqrt", weight_decay=1e-4)
_BYOL = PretrainConfig(
    method=BYOLConfig(),
    batch_size=4096,
    epochs=300,
    warmup=10 / 300,
    views=VIEWS["byol1"],
    views2=VIEWS["byol2"],
)
# scripts/cbyol.sh of google-research/compressive-visual-representations: byol_loss_weight 5 is κd 10, β = 1 is λ 0.5.
_C_BYOL_METHOD = BYOLSuperInfoConfig(lambda_a=0.5, lambda_b=0.5, lambda_warmup=0.0, kappa_d=10.0)
_C_BYOL = replace(
    _BYOL,
    method=_C_BYOL_METHOD,
    learning_rate=0.35,
    bias_lr_ratio=_SUM_OF_DIRECTIONS,
)
_VICREG = replace(_BYOL, method=VICRegConfig(), batch_size=2048, epochs=1000, warmup=10 / 1000, learning_rate=0.2)
# 0.0048 beside the weights' 0.2, for a gradient that its code divides by its 16 GPUs: docs/pretraining.md.
_BARLOW_TWINS = replace(_VICREG, method=BarlowTwinsConfig(), bias_lr_ratio=0.0048 / 0.2 / 16)

# SuperInfo is SimCLR's recipe with C-SimCLR's κe 1024, κb 10, d 256, β = 1, which is λ 0.5.
PRESETS |= {
    f"{method}-r50-{epochs}ep-b{recipe.batch_size}": replace(recipe, method=config, epochs=epochs, warmup=10 / epochs)
    for method, config in (("superinfo", SuperInfoConfig()), ("simclr", SimCLRConfig()))
    for recipe in (_SIMCLR, _SIMCLR_SMALL)
    for epochs in (100, 200, 800)
}
PRESETS |= {
    # google-research/compressive-visual-representations scripts/csimclr.sh and, for all else, the defaults of run.py.
    "csimclr-r50-300ep": replace(_BYOL, method=_C_SIMCLR, bias_lr_ratio=_SUM_OF_DIRECTIONS),
    "instdis-r50-200ep": replace(_PYCONTRAST, method=InstDisConfig(), views=_BANK_VIEWS),
    "moco-r50-200ep": _PYCONTRAST,
    "mocov2-r50-200ep": _MOCOV2,
    "mocov2-r50-800ep": replace(_MOCOV2, epochs=800),
    "mocov2-superinfo-r50-200ep": replace(_MOCOV2, method=MoCoV2SuperInfoConfig()),
    "pirl-r50-200ep": replace(_PYCONTRAST, method=PIRLConfig(), views=_BANK_VIEWS),
    "cmc-r50-200ep": replace(_PYCONTRAST, method=CMCConfig(), views=VIEWS["C"]),
    "cmcv2-r50-200ep": replace(_PYCONTRAST, method=CMCV2Config(), schedule="cosine", views=VIEWS["E"]),
    "infomin-r50-100ep": replace(_INFOMIN, epochs=100),
    "infomin-r50-200ep": _INFOMIN,
    "infomin-r50-800ep": replace(_INFOMIN, epochs=800),
    "byol-r50-300ep": _BYOL,
    "byol-r50-1000ep": replace(
        _BYOL,
        method=BYOLConfig(target_momentum=0.996),
        epochs=1000,
        warmup=10 / 1000,
        learning_rate=0.2,
        weight_decay=1.5e-6,
    ),
    "cbyol-r50-300ep": _C_BYOL,
    "cbyol-r50-1000ep": replace(
        _C_BYOL,
        method=replace(_C_BYOL_METHOD, kappa_d=4.0, target_momentum=0.996),
        epochs=1000,
        warmup=10 / 1000,
        learning_rate=0.25,
        weight_decay=1.5e-6,
    ),
    # The command in the README of facebookresearch/simsiam, with --fix-pred-lr.
    "simsiam-r50-100ep": replace(
        _MOCOV2,
        method=SimSiamConfig(),
        zero_init_residual=True,
        batch_size=512,
        epochs=100,
        learning_rate=0.05,
        fixed_lr_modules=("predictor",),
    ),
    "barlowtwins-r50-1000ep": _BARLOW_TWINS,
    "vicreg-r50-1000ep": _VICREG,
    # torchvision's references/classification: SGD 0.1, a tenth every 30 of 90 epochs, crop and flip alone.
    "supervised-r50-90ep": replace(
        _PYCONTRAST,
        method=SupervisedConfig(),
        epochs=90,
        learning_rate=0.1,
        lr_drops=(1 / 3, 2 / 3),
        views=ViewsConfig(jitter=0.0, grayscale=0.0, blur=0.0),
    ),
}


def register(name: str, config: PretrainConfig) -> None:
    """Add a preset from outside the project. ValueError for a name that is taken and for no PretrainConfig."""
    if not isinstance(config, PretrainConfig):
        raise ValueError(f"preset {name}: {config!r} is not a PretrainConfig")
    if name in PRESETS:
        raise ValueError(f"preset {name}: the name is registered already")
    PRESETS[name] = config
