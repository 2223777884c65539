"""The presets: every name that ``python -m pretrain NAME`` knows, as values derived from one another.

``python -m pretrain --help`` lists them.
"""

from __future__ import annotations

from dataclasses import replace

from pretrain.config import PretrainConfig
from pretrain.methods import RandomConfig, SimCLRConfig, SuperInfoConfig, SupervisedConfig
from pretrain.views import ViewsConfig

# Strong colour augmentation, because object colour is the shortcut of the embedded set.
_EMBEDDED_VIEWS = ViewsConfig(
    crop_scale=(0.35, 1.0), brightness=0.6, contrast=0.6, saturation=0.6, hue=0.5, grey=0.3, blur=0.0
)
# One process a core, so images are decoded inline.
_DEMO = PretrainConfig(
    method=SimCLRConfig(temperature=0.2),
    image_size=48,
    batch_size=64,
    steps=445,
    optimizer="adamw",
    learning_rate=1e-3,
    lr_batch=None,
    weight_decay=0.01,
    views=_EMBEDDED_VIEWS,
    reader="pillow",
    workers=0,
)
# κb = 1/τ and d as SimCLR's here, so that the deterministic switch gives the SimCLR row. λ: docs/demo.md.
_DEMO_SUPERINFO = SuperInfoConfig(dim=128, kappa_b=5.0, lambda_a=0.01, lambda_b=0.01)
_DEMO_BOUNDED = replace(_DEMO_SUPERINFO, parameterisation="bounded", lambda_a=1e-3, lambda_b=1e-3)
_C_SIMCLR = SuperInfoConfig(lambda_warmup=0.0)  # κe 1024, κb 10, d 256, λ 1 from the first step

PRESETS: dict[str, PretrainConfig] = {
    "demo-superinfo": replace(_DEMO, method=_DEMO_SUPERINFO),
    "demo-superinfo-bounded": replace(_DEMO, method=_DEMO_BOUNDED),
    "demo-csimclr": replace(_DEMO, method=_C_SIMCLR),
    "demo-simclr": _DEMO,
    "demo-supervised": replace(_DEMO, method=SupervisedConfig(), steps=250),
    "demo-random": replace(_DEMO, method=RandomConfig(), steps=0, zero_init_residual=False),
    # SimCLR's recipe (LARS 0.3·B/256, weight decay 1e-6, 10 epochs of warm-up, full augmentation) with C-SimCLR's
    # κe 1024, κb 10, d 256, λ 1.
    "superinfo-r50-100ep": PretrainConfig(method=SuperInfoConfig(), epochs=100, warmup=10 / 100),
    "superinfo-r50-200ep": PretrainConfig(method=SuperInfoConfig()),
    "superinfo-r50-800ep": PretrainConfig(method=SuperInfoConfig(), epochs=800, warmup=10 / 800),
    # google-research/compressive-visual-representations scripts/csimclr.sh, with our crops and colours.
    "csimclr-r50-300ep": PretrainConfig(method=_C_SIMCLR, batch_size=4096, epochs=300, warmup=10 / 300),
}
PRESETS |= {
    name.replace("demo", "smoke"): replace(demo, steps=min(demo.steps, 10), batch_size=32)
    for name, demo in PRESETS.items()
    if name.startswith("demo") and demo.steps is not None
}
